//! The way to an engine in this process: the SDK speaks its protocol as to AWS, but what it sends is handed over instead
//! of going through a socket.

use std::fmt::Debug;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;

/// An engine that speaks DynamoDB's JSON.
pub trait Engine: Debug + Send + Sync {
    /// Carries out an operation such as `GetItem` at once, and gives the status and the body of its answer.
    fn answer(&self, operation: &str, body: &[u8]) -> (u16, String);
}

#[derive(Debug, Clone)]
pub(super) struct Inside(pub(super) Arc<dyn Engine>);

impl HttpClient for Inside {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Inside {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let engine = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            // Calls that are made side by side all begin before the first is carried out, as they would on a network.
            tokio::task::yield_now().await;
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let (_, operation) = target.rsplit_once('.').unwrap_or_default();
            let (status, body) = engine.answer(operation, request.body().bytes().unwrap_or_default());
            let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut response = HttpResponse::new(status, body.into());
            response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            Ok(response)
        })
    }
}
