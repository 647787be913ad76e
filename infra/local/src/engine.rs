//! The embedded database: a DynamoDB engine on SQLite. The code path is production's down to what the SDK sends, which is
//! handed over within the process; beside that it listens on a loopback port, so that the AWS CLI can look at the table.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::kernel::{Code, Error, Result};
use shared::table::admin::{Client, connect_inside, connect_through};
use shared::table::fault::Faults;
use shared::table::inside;

/// How often expired items are deleted; AWS takes up to days for the same.
const SWEEP: Duration = Duration::from_secs(60);

/// A running engine. It stops with the process.
#[derive(Clone)]
pub struct Engine {
    address: SocketAddr,
    database: Database,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("address", &self.address).finish_non_exhaustive()
    }
}

impl inside::Engine for Engine {
    fn answer(&self, operation: &str, body: &[u8]) -> (u16, String) {
        answer(&self.database, operation, body)
    }
}

/// The database of a platform that does not run, for an operator's command: no port, and nothing goes on by itself. The
/// file is whole, and all that there is, when the last handle on it is gone.
#[derive(Clone)]
pub struct Offline(Database);

impl fmt::Debug for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offline")
    }
}

impl inside::Engine for Offline {
    fn answer(&self, operation: &str, body: &[u8]) -> (u16, String) {
        answer(&self.0, operation, body)
    }
}

impl Offline {
    /// Opens a file.
    ///
    /// # Errors
    /// `not_configured` when it cannot be opened.
    pub fn open(file: &Path) -> Result<Self> {
        Database::new(&file.to_string_lossy()).map(Self).map_err(|error| does_not_open(&file.display(), &error))
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        connect_inside(Arc::new(self.clone()))
    }

    /// Writes the file anew, without what was deleted: until then its bytes are still there, in pages that are free.
    ///
    /// # Errors
    /// `not_configured` when there is no room for that.
    pub fn compact(&self) -> Result<()> {
        let full =
            |error| failed(&format!("Deleted bytes are still in the database, which is not written anew: {error}"));
        self.0.vacuum().map_err(full)
    }
}

fn answer(database: &Database, operation: &str, body: &[u8]) -> (u16, String) {
    let done = match operation {
        "GetItem" => carry_out(body, |request| database.get_item(request)),
        "BatchGetItem" => carry_out(body, |request| database.batch_get_item(request)),
        "Query" => carry_out(body, |request| database.query(request)),
        "Scan" => carry_out(body, |request| database.scan(request)),
        "PutItem" => carry_out(body, |request| database.put_item(request)),
        "UpdateItem" => carry_out(body, |request| database.update_item(request)),
        "DeleteItem" => carry_out(body, |request| database.delete_item(request)),
        "TransactWriteItems" => carry_out(body, |request| database.transact_write_items(request)),
        "CreateTable" => carry_out(body, |request| database.create_table(request)),
        "DescribeTable" => carry_out(body, |request| database.describe_table(request)),
        "UpdateTimeToLive" => carry_out(body, |request| database.update_time_to_live(request)),
        other => {
            let why = format!("{other} is not used by this system: add it to infra/local/src/engine.rs");
            Err(DynoxideError::ValidationException(why))
        }
    };
    match done {
        Ok(answer) => (200, answer),
        Err(error) => (error.status_code(), error.to_json()),
    }
}

/// Reads a request, carries it out, and writes its answer.
fn carry_out<Request: DeserializeOwned, Answer: Serialize>(
    body: &[u8],
    work: impl FnOnce(Request) -> dynoxide::Result<Answer>,
) -> dynoxide::Result<String> {
    let unreadable = |error: serde_json::Error| DynoxideError::SerializationException(error.to_string());
    let answer = work(serde_json::from_slice(body).map_err(unreadable)?)?;
    serde_json::to_string(&answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

impl Engine {
    /// Starts an engine on a file, or in memory. What comes by its port and the sweeping of expired items have a thread
    /// of their own.
    ///
    /// # Errors
    /// `not_configured` when the file or the port cannot be opened; the message says which.
    pub fn start(file: Option<&Path>) -> Result<Self> {
        let database = match file {
            Some(file) => Database::new(&file.to_string_lossy()),
            None => Database::memory(),
        };
        let place = file.map_or_else(|| "memory".into(), |file| file.display().to_string());
        let database = database.map_err(|error| does_not_open(&place, &error))?;
        let ((tell, told), served) = (mpsc::channel(), database.clone());
        let thread = std::thread::Builder::new().name("engine".into());
        thread
            .spawn(move || serve(served, &tell))
            .map_err(|error| failed(&format!("No thread for the database: {error}")))?;
        let address = told.recv().map_err(|_| failed("The database did not start."))?;
        address
            .map(|address| Self { address, database })
            .map_err(|error| failed(&format!("The database has no port: {error}")))
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        connect_inside(Arc::new(self.clone()))
    }

    /// The same, with faults on the way.
    #[must_use]
    pub fn client_through(&self, faults: &Faults) -> Client {
        connect_through(Arc::new(self.clone()), faults)
    }

    /// Where it listens, for the AWS CLI's `--endpoint-url`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn does_not_open(place: &dyn fmt::Display, error: &DynoxideError) -> Error {
    failed(&format!("The database ({place}) does not open: {error}"))
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
