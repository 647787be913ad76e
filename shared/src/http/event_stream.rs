//! Answers that come piece by piece, as server-sent events.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt as _};
use schemars::JsonSchema;
use serde::Serialize;

use super::ops::{DocOut, OpDoc};

/// How often a comment is sent when there is nothing else: gateways close a connection on which nothing comes.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A frame of a stream.
#[derive(Debug, Clone)]
pub struct SentFrame<F> {
    /// `event:`.
    pub name: &'static str,
    /// `id:`, which the client sends back as `Last-Event-ID`.
    pub id: String,
    /// `data:`, as JSON on one line.
    pub data: F,
}

/// A stream of frames; `F` documents the data of all of them.
pub struct EventStream<F> {
    events: BoxStream<'static, Result<Event, Infallible>>,
    data: PhantomData<fn() -> F>,
}

impl<F: Serialize> EventStream<F> {
    /// Sends what the stream gives.
    pub fn new(frames: impl Stream<Item = SentFrame<F>> + Send + 'static) -> Self {
        let event = |frame: SentFrame<F>| {
            let event = Event::default().event(frame.name).id(frame.id);
            match event.json_data(&frame.data) {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%error, "a frame does not serialise");
                    Event::default().comment("lost")
                }
            }
        };
        Self { events: frames.map(move |frame| Ok(event(frame))).boxed(), data: PhantomData }
    }
}

impl<F> EventStream<F> {
    fn beating(self, every: Duration) -> Response {
        let stream = Sse::new(self.events).keep_alive(KeepAlive::new().interval(every).text("ping"));
        let mut response = stream.into_response();
        // Neither kept nor changed by anybody on the way, nor held back by a proxy.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

impl<F> IntoResponse for EventStream<F> {
    fn into_response(self) -> Response {
        self.beating(HEARTBEAT)
    }
}

impl<F: JsonSchema> DocOut for EventStream<F> {
    fn document(doc: &mut OpDoc<'_>) {
        doc.ok = Some((200, Some(doc.schemas.answers.subschema_for::<F>()), "text/event-stream"));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_stream_on_which_nothing_comes_has_a_heartbeat() {
        let stream = EventStream::new(stream::pending::<SentFrame<u8>>());
        let mut body = stream.beating(Duration::from_millis(5)).into_body().into_data_stream();
        for _ in 0..3 {
            assert_eq!(body.next().await.unwrap().unwrap(), ": ping\n\n");
        }
    }

    #[tokio::test]
    async fn a_frame_has_a_name_an_id_and_data_on_one_line() {
        let frame = SentFrame { name: "token", id: "5-ab".into(), data: "two\nlines" };
        let mut body = EventStream::new(stream::iter([frame])).into_response().into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "event: token\nid: 5-ab\ndata: \"two\\nlines\"\n\n");
    }
}
