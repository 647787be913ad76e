//! The fan-out of events, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("relay", workers::relay)
}
