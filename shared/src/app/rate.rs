//! Counting calls against their limits, by leased tokens.
//!
//! The table holds how many tokens of a window are given out. A process takes a lot of them before it spends them, so
//! that all processes together never pass the limit by more than their credit ([`Rate::credit`]), and not at all where
//! the limit is exact. A caller far from the limit costs no table trip, and neither does one who is beyond it: a
//! process that has heard that nothing is left refuses by itself until the window ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::App;
use crate::access::{Rate, RateClass};
use crate::kernel::{Code, Error, Result, Time, work};
use crate::store;

/// What this process knows of the windows that it counts in.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Windows>);

#[derive(Debug, Default)]
struct Windows {
    all: HashMap<(RateClass, String), Window>,
    /// At how many windows those that have ended are forgotten; twice what was left the last time, so that a flood from
    /// many addresses does not make every call look through all of them.
    forget_at: usize,
}

#[derive(Debug)]
struct Window {
    ends: Time,
    /// Tokens that the table has given out, to all processes, as far as this one knows.
    given: u32,
    /// Tokens that this process may still spend.
    in_hand: u32,
    /// Calls that passed here.
    spent: u32,
    /// Calls that passed on credit and are not paid for yet.
    owed: u32,
    /// Calls that may still pass on credit.
    credit: u32,
    /// Held by the call that asks the table, so that calls at the same time do not ask too.
    asking: Arc<tokio::sync::Mutex<()>>,
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
    /// Whether the call itself is one too many.
    pub is_refused: bool,
}

impl Standing {
    /// The same, for a call that may pass.
    ///
    /// # Errors
    /// `rate_limited` with the seconds to wait.
    pub fn passed(self, now: Time) -> Result<Self> {
        if !self.is_refused {
            return Ok(self);
        }
        let seconds = self.reset.since(now).as_millis().div_ceil(1000);
        let seconds = u32::try_from(seconds).unwrap_or(60).max(1);
        Err(Error::new(Code::RateLimited).retry_after(seconds).exceeded(self.limit, self.reset))
    }
}

/// What a process can do about a call by itself.
#[derive(Debug)]
enum Step {
    /// Let it pass; so many calls are left.
    Pass(u32),
    /// Refuse it.
    Refuse,
    /// Neither: it has to ask the table.
    Ask(Arc<tokio::sync::Mutex<()>>),
}

/// Beyond this many windows those that have ended are forgotten.
const CAPACITY: usize = 10_000;
/// Beyond this many also those of callers who are far from their limit: a flood from ever new addresses must not fill
/// the memory.
const MOST: usize = 100_000;
/// How long a call waits for the table where the limit is not exact.
const PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Counts a call, and refuses it with `rate_limited` when it is one too many.
    ///
    /// # Errors
    /// As [`Self::count`], and `rate_limited` with the seconds to wait.
    pub async fn count_call(&self, class: RateClass, subject: &str) -> Result<Standing> {
        self.count(class, subject).await?.passed(self.now())
    }

    /// Counts a call and says how its caller stands.
    ///
    /// # Errors
    /// What the table says, where the limit is exact: nobody guesses passwords while nobody counts. Elsewhere a table
    /// that cannot count, or not soon, lets the call pass: a limit that fails must not take the product down with it.
    async fn count(&self, class: RateClass, subject: &str) -> Result<Standing> {
        let (rate, key) = (class.rate(), (class, subject.to_owned()));
        let length = i64::try_from(rate.window.as_millis()).unwrap_or(i64::MAX);
        loop {
            // Anew each time: a window may have ended while the call waited.
            let now = self.now();
            let number = now.millis().div_euclid(length);
            let reset = Time::from_millis((number + 1).saturating_mul(length));
            let asking = match self.rates().step(&key, reset, rate, now) {
                Step::Pass(remaining) => {
                    return Ok(Standing { limit: rate.limit, remaining, reset, is_refused: false });
                }
                Step::Refuse => return Ok(Standing { limit: rate.limit, remaining: 0, reset, is_refused: true }),
                Step::Ask(asking) => asking,
            };
            let alone = asking.lock_owned().await;
            // Whoever asked before may have got enough for this call, too.
            let Some(tokens) = self.rates().wanted(&key, reset, rate) else { continue };
            let (app, key) = (self.clone(), key.clone());
            // A task of its own: a caller that leaves must not take along what the table gave for all.
            let asked = async move {
                let _alone = alone;
                app.take_tokens(&key, (number, reset), rate, tokens).await
            };
            tokio::spawn(work::carried(asked)).await.map_err(Error::internal)??;
        }
    }

    async fn take_tokens(
        &self,
        key: &(RateClass, String),
        (number, reset): (i64, Time),
        rate: Rate,
        tokens: u32,
    ) -> Result<()> {
        let (class, subject) = key;
        let take = store::rate::take(&self.table, *class, subject, number, tokens, reset + rate.window);
        let patience = if rate.exact { Duration::MAX } else { PATIENCE };
        match tokio::time::timeout(patience, take).await {
            Ok(Ok(given)) => self.rates().receive(key, reset, rate, tokens, given),
            Ok(Err(error)) if rate.exact => return Err(error),
            failed => {
                let error = failed.ok().and_then(Result::err).map(|error| error.to_string());
                tracing::warn!(class = class.key(), error, "a rate window was not counted");
                self.rates().presume(key, reset, tokens);
            }
        }
        Ok(())
    }

    /// Counts a call for each of these, and says how the caller stands where the least is left. After one that refuses,
    /// the rest is not asked.
    ///
    /// # Errors
    /// What the table says where a limit is exact.
    pub async fn count_each(&self, counted: &[(RateClass, String)]) -> Result<Option<Standing>> {
        let mut tightest: Option<Standing> = None;
        for (class, subject) in counted {
            let standing = self.count(*class, subject).await?;
            if standing.is_refused {
                return Ok(Some(standing));
            }
            if tightest.is_none_or(|known| standing.remaining < known.remaining) {
                tightest = Some(standing);
            }
        }
        Ok(tightest)
    }
}

