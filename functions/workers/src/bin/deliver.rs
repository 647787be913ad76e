//! The delivery of webhooks and mail, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("deliver", workers::deliver)
}
