//! The embedded database: a DynamoDB engine on SQLite behind a loopback port, so that the code path is production's down
//! to the SDK call and the AWS CLI can look at the table.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use dynoxide::Database;
use shared::kernel::{Code, Error, Result};

/// How often expired items are deleted; AWS takes up to days for the same.
const SWEEP: Duration = Duration::from_secs(60);

/// A running engine. It stops with the process.
#[derive(Debug, Clone)]
pub struct Engine {
    address: SocketAddr,
}

impl Engine {
    /// Starts an engine on a file, or in memory. It has a thread and a runtime of its own, since SQLite blocks.
    ///
    /// # Errors
    /// `not_configured` when the file or the port cannot be opened; the message says which.
    pub fn start(file: Option<&Path>) -> Result<Self> {
        let database = match file {
            Some(file) => Database::new(&file.to_string_lossy()),
            None => Database::memory(),
        };
        let place = file.map_or_else(|| "memory".into(), |file| file.display().to_string());
        let database = database.map_err(|error| failed(&format!("The database ({place}) does not open: {error}")))?;
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("engine".into());
        thread
            .spawn(move || serve(database, &tell))
            .map_err(|error| failed(&format!("No thread for the database: {error}")))?;
        let address = told.recv().map_err(|_| failed("The database did not start."))?;
        address.map(|address| Self { address }).map_err(|error| failed(&format!("The database has no port: {error}")))
    }

    /// Where it listens, for the SDK and for the AWS CLI's `--endpoint-url`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn failed(message: &str) -> Error {
    Error::with_message(Code::NotConfigured, message.to_owned())
}

fn serve(database: Database, tell: &mpsc::Sender<std::io::Result<SocketAddr>>) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error))),
    };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::bind(("127.0.0.1", 0)).await {
            Ok(listener) => listener,
            Err(error) => return drop(tell.send(Err(error))),
        };
        drop(tell.send(listener.local_addr()));
        let sweeping = database.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                let database = sweeping.clone();
                let swept = tokio::task::spawn_blocking(move || database.sweep_ttl()).await;
                if let Ok(Err(error)) = swept {
                    tracing::warn!(%error, "expired items were not swept");
                }
            }
        });
        dynoxide::server::serve_on(listener, database).await;
    });
}
