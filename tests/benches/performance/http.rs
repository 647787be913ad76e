//! A client that costs as little as possible, so that the platform is what is measured: one connection, kept open.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// An address of the loopback network that nobody called from before: visitors are counted by address.
pub(crate) fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0x7f01_0001);
    Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    bearer: String,
}

impl Connection {
    /// From an address of its own.
    pub(crate) async fn open(server: SocketAddr, bearer: &str) -> io::Result<Self> {
        Self::open_from(fresh_address(), server, bearer).await
    }

    /// From this address.
    pub(crate) async fn open_from(from: Ipv4Addr, server: SocketAddr, bearer: &str) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let bearer = if bearer.is_empty() { String::new() } else { format!("authorization: Bearer {bearer}\r\n") };
        Ok(Self { stream: BufReader::new(stream), bearer })
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        self.send("POST", path, &body.to_string()).await
    }

    /// With more lines of the head, each with its end.
    pub(crate) async fn post_with(&mut self, lines: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.send_with("POST", lines, path, body).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, "").await
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.send_with(method, "", path, body).await
    }

    async fn send_with(&mut self, method: &str, lines: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.write(method, lines, path, body).await?;
        let (status, length) = self.head().await?;
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await?;
        Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Sends a request whose answer is a stream, and waits until it holds `text`.
    pub(crate) async fn post_until(&mut self, path: &str, body: &Value, text: &str) -> io::Result<()> {
        self.write("POST", "", path, &body.to_string()).await?;
        let (status, _) = self.head().await?;
        if status != 200 {
            return Err(io::Error::other(format!("{path}: {status}")));
        }
        self.until(text).await
    }

    /// Reads a stream until a line holds `text`.
    pub(crate) async fn until(&mut self, text: &str) -> io::Result<()> {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn write(&mut self, method: &str, lines: &str, path: &str, body: &str) -> io::Result<()> {
        let (bearer, length) = (&self.bearer, body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{bearer}{lines}content-type: application/json\r\n");
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await
    }

    /// Reads status and length.
    async fn head(&mut self) -> io::Result<(u16, usize)> {
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                return Ok((status, length));
            }
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if text.starts_with("http/") {
                status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            }
        }
    }
}
