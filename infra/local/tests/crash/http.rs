//! A client that knows as little as possible: one connection a request, from an address of its own, and an answer only
//! when all of it arrived. So a connection that the kill broke is seen as what it is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use shared::kernel::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

/// How long one request may take; the platform's own limit is 29 s.
const TIMEOUT: Duration = Duration::from_secs(35);
/// How long a client repeats a request before the test says that it never ends.
const PATIENCE: Duration = Duration::from_secs(180);

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) bearer: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: "POST", path: path.into(), bearer: None, idempotency_key: None, body }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", ..Self::post(path, Value::Null) }
    }

    pub(crate) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self { method: "PATCH", ..Self::post(path, body) }
    }

    pub(crate) fn bearer(mut self, token: &str) -> Self {
        self.bearer = Some(token.to_owned());
        self
    }

    pub(crate) fn once(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.to_owned());
        self
    }

    fn text(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n", self.method, self.path);
        if let Some(token) = &self.bearer {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if let Some(key) = &self.idempotency_key {
            head += &format!("idempotency-key: {key}\r\n");
        }
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }
}

/// An answer that arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

/// Somebody at an address of their own.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) server: SocketAddr,
    pub(crate) from: Ipv4Addr,
    pub(crate) rng: Rng,
}

impl Client {
    /// Sends a request once.
    pub(crate) async fn send(&self, request: &Request) -> io::Result<Answer> {
        let exchange = tokio::time::timeout(TIMEOUT, self.exchange(request.text()));
        parse(&exchange.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }

    async fn exchange(&self, text: String) -> io::Result<Vec<u8>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into())?;
        let mut stream = socket.connect(self.server).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    /// Repeats a request as a careful program would: after a lost connection, a 5xx, a conflict and a 429, until it is
    /// answered. Says how often it was sent.
    ///
    /// # Panics
    /// When it is refused, or not answered for a very long time.
    pub(crate) async fn insist(&self, request: &Request) -> (Value, u32) {
        let began = Instant::now();
        for sent in 1.. {
            let last = match self.send(request).await {
                Ok(answer) if (200..300).contains(&answer.status) => return (answer.json(), sent),
                Ok(answer) if matches!(answer.status, 409 | 429 | 500..=599) => {
                    format!("{} {}", answer.status, answer.text)
                }
                Ok(answer) => panic!("{} {}: {} {}", request.method, request.path, answer.status, answer.text),
                Err(error) => error.to_string(),
            };
            assert!(began.elapsed() < PATIENCE, "{} {} is never answered: {last}", request.method, request.path);
            tokio::time::sleep(Duration::from_millis(u64::from(50 + self.rng.below(250)))).await;
        }
        unreachable!("a client repeats until it is answered or gives up")
    }
}

fn parse(answer: &[u8]) -> io::Result<Answer> {
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let text = std::str::from_utf8(answer).map_err(|_| broken())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    // An answer without a length has no body (204).
    if body.len() == length.unwrap_or(0) { Ok(Answer { status, text: body.to_owned() }) } else { Err(broken()) }
}
