//! Claiming unreported usage, as a Lambda function.

use shared::app::aws::Kit;

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker(&const { Kit::of("usage-batch") }, workers::usage_batch)
}
