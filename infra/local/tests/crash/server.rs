//! The real binary as a child process, on one data directory and one port over all its lives.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shared::kernel::Rng;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The platform under test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    variables: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Server {
    /// The platform on a directory, not started yet.
    pub(crate) fn new(directory: &Path, rng: &Rng, variables: Vec<(&'static str, String)>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(rng)));
        Self { address, directory: directory.to_owned(), variables, child: None }
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatia"));
        command.args(["--no-demo", "--port", &self.address.port().to_string(), "--data-dir"]);
        command.arg(self.directory.join("data")).env_clear().envs(self.variables.iter().cloned());
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        self.child = Some(child);
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            // Read to its end, so that the child never writes into a full pipe.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(tell) = tell.take_if(|_| line.starts_with("ready ")) {
                    // Nobody waits any more when the start took too long.
                    tell.send(()).ok();
                }
            }
        });
        let ready = tokio::time::timeout(START, told).await;
        assert!(matches!(ready, Ok(Ok(()))), "the platform does not start:\n{}", self.last_words());
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log.txt")
    }

    /// The end of its log, for a failure.
    pub(crate) fn last_words(&self) -> String {
        let lines: Vec<String> = File::open(self.log()).map_or_else(
            |_| Vec::new(),
            |log| BufReader::new(log).lines().map_while(Result::ok).filter(|line| line.contains("ERROR")).collect(),
        );
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that no connection gets by itself: below those that the system gives out, so that it is free at each start.
fn free_port(rng: &Rng) -> u16 {
    let candidates = (0..100).map(|_| u16::try_from(20_000 + rng.below(10_000)).unwrap());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    candidates.into_iter().find(is_free).expect("a free port")
}
