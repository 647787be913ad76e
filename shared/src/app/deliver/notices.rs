//! What follows from an endpoint that fails: its owner is told in time, and at last it is switched off. Each is written
//! with the event that tells of it, so that the mail goes out once the fact is true.

use crate::app::App;
use crate::domain::Webhook;
use crate::domain::webhook::{FAILING_FOR, Health, NOTICES};
use crate::events::emit;
use crate::kernel::{Error, Result};
use crate::store;
use crate::table::{Refusal, Unit};

/// After an attempt: `gone` says that the receiver answered 410.
pub(super) async fn after(app: &App, webhook: &Webhook, health: &Health, gone: bool) -> Result<()> {
    if gone {
        return disable(app, webhook, "The receiver answered 410 Gone.").await;
    }
    let Some(since) = health.failing_since else { return Ok(()) };
    let percent = app.now().since(since).as_secs() * 100 / FAILING_FOR.as_secs();
    if percent >= 100 {
        return disable(app, webhook, "Every delivery failed for five days.").await;
    }
    match NOTICES.into_iter().rfind(|notice| *notice <= percent) {
        Some(notice) if notice > health.noticed => {
            let mut unit = Unit::new();
            store::webhook::note_notice(&mut unit, webhook.workspace_id, webhook.id, notice);
            emit(&mut unit, &app.events().webhook_failing(webhook, since))?;
            commit(app, unit).await
        }
        _ => Ok(()),
    }
}

async fn disable(app: &App, webhook: &Webhook, reason: &str) -> Result<()> {
    let mut unit = Unit::new();
    store::webhook::disable(&mut unit, webhook.workspace_id, webhook.id, reason, app.now());
    emit(&mut unit, &app.events().webhook_disabled(webhook, reason))?;
    commit(app, unit).await
}

async fn commit(app: &App, unit: Unit) -> Result<()> {
    match app.commit(unit).await {
        // Another attempt was faster, or the owner.
        Ok(()) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(refusal @ Refusal::Error(_)) => Err(Error::from(refusal)),
    }
}
