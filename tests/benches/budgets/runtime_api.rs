//! A stand-in for the Lambda Runtime API, and a function that runs under it as a process of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wire::Connection;

/// How long a function may take for anything before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const INVOCATION: &str = "/2018-06-01/runtime/invocation/";

/// What a function said to the Runtime API, and where its answer is waited for.
struct Said {
    method: String,
    path: String,
    body: Vec<u8>,
    at: Instant,
    answer: Sender<Answer>,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: String,
}

/// The Runtime API of one function at a time.
pub(crate) struct RuntimeApi {
    address: SocketAddr,
    said: Receiver<Said>,
}

/// A running function; it ends with this.
pub(crate) struct Function<'a> {
    api: &'a RuntimeApi,
    child: Child,
    /// The poll that waits for an event.
    poll: Said,
    /// From the start of the process to its first poll.
    pub(crate) init: Duration,
    invocations: usize,
}

impl RuntimeApi {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (tell, said) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tell = tell.clone();
                // A connection ends when its function does, at whatever point that is.
                std::thread::spawn(move || drop(Connection::new(stream).and_then(|open| serve(open, &tell))));
            }
        });
        Ok(Self { address, said })
    }

    /// Starts a function with these variables and no others, and waits for its first poll.
    pub(crate) fn run(&self, binary: &Path, variables: &[(&str, String)]) -> io::Result<Function<'_>> {
        // What an earlier function still said is nothing to this one.
        while self.said.try_recv().is_ok() {}
        let mut command = Command::new(binary);
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.env("AWS_LAMBDA_RUNTIME_API", self.address.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn()?;
        match self.next() {
            Ok(poll) if poll.path == format!("{INVOCATION}next") => {
                let init = poll.at - began;
                Ok(Function { api: self, child, poll, init, invocations: 0 })
            }
            other => {
                // It may have ended by itself.
                drop(child.kill());
                drop(child.wait());
                let why = other.map_or_else(|error| error.to_string(), |said| format!("it said {}", text(&said)));
                Err(io::Error::other(format!("{} did not ask for an event: {why}", binary.display())))
            }
        }
    }

    fn next(&self) -> io::Result<Said> {
        self.said.recv_timeout(PATIENCE).map_err(|_| io::Error::other(format!("nothing within {PATIENCE:?}")))
    }
}

/// Hands on what comes over one connection, and answers as it is told to.
fn serve(mut connection: Connection, tell: &Sender<Said>) -> io::Result<()> {
    while let Some(request) = connection.request()? {
        let (answer, answered) = mpsc::channel();
        let said = Said { method: request.method, path: request.path, body: request.body, at: Instant::now(), answer };
        if tell.send(said).is_err() {
            break;
        }
        // Nobody answers any more when the function's measurement is over.
        let Ok(Answer { status, headers, body }) = answered.recv() else { break };
        connection.answer(status, &headers, &body)?;
    }
    Ok(())
}

fn text(said: &Said) -> String {
    format!("{} {} {}", said.method, said.path, String::from_utf8_lossy(&said.body))
}

impl Function<'_> {
    /// Gives it an event. How long it took until all of the answer had come, and the answer.
    pub(crate) fn invoke(&mut self, event: &Value) -> io::Result<(Duration, Vec<u8>)> {
        self.invocations += 1;
        let id = format!("8476a536-e9f4-11e8-9739-{:012}", self.invocations);
        let headers = format!(
            "lambda-runtime-aws-request-id: {id}\r\n\
             lambda-runtime-deadline-ms: 4102444800000\r\n\
             lambda-runtime-invoked-function-arn: arn:aws:lambda:eu-west-1:000000000000:function:measured\r\n\
             lambda-runtime-trace-id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\n"
        );
        let began = Instant::now();
        tell(&self.poll, "200 OK", headers, event.to_string())?;
        let said = self.api.next()?;
        if said.path != format!("{INVOCATION}{id}/response") {
            return Err(io::Error::other(format!("it did not answer the event: {}", text(&said))));
        }
        let took = said.at - began;
        tell(&said, "202 Accepted", String::new(), r#"{"status":"OK"}"#.to_owned())?;
        self.poll = self.api.next()?;
        Ok((took, said.body))
    }

    /// What it keeps in memory, in kilobytes.
    pub(crate) fn resident_kb(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| io::Error::other("the kernel does not say how much memory a process has"))
    }
}

fn tell(to: &Said, status: &'static str, headers: String, body: String) -> io::Result<()> {
    to.answer.send(Answer { status, headers, body }).map_err(|_| io::Error::other("the function has gone"))
}

impl Drop for Function<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
