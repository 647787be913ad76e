//! Running a router or a worker as a Lambda function.

/// What stops a function.
pub use lambda_http::Error;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ops::Surface;
use super::serve;
use crate::app::App;
use crate::app::aws::{self, Kit};

/// Serves a surface of one group with what its function brings: the whole `main` of an HTTP function.
///
/// # Errors
/// When the function is not configured, or the runtime stops.
pub fn serve_group(surface: &'static Surface, kit: &Kit) -> Result<(), Error> {
    start(async {
        let [group] = surface.groups else {
            return Err(Error::from(format!("a function serves one group of {}", surface.name)));
        };
        let (its, group_is) = (kit.function.binary, format!("{}-{}", surface.name, group.name));
        if its != group_is {
            return Err(Error::from(format!("{its} serves {group_is}")));
        }
        let app = aws::app(kit)?;
        let router = serve::surface(&app, surface, [group]);
        if group.streams {
            lambda_http::run_with_streaming_response(router).await
        } else {
            lambda_http::run(router).await
        }
    })
}

/// Runs a worker: the whole `main` of a function behind a queue, a stream or a schedule.
///
/// # Errors
/// When the function is not configured, or the runtime stops.
pub fn run_worker<E, R, F, Fut>(kit: &Kit, work: F) -> Result<(), Error>
where
    E: DeserializeOwned,
    R: Serialize,
    F: Fn(App, E) -> Fut,
    Fut: Future<Output = crate::kernel::Result<R>>,
{
    start(async {
        let app = aws::app(kit)?;
        let (app, work) = (&app, &work);
        let service =
            move |event: LambdaEvent<E>| async move { work(app.clone(), event.payload).await.map_err(Error::from) };
        lambda_runtime::run(lambda_runtime::service_fn(service)).await
    })
}

/// One thread is enough: a function instance serves one request at a time.
fn start(serving: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    crate::app::log::to_json();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serving)
}
