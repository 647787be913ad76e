//! The fan-out of events, as a Lambda function.

use shared::app::aws::Kit;

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker(&const { Kit::of("relay") }, workers::relay)
}
