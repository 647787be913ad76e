//! What follows from an endpoint that fails: its owner is told in time, and at last it is switched off. Each is written
//! with the event that tells of it, so that the mail goes out once the fact is true.

use crate::app::App;
use crate::domain::Webhook;
use crate::domain::webhook::{FAILING_FOR, Health, LAST_NOTICE, NOTICES};
use crate::events::emit;
use crate::kernel::{Error, Result};
use crate::store;
use crate::table::{Refusal, Unit};

/// After an attempt: `gone` says that the receiver answered 410.
pub(super) async fn after(app: &App, webhook: &Webhook, health: &Health, gone: bool) -> Result<()> {
    if gone {
        return disable(app, webhook, health, "The receiver answered 410 Gone.").await;
    }
    let Some(since) = health.failing_since else { return Ok(()) };
    let now = app.now();
    let percent = now.since(since).as_secs() * 100 / FAILING_FOR.as_secs();
    // Not before its owner has had the last notice, and time to read it: an endpoint with few events may fail unseen.
    let told = NOTICES.iter().all(|notice| *notice <= health.noticed);
    if percent >= 100 && told && health.noticed_at.is_some_and(|at| now.since(at) >= LAST_NOTICE) {
        return disable(app, webhook, health, "Every delivery failed for five days.").await;
    }
    match NOTICES.into_iter().rfind(|notice| *notice <= percent) {
        Some(notice) if notice > health.noticed => {
            let mut unit = Unit::new();
            store::webhook::note_notice(&mut unit, webhook.workspace_id, webhook.id, notice, now);
            emit(&mut unit, &app.events().webhook_failing(webhook, since))?;
            commit(app, unit).await
        }
        _ => Ok(()),
    }
}

async fn disable(app: &App, webhook: &Webhook, health: &Health, reason: &str) -> Result<()> {
    let (mut unit, now) = (Unit::new(), app.now());
    store::webhook::disable(&mut unit, webhook, reason, health.missed_since.unwrap_or(now), now);
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
