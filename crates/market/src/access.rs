//! Counting failed sign-ins, so that nobody can try passwords without end.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

/// Failed attempts by address. Bounded: when full, the oldest windows are forgotten first.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<String, Window>>);

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Go on.
    Allowed,
    /// Not before this much time has passed.
    Refused(Duration),
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Timestamp,
    failures: u32,
}

const WINDOW_SECONDS: i64 = 300;
const FAILURES_MAX: u32 = 30;
const ENTRIES_MAX: usize = 20_000;

impl Attempts {
    /// Whether `key` has attempts left.
    pub fn check(&self, key: &str, now: Timestamp) -> Attempt {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.get(key) {
            Some(window) if window.failures >= FAILURES_MAX => {
                let left = WINDOW_SECONDS - now.duration_since(window.began).as_secs();
                match u64::try_from(left) {
                    Ok(left) if left > 0 => Attempt::Refused(Duration::from_secs(left)),
                    _ => Attempt::Allowed,
                }
            }
            _ => Attempt::Allowed,
        }
    }

    /// Counts a failure of `key`.
    pub fn fail(&self, key: &str, now: Timestamp) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over =
            |window: &Window| now.duration_since(window.began).as_secs() >= WINDOW_SECONDS;
        if windows.len() >= ENTRIES_MAX && !windows.contains_key(key) {
            windows.retain(|_, window| !is_over(window));
            if windows.len() >= ENTRIES_MAX {
                let oldest = windows.iter().min_by_key(|(_, window)| window.began);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    windows.remove(&oldest);
                }
            }
        }
        let window = windows.entry(key.to_owned()).or_insert(Window { began: now, failures: 0 });
        if is_over(window) {
            *window = Window { began: now, failures: 0 };
        }
        window.failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_runs_out_of_attempts_and_gets_them_back() {
        let attempts = Attempts::default();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..FAILURES_MAX {
            assert_eq!(attempts.check("a", start), Attempt::Allowed);
            attempts.fail("a", start);
        }
        assert_eq!(attempts.check("a", start), Attempt::Refused(Duration::from_secs(300)));
        assert_eq!(attempts.check("b", start), Attempt::Allowed);
        let later = start + jiff::SignedDuration::from_secs(300);
        assert_eq!(attempts.check("a", later), Attempt::Allowed);
        attempts.fail("a", later);
        assert_eq!(attempts.check("a", later), Attempt::Allowed);
    }
}
