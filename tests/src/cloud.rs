//! The rest of AWS for a function that runs as a process: Secrets Manager and SQS, as far as the protocol goes.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use shared::ports::secrets::{ROOT_KEYRING, Secrets as _};
use tokio::net::TcpListener;

use crate::{ENGINE, TestApp};

/// Services on loopback beside the table of a test's app.
pub struct Cloud {
    url: String,
    table: String,
    sent: Arc<Mutex<Vec<Value>>>,
}

impl Cloud {
    /// Services of the same installation as the app: they have its secret.
    ///
    /// # Panics
    /// When the app has no root keyring.
    pub async fn of(test: &TestApp) -> Self {
        let keyring = test.app.secrets.get(ROOT_KEYRING).await.expect("secrets").expect("a keyring");
        let secret = json!({ROOT_KEYRING: keyring.expose()}).to_string();
        Self::start(test, Some(secret)).await
    }

    /// The same, but the function may not read the secret.
    pub async fn without_secret(test: &TestApp) -> Self {
        Self::start(test, None).await
    }

    async fn start(test: &TestApp, secret: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let messages = Arc::clone(&sent);
        let router = Router::new().fallback(async move |request: Request| answer(&messages, secret, request).await);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, table: test.table.clone(), sent }
    }

    /// The variables of a function of this installation, as the template sets them.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TABLE_NAME", self.table.clone()),
            ("SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:000000000000:secret:test".into()),
            ("OBJECTS_BUCKET", "objects".into()),
            ("PUBLIC_BASE_URL", "https://api.example.com".into()),
            ("DELIVER_QUEUE_URL", format!("{}/deliver", self.url)),
            ("DELIVER_DEAD_LETTERS_URL", format!("{}/deliver-dead-letters", self.url)),
            ("DELIVER_SLOW_QUEUE_URL", format!("{}/deliver-slow", self.url)),
            ("AWS_ENDPOINT_URL_DYNAMODB", ENGINE.endpoint()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.url.clone()),
            ("AWS_ENDPOINT_URL_SQS", self.url.clone()),
        ]
    }

    /// The messages that were sent to queues, as SQS was given them.
    #[must_use]
    pub fn sent(&self) -> Vec<Value> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(sent: &Mutex<Vec<Value>>, secret: Option<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let body = to_bytes(body, usize::MAX).await.expect("a whole body");
    match (target, secret) {
        ("secretsmanager.GetSecretValue", Some(secret)) => Json(json!({"SecretString": secret})).into_response(),
        ("secretsmanager.GetSecretValue", None) => {
            (StatusCode::BAD_REQUEST, Json(json!({"__type": "AccessDeniedException"}))).into_response()
        }
        ("AmazonSQS.SendMessage", _) => {
            let message = serde_json::from_slice(&body).expect("JSON");
            sent.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            Json(json!({"MessageId": "1"})).into_response()
        }
        (other, _) => (StatusCode::BAD_REQUEST, format!("nothing here answers {other}")).into_response(),
    }
}
