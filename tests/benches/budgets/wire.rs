//! As much of HTTP/1.1 as the stand-ins of this benchmark need, on blocking sockets: what is between the function and its
//! measurement should cost next to nothing.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// A request that has come in whole.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// One connection, as the server sees it.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(64 * 1024, stream)))
    }

    /// The next request; `None` when the peer has closed.
    pub(crate) fn request(&mut self) -> io::Result<Option<Request>> {
        let first = self.line()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                None => break,
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
                Some(_) => {}
            }
        }
        let body = if chunked { self.chunks()? } else { self.exactly(length)? };
        Ok(Some(Request { method, path, body }))
    }

    /// A chunked body to its end, its trailers left out.
    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        self.acknowledge()?;
        Ok(bytes)
    }

    /// A line without its end; empty at the end of the stream.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        self.acknowledge()?;
        Ok(line.trim_end().to_owned())
    }

    /// Lets the kernel acknowledge at once. The Lambda runtime sends small pieces with Nagle's algorithm on, and would
    /// wait 40 ms for the acknowledgement of each; whether AWS's own Runtime API makes it wait is not for us to measure.
    #[cfg(target_os = "linux")]
    fn acknowledge(&self) -> io::Result<()> {
        std::os::linux::net::TcpStreamExt::set_quickack(self.0.get_ref(), true)
    }

    #[cfg(not(target_os = "linux"))]
    fn acknowledge(&self) -> io::Result<()> {
        Ok(())
    }

    /// Answers with more headers (each with its line end) and a body of JSON.
    pub(crate) fn answer(&mut self, status: &str, headers: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        self.0.get_mut().write_all(format!("{head}{headers}\r\n{body}").as_bytes())
    }
}
