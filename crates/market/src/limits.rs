//! Limits as they are asked for, and their rules.

use model::{Limit, LimitAmount, LimitScope, Slug};

use crate::Violation;

/// A limit as it is asked for: either a rate or a number of calls at once.
#[derive(Debug, Clone)]
pub struct LimitDraft {
    /// Names the limit in headers and errors.
    pub name: Slug,
    /// What has a count of its own.
    pub per: LimitScope,
    /// Requests in a window.
    pub requests: Option<u32>,
    /// Calls at once.
    pub concurrent: Option<u32>,
    /// Length of the window in seconds.
    pub window_seconds: Option<u32>,
    /// How many requests may come at once; all of a window when absent.
    pub burst: Option<u32>,
}

impl From<Limit> for LimitDraft {
    fn from(limit: Limit) -> Self {
        let Limit { name, per, amount } = limit;
        let draft =
            Self { name, per, requests: None, concurrent: None, window_seconds: None, burst: None };
        match amount {
            LimitAmount::Rate { requests, window_seconds, burst } => Self {
                requests: Some(requests),
                window_seconds: Some(window_seconds),
                burst: Some(burst),
                ..draft
            },
            LimitAmount::Concurrent { calls } => Self { concurrent: Some(calls), ..draft },
        }
    }
}

const LIMITS_MAX: usize = 16;
const WINDOW_MAX: u32 = 86_400;

/// Checks limits; violations are named below `field`.
pub(crate) fn parse(
    field: &str,
    drafts: Vec<LimitDraft>,
    violations: &mut Vec<Violation>,
) -> Vec<Limit> {
    if drafts.len() > LIMITS_MAX {
        violations.push(Violation::new(field, format!("must have at most {LIMITS_MAX} entries")));
        return Vec::new();
    }
    let mut limits: Vec<Limit> = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.into_iter().enumerate() {
        let at = format!("{field}[{index}]");
        if limits.iter().any(|limit| limit.name == draft.name) {
            violations.push(Violation::new(format!("{at}.name"), "is the name of another limit"));
        }
        match amount(&at, &draft) {
            Ok(amount) => limits.push(Limit { name: draft.name, per: draft.per, amount }),
            Err(violation) => violations.push(violation),
        }
    }
    limits
}

fn amount(at: &str, draft: &LimitDraft) -> Result<LimitAmount, Violation> {
    let positive = |name: &str, value: u32| match value {
        0 => Err(Violation::new(format!("{at}.{name}"), "must be at least 1")),
        value => Ok(value),
    };
    match (draft.requests, draft.concurrent) {
        (Some(requests), None) => {
            let requests = positive("requests", requests)?;
            let Some(window_seconds) = draft.window_seconds else {
                return Err(Violation::new(
                    format!("{at}.windowSeconds"),
                    "is required with requests",
                ));
            };
            let window_seconds = positive("windowSeconds", window_seconds)?;
            if window_seconds > WINDOW_MAX {
                return Err(Violation::new(
                    format!("{at}.windowSeconds"),
                    format!("must be at most {WINDOW_MAX}; for longer spans a plan has a quota"),
                ));
            }
            let burst = positive("burst", draft.burst.unwrap_or(requests))?;
            Ok(LimitAmount::Rate { requests, window_seconds, burst })
        }
        (None, Some(calls)) => {
            if draft.window_seconds.is_some() || draft.burst.is_some() {
                return Err(Violation::new(at, "concurrent takes neither windowSeconds nor burst"));
            }
            Ok(LimitAmount::Concurrent { calls: positive("concurrent", calls)? })
        }
        _ => Err(Violation::new(at, "must have either requests or concurrent")),
    }
}
