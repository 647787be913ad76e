//! The delivery of webhooks to endpoints that answer slowly, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("deliver-slow", workers::deliver_slow)
}
