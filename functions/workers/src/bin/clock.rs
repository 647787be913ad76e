//! What time alone makes happen, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("clock", workers::clock)
}
