//! When to kill: not at any time, but while something is under way that must not be lost or doubled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shared::kernel::Rng;
use tokio::sync::Notify;

use crate::server::Server;

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// A receiver was just called.
    Delivering,
    /// Polar is inside a request.
    Reporting,
    /// An agent is being published.
    Publishing,
    /// A visitor waits for a reply.
    Chatting,
    /// Nothing in particular.
    Whatever,
}

/// The order in which moments are chosen.
const ROUND: [Moment; 5] =
    [Moment::Publishing, Moment::Reporting, Moment::Delivering, Moment::Chatting, Moment::Whatever];
/// How long to wait for a moment.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause between the moment and the kill, in microseconds.
const LATE: u32 = 30_000;

/// How many arrivals at receivers may be owed before clients wait: else they would be done long before the workers.
const OWED: usize = 80;
/// How long they wait at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where everybody tells what is under way and what is done.
#[derive(Default)]
pub(crate) struct Moments {
    begun: [Notify; 4],
    /// What clients have got.
    answered: AtomicUsize,
    /// Arrivals that what clients asked for leads to.
    owed: AtomicUsize,
    /// Arrivals at receivers that took them.
    arrived: AtomicUsize,
    progress: Notify,
}

impl Moments {
    /// Something begins now.
    pub(crate) fn begins(&self, moment: Moment) {
        if let Some(notify) = self.begun.get(moment as usize) {
            notify.notify_waiters();
        }
    }

    /// A client wants something that leads to so many arrivals: waits until there is room for them.
    pub(crate) async fn ask(&self, arrivals: usize) {
        self.owed.fetch_add(arrivals, Ordering::Relaxed);
        let has_room = || self.owed.load(Ordering::Relaxed) <= self.arrived.load(Ordering::Relaxed) + OWED;
        drop(tokio::time::timeout(PATIENCE, self.until(has_room)).await);
    }

    /// A client has got what it wanted.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    /// A receiver has taken an event.
    pub(crate) fn arrived(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    /// Waits until so many things are answered or have arrived.
    async fn done(&self, wanted: usize) {
        let done = || self.answered.load(Ordering::Relaxed) + self.arrived.load(Ordering::Relaxed);
        self.until(|| done() >= wanted).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.progress.notified();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    /// Waits for the first of these moments that comes.
    async fn first(&self, wanted: &[Moment]) -> Moment {
        for moment in wanted {
            let Some(notify) = self.begun.get(*moment as usize) else { break };
            if tokio::time::timeout(LONGEST, notify.notified()).await.is_ok() {
                return *moment;
            }
        }
        Moment::Whatever
    }
}

/// Kills the platform again and again while `work` is done, spread over it, and starts it each time on what it left.
/// Says how often in which moment. `report` asks for usage to be reported.
pub(crate) async fn killer(
    server: &mut Server,
    moments: &Moments,
    rng: &Rng,
    (kills, work): (usize, usize),
    report: impl AsyncFn(),
) -> BTreeMap<Moment, usize> {
    let mut counts = BTreeMap::new();
    let began = std::time::Instant::now();
    for number in 0..kills {
        moments.done(work * (number + 1) / (kills + 1)).await;
        // What does not come any more, since its clients are done, gives way to what is left.
        let wanted = [ROUND[number % ROUND.len()], Moment::Delivering];
        // Reporting pauses when the provider fails, so somebody asks for it.
        let asked = async {
            if wanted[0] == Moment::Reporting {
                report().await;
            }
        };
        let (moment, ()) = tokio::join!(moments.first(&wanted), asked);
        tokio::time::sleep(Duration::from_micros(u64::from(rng.below(LATE)))).await;
        assert!(!server.has_ended(), "the platform ended by itself:\n{}", server.last_words());
        server.kill();
        println!("kill {:>3}    {moment:?} after {:.1} s", number + 1, began.elapsed().as_secs_f32());
        *counts.entry(moment).or_default() += 1;
        server.start().await;
    }
    counts
}
