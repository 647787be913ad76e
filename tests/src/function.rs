//! A function's own binary as a process, fed by a stand-in for Lambda's Runtime API on loopback.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use shared::kernel::{Clock as _, SystemClock};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// Far beyond what anything here takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a function made of an event: its answer, or the error with which it failed.
type Outcome = Result<Value, Value>;

struct Invocation {
    event: String,
    done: oneshot::Sender<Outcome>,
}

/// A function that waits for events. It ends with this value.
pub struct Function {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    events: mpsc::UnboundedSender<Invocation>,
}

impl Function {
    /// Starts a binary with these variables and none of this process's.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(binary: &str, variables: &[(&str, String)]) -> Self {
        let (events, waiting) = mpsc::unbounded_channel();
        let api = RuntimeApi::start(waiting).await;
        let known = [
            ("AWS_LAMBDA_RUNTIME_API", api.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "test"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ];
        let mut command = Command::new(binary);
        command.env_clear().envs(known).envs(variables.iter().map(|(name, value)| (name, value)));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (output, lines) = (process.stdout.take().expect("its output"), Arc::clone(&log));
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| locked(&lines).push(line));
        });
        Self { process, log, events }
    }

    /// Gives it an event, as the service that feeds it would.
    ///
    /// # Errors
    /// What the function says when it fails.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn invoke(&self, event: &Value) -> Outcome {
        let (done, outcome) = oneshot::channel();
        assert!(self.events.send(Invocation { event: event.to_string(), done }).is_ok(), "the Runtime API is there");
        match tokio::time::timeout(PATIENCE, outcome).await {
            Ok(outcome) => outcome.expect("the Runtime API answers"),
            Err(_) => panic!("the function does not answer; it logged {:#?}", self.log()),
        }
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        locked(&self.log).clone()
    }

    /// Waits for it to end by itself, and gives what it wrote about that.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&mut self) -> (ExitStatus, String) {
        let ending = async {
            loop {
                if let Some(status) = self.process.try_wait().expect("a process of ours") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let status = tokio::time::timeout(PATIENCE, ending).await.expect("the function ends");
        let mut words = String::new();
        let mut error = self.process.stderr.take().expect("its errors");
        error.read_to_string(&mut words).expect("text");
        (status, words)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Lambda's side: `next` waits for an event, `response` and `error` are what became of it.
struct RuntimeApi {
    waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    running: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    count: AtomicU32,
}

impl RuntimeApi {
    /// Starts one; gives its host and port.
    async fn start(waiting: mpsc::UnboundedReceiver<Invocation>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let waiting = tokio::sync::Mutex::new(waiting);
        let api = Arc::new(Self { waiting, running: Mutex::default(), count: AtomicU32::new(1) });
        let router = Router::new().fallback(async move |request: Request| api.answer(request).await);
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
        let ["2018-06-01", "runtime", rest @ ..] = path.as_slice() else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        let said = || serde_json::from_slice(&body).unwrap_or(Value::Null);
        match rest {
            ["invocation", "next"] => return self.next().await,
            ["invocation", id, "response"] => self.done(id, Ok(said())),
            ["invocation", id, "error"] => self.done(id, Err(said())),
            _ => return StatusCode::NOT_FOUND.into_response(),
        }
        StatusCode::ACCEPTED.into_response()
    }

    async fn next(&self) -> Response {
        let Some(Invocation { event, done }) = self.waiting.lock().await.recv().await else {
            // No event can come any more; the process is about to be ended.
            return std::future::pending().await;
        };
        let id = format!("request-{}", self.count.fetch_add(1, Ordering::Relaxed));
        locked(&self.running).insert(id.clone(), done);
        let deadline = SystemClock.now() + PATIENCE;
        Response::builder()
            .header("lambda-runtime-aws-request-id", id)
            .header("lambda-runtime-deadline-ms", deadline.millis())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:000000000000:function:test")
            .body(Body::from(event))
            .expect("a response")
    }

    fn done(&self, id: &str, outcome: Outcome) {
        let done = locked(&self.running).remove(id).expect("an event that was given");
        // Whoever asked may have stopped waiting.
        drop(done.send(outcome));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
