//! Server-sent events, as a client reads them.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::TestApp;

/// A frame as a client reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// `event:`.
    pub name: String,
    /// `id:`.
    pub id: String,
    /// `data:`.
    pub data: Value,
}

/// An open connection.
pub struct Frames {
    body: Body,
    read: String,
}

impl Frames {
    /// Sends a request.
    ///
    /// # Panics
    /// When the answer is no stream, or may be kept by somebody on the way.
    pub async fn open(test: &TestApp, request: Request<Body>) -> Self {
        let Ok(response) = test.router().oneshot(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
        Self { body: response.into_body(), read: String::new() }
    }

    /// The next frame; `None` at the end. Comments are passed over.
    ///
    /// # Panics
    /// When it is none.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            while let Some((block, rest)) = self.read.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                self.read = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
                };
                if let (Some(name), Some(id), Some(data)) = (field("event"), field("id"), field("data")) {
                    return Some(Frame { name, id, data: serde_json::from_str(&data).expect("JSON") });
                }
            }
            let frame = self.body.frame().await?.expect("readable");
            let Ok(bytes) = frame.into_data() else { continue };
            self.read.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
    }

    /// All the frames that come.
    pub async fn rest(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}
