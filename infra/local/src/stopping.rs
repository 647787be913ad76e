//! Telling everything that runs to come to an end.

use tokio::sync::watch;

/// Says once that it is time to stop.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Hears of it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stop {
    /// A new one, with its first listener.
    #[must_use]
    pub fn new() -> (Self, Stopping) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stopping(receiver))
    }

    /// Tells every listener.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Waits until it is time; at once when it was time already, or nobody is left to tell.
    pub async fn wait(&mut self) {
        drop(self.0.wait_for(|stop| *stop).await);
    }
}
