//! Refuses the calls of a pool while too many of them fail.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::window::Window;

/// When it opens and closes; times are in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    /// 0 for a breaker that never opens.
    pub(super) failure_percent: u64,
    pub(super) minimum_calls: u64,
    pub(super) window: u64,
    pub(super) open: u64,
    pub(super) probes: u32,
}

/// Whether calls pass. Closed, they do; open, none does; half open, a few do as probes.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Breaker {
    /// 0 when closed; otherwise the time from which on probes pass.
    open_until: AtomicU64,
    probing: AtomicU32,
    passed: AtomicU32,
    pub(super) calls: Window,
}

/// How a call passed, to be given back when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Ordinary,
    Probe,
}

/// How a call ended, as far as its pool is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    /// Nothing is known; the client left, say.
    #[default]
    Unknown,
    Well,
    Failed,
}

/// What a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

impl From<&model::Breaker> for BreakerSettings {
    fn from(breaker: &model::Breaker) -> Self {
        Self {
            failure_percent: breaker.failure_percent.into(),
            minimum_calls: breaker.minimum_calls.max(1).into(),
            window: breaker.window_seconds.nanos(),
            open: breaker.open_seconds.nanos().max(1),
            probes: u32::from(breaker.probes).max(1),
        }
    }
}

impl Breaker {
    /// Lets a call pass, or says after which time to ask again.
    pub(super) fn pass(&self, settings: &BreakerSettings, now: u64) -> Result<Pass, Duration> {
        let open_until = self.open_until.load(Ordering::Relaxed);
        if open_until == 0 || settings.failure_percent == 0 {
            return Ok(Pass::Ordinary);
        }
        if now < open_until {
            return Err(Duration::from_nanos(open_until - now));
        }
        let more = |probing| (probing < settings.probes).then_some(probing + 1);
        match self.probing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Pass::Probe),
            Err(_) => Err(Duration::from_secs(1)),
        }
    }

    /// Takes note of how a call ended.
    pub(super) fn settle(
        &self,
        settings: &BreakerSettings,
        pass: Pass,
        outcome: Outcome,
        now: u64,
    ) -> Option<Change> {
        if pass == Pass::Probe {
            self.probing.fetch_sub(1, Ordering::Relaxed);
        }
        let failed = match outcome {
            Outcome::Unknown => return None,
            Outcome::Well => false,
            Outcome::Failed => true,
        };
        self.calls.count(failed, now, settings.window);
        match (pass, failed) {
            (Pass::Ordinary, false) => None,
            (Pass::Ordinary, true) => self.judge(settings, now),
            (Pass::Probe, true) => {
                self.passed.store(0, Ordering::Relaxed);
                self.open_until.store(now.saturating_add(settings.open), Ordering::Relaxed);
                None
            }
            (Pass::Probe, false) => {
                let passed = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
                (passed == settings.probes).then(|| {
                    self.calls.clear();
                    self.open_until.store(0, Ordering::Relaxed);
                    Change::Closed
                })
            }
        }
    }

    /// Opens when too many calls have failed.
    fn judge(&self, settings: &BreakerSettings, now: u64) -> Option<Change> {
        if settings.failure_percent == 0 {
            return None;
        }
        let sum = self.calls.sum(now, settings.window);
        if sum.all < settings.minimum_calls || sum.bad * 100 < settings.failure_percent * sum.all {
            return None;
        }
        let until = now.saturating_add(settings.open);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        self.open_until.compare_exchange(0, until, set, read).ok()?;
        self.passed.store(0, Ordering::Relaxed);
        Some(Change::Opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn settings() -> BreakerSettings {
        BreakerSettings {
            failure_percent: 50,
            minimum_calls: 10,
            window: 10 * SECOND,
            open: 5 * SECOND,
            probes: 2,
        }
    }

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        let changes: Vec<_> = (0..10)
            .filter_map(|_| breaker.settle(&settings(), Pass::Ordinary, Outcome::Failed, 0))
            .collect();
        assert_eq!(changes, [Change::Opened]);
        breaker
    }

    #[test]
    fn it_opens_at_the_share_and_not_before() {
        let breaker = Breaker::default();
        for number in 0..100 {
            let outcome = if number % 5 < 3 { Outcome::Well } else { Outcome::Failed };
            assert_eq!(breaker.settle(&settings(), Pass::Ordinary, outcome, 0), None);
        }
        for _ in 0..19 {
            assert_eq!(breaker.settle(&settings(), Pass::Ordinary, Outcome::Failed, 0), None);
        }
        assert_eq!(breaker.pass(&settings(), 0), Ok(Pass::Ordinary));
        let change = breaker.settle(&settings(), Pass::Ordinary, Outcome::Failed, 0);
        assert_eq!(change, Some(Change::Opened));
        assert_eq!(breaker.pass(&settings(), SECOND), Err(Duration::from_secs(4)));
    }

    #[test]
    fn few_or_old_failures_do_not_open_it() {
        let breaker = Breaker::default();
        for number in 0..100 {
            let now = number * 2 * SECOND;
            assert_eq!(breaker.settle(&settings(), Pass::Ordinary, Outcome::Failed, now), None);
        }
    }

    #[test]
    fn probes_that_go_well_close_it() {
        let breaker = opened();
        let now = 5 * SECOND;
        assert_eq!(breaker.pass(&settings(), now), Ok(Pass::Probe));
        assert_eq!(breaker.pass(&settings(), now), Ok(Pass::Probe));
        assert!(breaker.pass(&settings(), now).is_err());
        assert_eq!(breaker.settle(&settings(), Pass::Probe, Outcome::Well, now), None);
        let change = breaker.settle(&settings(), Pass::Probe, Outcome::Well, now);
        assert_eq!(change, Some(Change::Closed));
        assert_eq!(breaker.pass(&settings(), now), Ok(Pass::Ordinary));
        assert_eq!(breaker.settle(&settings(), Pass::Ordinary, Outcome::Failed, now), None);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_one_that_is_given_up_does_not() {
        let breaker = opened();
        let now = 5 * SECOND;
        for _ in 0..10 {
            assert_eq!(breaker.pass(&settings(), now), Ok(Pass::Probe));
            breaker.settle(&settings(), Pass::Probe, Outcome::Unknown, now);
        }
        assert_eq!(breaker.pass(&settings(), now), Ok(Pass::Probe));
        breaker.settle(&settings(), Pass::Probe, Outcome::Failed, now);
        assert_eq!(breaker.pass(&settings(), now), Err(Duration::from_secs(5)));
    }
}
