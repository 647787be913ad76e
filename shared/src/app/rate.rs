//! Counting calls against their limits.
//!
//! The table holds the count of a window, so that many processes share it. Each process adds its hits in lots of a
//! twentieth of the limit: a call that is far from its limit costs no table trip, and the limit is exact to that lot
//! times the number of processes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::App;
use crate::access::RateClass;
use crate::kernel::{Code, Error, Result, Time};
use crate::store;

/// Windows that this process counts in.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<(RateClass, String), Window>>);

#[derive(Debug, Clone, Copy)]
struct Window {
    ends: Time,
    /// Hits that the table knows, from all processes.
    shared: u32,
    /// Hits that only this process knows.
    pending: u32,
}

/// How a caller stands after a call, for the `X-RateLimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Calls in a window.
    pub limit: u32,
    /// Calls left.
    pub remaining: u32,
    /// When the window ends.
    pub reset: Time,
}

/// Beyond this many windows those that have ended are forgotten.
const CAPACITY: usize = 10_000;

impl App {
    /// Counts a call.
    ///
    /// # Errors
    /// `rate_limited` with the seconds to wait. A table that cannot count lets the call pass: a limit that fails must
    /// not take the product down with it.
    pub async fn count_call(&self, class: RateClass, subject: &str) -> Result<Standing> {
        let (now, rate) = (self.now(), class.rate());
        let length = i64::try_from(rate.window.as_millis()).unwrap_or(i64::MAX);
        let number = now.millis().div_euclid(length);
        let reset = Time::from_millis((number + 1).saturating_mul(length));
        let (mut hits, lot) = self.rates().hit(class, subject, reset, rate.limit, now);
        if let Some(lot) = lot {
            match store::rate::add(&self.table, class, subject, number, lot, reset + rate.window).await {
                Ok(shared) => hits = self.rates().settle(class, subject, reset, shared),
                Err(error) => tracing::warn!(class = class.key(), %error, "a rate window was not counted"),
            }
        }
        if hits > rate.limit {
            let seconds = reset.since(now).as_millis().div_ceil(1000);
            return Err(Error::new(Code::RateLimited).retry_after(u32::try_from(seconds).unwrap_or(60).max(1)));
        }
        Ok(Standing { limit: rate.limit, remaining: rate.limit - hits, reset })
    }
}

impl Rates {
    /// Adds a hit. Gives the hits that are known, and the lot to add to the table when it is full.
    fn hit(&self, class: RateClass, subject: &str, ends: Time, limit: u32, now: Time) -> (u32, Option<u32>) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= CAPACITY {
            windows.retain(|_, window| window.ends > now);
        }
        let fresh = Window { ends, shared: 0, pending: 0 };
        let window = windows.entry((class, subject.to_owned())).or_insert(fresh);
        if window.ends != ends {
            *window = fresh;
        }
        window.pending += 1;
        let known = window.shared + window.pending;
        let lot = (window.pending >= (limit / 20).max(1)).then(|| std::mem::take(&mut window.pending));
        if let Some(lot) = lot {
            // Counted here already, so that calls at the same time do not add it again.
            window.shared += lot;
        }
        (known, lot)
    }

    fn settle(&self, class: RateClass, subject: &str, ends: Time, shared: u32) -> u32 {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.get_mut(&(class, subject.to_owned())).filter(|window| window.ends == ends) {
            Some(window) => {
                window.shared = window.shared.max(shared);
                window.shared + window.pending
            }
            None => shared,
        }
    }
}
