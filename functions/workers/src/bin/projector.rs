//! The counters that people look at, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("projector", workers::projector)
}
