//! How studio recognises a caller: `Authorization: Bearer` with a session token or a `chatia_` key.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use shared::access::Caller;
use shared::app::{App, auth};
use shared::domain::api_key::KeyKind;
use shared::http::gate::BoxFuture;
use shared::kernel::Result;

pub(crate) fn authenticate(app: App, headers: HeaderMap) -> BoxFuture<'static, Result<Option<Caller>>> {
    Box::pin(async move {
        match bearer(&headers) {
            Some(token) => auth::recognise(&app, token, KeyKind::Developer).await,
            None => Ok(None),
        }
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
