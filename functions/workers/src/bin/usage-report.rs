//! Reporting claimed usage, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("usage-report", workers::usage_report)
}
