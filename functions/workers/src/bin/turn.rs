//! Messages of channels, stored, answered and sent, as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::run_worker("turn", workers::turn)
}
