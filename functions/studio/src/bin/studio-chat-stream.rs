//! The `chat-stream` group of studio as a Lambda function.

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::serve_group(&studio::SURFACE, "chat-stream")
}