impl Rates {
    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, key: &(RateClass, String), ends: Time, rate: Rate, now: Time) -> Step {
        let mut windows = self.lock();
        windows.forget(now);
        let window = windows.all.entry(key.clone()).or_insert_with(|| Window::new(ends, rate));
        // A call that was late to look at the clock must not take the place of a window that has begun meanwhile.
        if window.ends < ends {
            *window = Window::new(ends, rate);
        }
        window.step(rate)
    }

    /// How many tokens to ask for, unless that is not needed any more.
    fn wanted(&self, key: &(RateClass, String), ends: Time, rate: Rate) -> Option<u32> {
        self.lock().of(key, ends).filter(|window| window.must_ask(rate)).map(|window| window.wanted(rate))
    }

    fn receive(&self, key: &(RateClass, String), ends: Time, rate: Rate, tokens: u32, given: u32) {
        if let Some(window) = self.lock().of(key, ends) {
            window.receive(rate, tokens, given);
        }
    }

    fn presume(&self, key: &(RateClass, String), ends: Time, tokens: u32) {
        if let Some(window) = self.lock().of(key, ends) {
            window.in_hand += tokens.saturating_sub(window.owed);
            window.owed = 0;
        }
    }
}

impl Windows {
    fn of(&mut self, key: &(RateClass, String), ends: Time) -> Option<&mut Window> {
        self.all.get_mut(key).filter(|window| window.ends == ends)
    }

    fn forget(&mut self, now: Time) {
        if self.all.len() >= self.forget_at.max(CAPACITY) {
            self.all.retain(|_, window| window.ends > now);
            if self.all.len() >= MOST {
                // Those who called so seldom that they have not even used up their credit.
                self.all.retain(|_, window| window.given > 0);
            }
            self.forget_at = (self.all.len() * 2).min(MOST).max(self.all.len() + CAPACITY);
        }
    }
}

impl Window {
    fn new(ends: Time, rate: Rate) -> Self {
        Self { ends, given: 0, in_hand: 0, spent: 0, owed: 0, credit: rate.credit(), asking: Arc::default() }
    }

    fn step(&mut self, rate: Rate) -> Step {
        if self.must_ask(rate) {
            return Step::Ask(Arc::clone(&self.asking));
        }
        if self.in_hand > 0 {
            self.in_hand -= 1;
        } else if self.given >= rate.limit {
            return Step::Refuse;
        } else {
            self.credit -= 1;
            self.owed += 1;
        }
        self.spent += 1;
        Step::Pass((rate.limit + self.in_hand).saturating_sub(self.given + self.owed))
    }

    const fn must_ask(&self, rate: Rate) -> bool {
        self.in_hand == 0 && self.given < rate.limit && self.credit == 0
    }

    fn wanted(&self, rate: Rate) -> u32 {
        rate.lot(self.spent) + self.owed
    }

