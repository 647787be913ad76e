//! Claiming unreported usage, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("usage-batch", workers::usage_batch)
}
