//! Runs a worker at the template's rate, never two of the same at once.

use std::time::Duration;

use serde_json::{Value, json};
use shared::app::App;
use tokio::time::MissedTickBehavior;

use crate::registry::Work;
use crate::stopping::Stopping;

/// When the first run begins: soon, so that what fell due while nothing ran is done, but not in the way of the start.
const FIRST: Duration = Duration::from_secs(2);

/// A scheduled worker.
pub struct Schedule {
    /// What it may reach.
    pub app: App,
    /// Its binary, for the log.
    pub binary: String,
    /// How often.
    pub every: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// The worker.
    pub work: Work<Value, Value>,
}

impl Schedule {
    /// Runs until the platform stops.
    pub async fn run(self, mut stopping: Stopping) {
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + FIRST.min(self.every), self.every);
        // After a run that was longer than the rate, or a sleep of the machine, one run is enough.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.wait() => return,
                _ = tick.tick() => self.once().await,
            }
        }
    }

    async fn once(&self) {
        let event = json!({"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": "{}"});
        let work = self.work;
        // A task of its own, so that a panic ends this run and not the schedule.
        let mut run = tokio::spawn(work(self.app.clone(), event));
        let binary = self.binary.as_str();
        match tokio::time::timeout(self.timeout, &mut run).await {
            Ok(Ok(Ok(summary))) => tracing::debug!(binary, %summary, "scheduled run"),
            Ok(Ok(Err(error))) => tracing::error!(binary, %error, "a scheduled run failed; the next one goes on"),
            Ok(Err(panic)) => tracing::error!(binary, %panic, "a scheduled run failed; the next one goes on"),
            Err(_) => {
                run.abort();
                tracing::error!(binary, "a scheduled run took too long; the next one goes on");
            }
        }
    }
}