    /// Takes what the table gave: `given` counts these tokens, and those beyond the limit are none.
    fn receive(&mut self, rate: Rate, tokens: u32, given: u32) {
        let good = tokens.saturating_sub(given.saturating_sub(rate.limit));
        self.in_hand += good.saturating_sub(self.owed);
        (self.given, self.owed) = (given.min(rate.limit), 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Processes that count one subject's calls, and the table between them.
    struct Processes {
        rate: Rate,
        windows: Vec<Window>,
        given: u32,
        asked: u32,
    }

    impl Processes {
        fn new(rate: Rate, count: usize) -> Self {
            let windows = (0..count).map(|_| Window::new(Time::from_millis(1), rate)).collect();
            Self { rate, windows, given: 0, asked: 0 }
        }

        fn passes(&mut self, process: usize) -> bool {
            let window = &mut self.windows[process];
            if window.must_ask(self.rate) {
                let tokens = window.wanted(self.rate);
                self.given += tokens;
                self.asked += 1;
                window.receive(self.rate, tokens, self.given);
            }
            let in_hand = window.in_hand;
            match window.step(self.rate) {
                Step::Pass(left) => {
                    assert!(left + 1 >= in_hand, "what is in hand is left: {left}, {in_hand}");
                    true
                }
                Step::Refuse => false,
                Step::Ask(_) => panic!("it was asked"),
            }
        }
    }

    const CLASSES: [RateClass; 4] =
        [RateClass::General, RateClass::PublicForm, RateClass::AuthEmail, RateClass::AgentChat];

    proptest! {
        #[test]
        fn no_order_of_calls_over_processes_passes_the_limit_by_more_than_the_credit(
            class in prop::sample::select(CLASSES.to_vec()),
            count in 1_usize..12,
            calls in prop::collection::vec(0_usize..12, 0..4_000),
        ) {
            let rate = class.rate();
            let mut processes = Processes::new(rate, count);
            let (mut passed, mut refused_at) = (0_u32, None);
            for call in calls {
                if processes.passes(call % count) {
                    passed += 1;
                } else {
                    refused_at = refused_at.or(Some(passed));
                }
            }
            let credit = rate.credit() * u32::try_from(count).unwrap();
            prop_assert!(passed <= rate.limit + credit, "{passed} of {}", rate.limit);
            // What lies unused elsewhere never costs a caller more than half.
            prop_assert!(refused_at.is_none_or(|at| at >= rate.limit / 2), "refused after {refused_at:?}");
        }
    }

    #[test]
    fn an_exact_limit_lets_pass_exactly_as_many_however_many_processes_count() {
        let rate = RateClass::Auth.rate();
        let mut processes = Processes::new(rate, 7);
        let passed = (0..500).filter(|call| processes.passes(call % 7)).count();
        assert_eq!(passed, 100);
        assert_eq!(
            processes.asked, 106,
            "once for each that passes, and every other process hears that nothing is left"
        );
    }

    #[test]
    fn one_process_asks_seldom_and_lets_all_pass() {
        let rate = RateClass::General.rate();
        let mut processes = Processes::new(rate, 1);
        assert!((0..3).all(|_| processes.passes(0)) && processes.asked == 0, "on credit");
        assert_eq!((3..1_000).filter(|_| processes.passes(0)).count(), 597);
        assert!(processes.asked <= 25, "{}", processes.asked);
    }

    #[test]
    fn windows_that_ended_are_forgotten_without_looking_through_all_at_each_call() {
        let (rates, rate) = (Rates::default(), RateClass::PublicRead.rate());
        let step = |number: u32, now: i64| {
            rates.step(
                &(RateClass::PublicRead, number.to_string()),
                Time::from_millis(now + 10),
                rate,
                Time::from_millis(now),
            );
            let windows = rates.lock();
            (windows.all.len(), windows.forget_at)
        };
        for number in 0..25_000 {
            step(number, 0);
        }
        assert_eq!(step(25_000, 5), (25_001, 40_000), "looked through at 10,000 and at 20,000");
        for number in 25_001..40_000 {
            step(number, 5);
        }
        assert_eq!(step(40_000, 11).0, 15_001, "those that ended are gone");
        for number in 40_001..300_000 {
            assert!(step(number, 11).0 <= MOST + CAPACITY);
        }
    }

    #[test]
    fn a_late_call_does_not_wipe_the_window_that_began_meanwhile() {
        let (rates, rate, at) = (Rates::default(), RateClass::General.rate(), Time::from_millis);
        let key = (RateClass::General, "key_1".to_owned());
        assert!(matches!(rates.step(&key, at(20), rate, at(11)), Step::Pass(599)));
        assert!(matches!(rates.step(&key, at(10), rate, at(9)), Step::Pass(598)), "it counts in the new one");
        assert!(matches!(rates.step(&key, at(20), rate, at(12)), Step::Pass(597)));
    }
}
