//! The `providers` group of hooks as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::serve_group(&hooks::SURFACE)
}
