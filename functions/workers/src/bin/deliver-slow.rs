//! The delivery of webhooks to endpoints that answer slowly, as a Lambda function.

use shared::app::aws::Kit;

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker(&const { Kit::of("deliver-slow") }, workers::deliver_slow)
}
