//! Stage 4: limits of the deployment and of the plan, and the quota.
//!
//! A call that is refused costs nothing: what was counted before the limit that refused it is given back.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use model::LimitScope;

use super::identify::Caller;
use crate::{
    fields::{AnswerFields, Name},
    headers::Digits,
    limits::{CounterKey, Counters},
    rejection::{Rejection, seconds_up},
    table::{Agreement, Deployment, PreparedAmount, PreparedLimit},
    worker::Shared,
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Where the caller stands, for the headers of the answer.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The policies, and then what is left under each limit.
    text: BytesMut,
    policies: usize,
    tightest: Option<Count>,
}

/// The numbers of one limit.
#[derive(Debug, Clone, Copy)]
struct Count {
    limit: u64,
    remaining: u64,
    reset: u64,
}

/// Counts a call against all limits; the standing says where the caller is, also after a refusal.
///
/// What is given are the counts of calls at once, to be left when the call ends.
pub(crate) fn limit(
    shared: &Shared,
    deployment: &Deployment,
    agreement: &Agreement<'_>,
    caller: &Caller,
    now: u64,
    at: Timestamp,
    standing: &mut Standing,
) -> Result<Vec<CounterKey>, Rejection> {
    let counters = &shared.counters;
    standing.announce([&deployment.limits.policy, &agreement.limits.policy]);
    let limits = || {
        let of_deployment = deployment.limits.entries.iter();
        let of_deployment = of_deployment.map(|limit| (deployment.id.bits(), limit));
        let of_plan = agreement.limits.entries.iter();
        let of_plan = of_plan.map(|limit| (deployment.version.bits(), limit));
        of_deployment.chain(of_plan).map(|(owner, limit)| {
            let subject = match limit.per {
                LimitScope::Tenant => caller.tenant.bits(),
                LimitScope::Application => caller.application.bits(),
                LimitScope::Credential => caller.credential.bits(),
                LimitScope::Route => deployment.id.bits(),
            };
            (limit.key(owner, subject), limit)
        })
    };
    let (mut counted, mut at_once) = (0, Vec::new());
    let outcome = limits().try_for_each(|(key, limit)| {
        count(counters, key, limit, now, standing)?;
        counted += 1;
        if matches!(limit.amount, PreparedAmount::Concurrent(_)) {
            at_once.push(key);
        }
        Ok(())
    });
    let outcome = outcome.and_then(|()| match &agreement.quota {
        None => Ok(()),
        Some((quota, counter)) => match counter.take(*quota, at) {
            Ok(left) => {
                let reset = seconds_up(left.reset);
                standing.add(
                    "quota",
                    Count { limit: quota.requests, remaining: left.remaining, reset },
                );
                Ok(())
            }
            Err(retry_after) => {
                let reset = seconds_up(retry_after);
                standing.replace("quota", Count { limit: quota.requests, remaining: 0, reset });
                Err(Rejection::QuotaExceeded { retry_after })
            }
        },
    });
    match outcome {
        Ok(()) => Ok(at_once),
        Err(rejection) => {
            for (key, limit) in limits().take(counted) {
                match &limit.amount {
                    PreparedAmount::Rate(rate) => counters.give_back(key, rate, now),
                    PreparedAmount::Concurrent(_) => counters.leave(key, now),
                }
            }
            Err(rejection)
        }
    }
}

/// Counts a call against one limit.
fn count(
    counters: &Counters,
    key: CounterKey,
    limit: &PreparedLimit,
    now: u64,
    standing: &mut Standing,
) -> Result<(), Rejection> {
    match &limit.amount {
        PreparedAmount::Rate(rate) => match counters.take(key, rate, now) {
            Ok(left) => {
                let reset = seconds_up(left.reset);
                let count = Count { limit: rate.requests.into(), remaining: left.remaining, reset };
                standing.add(&limit.name, count);
                Ok(())
            }
            Err(retry_after) => {
                let reset = seconds_up(retry_after).max(1);
                let count = Count { limit: rate.requests.into(), remaining: 0, reset };
                standing.replace(&limit.name, count);
                Err(Rejection::RateLimited { limit: limit.name.as_str().into(), retry_after })
            }
        },
        PreparedAmount::Concurrent(most) => {
            if counters.enter(key, *most, now) {
                Ok(())
            } else {
                Err(Rejection::TooManyConcurrent { limit: limit.name.as_str().into() })
            }
        }
    }
}

impl Standing {
    /// Begins with the policies that are in force.
    fn announce(&mut self, policies: [&str; 2]) {
        self.text.reserve(256);
        for policy in policies.into_iter().filter(|policy| !policy.is_empty()) {
            self.separate(0);
            self.text.extend_from_slice(policy.as_bytes());
        }
        self.policies = self.text.len();
    }

    /// Puts a comma between what begins at `start` and what follows.
    fn separate(&mut self, start: usize) {
        if self.text.len() > start {
            self.text.extend_from_slice(b", ");
        }
    }

    fn add(&mut self, name: &str, count: Count) {
        self.separate(self.policies);
        self.text.extend_from_slice(b"\"");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\";r=");
        push_number(&mut self.text, count.remaining);
        self.text.extend_from_slice(b";t=");
        push_number(&mut self.text, count.reset);
        // The tightest is the one with the smallest share left.
        let tighter = self.tightest.is_none_or(|known| {
            u128::from(count.remaining) * u128::from(known.limit)
                < u128::from(known.remaining) * u128::from(count.limit)
        });
        if tighter {
            self.tightest = Some(count);
        }
    }

    /// After a refusal only the limit that refused matters.
    fn replace(&mut self, name: &str, count: Count) {
        self.text.truncate(self.policies);
        self.tightest = None;
        self.add(name, count);
    }

    /// Puts the policies and the standing into the headers of an answer.
    pub(crate) fn insert(self, headers: &mut AnswerFields) {
        // One piece of memory for all of them.
        let (mut text, policies) = (self.text, self.policies);
        let standing = policies..text.len();
        let Some(Count { limit, remaining, reset }) = self.tightest else {
            return insert_text(headers, Name::RateLimitPolicy, POLICY, text.freeze());
        };
        let ends = [limit, remaining, reset].map(|number| {
            let begin = text.len();
            push_number(&mut text, number);
            begin..text.len()
        });
        let text = text.freeze();
        insert_text(headers, Name::RateLimitPolicy, POLICY, text.slice(..policies));
        insert_text(headers, Name::RateLimit, STANDING, text.slice(standing));
        for (name, place) in [X_LIMIT, X_REMAINING, X_RESET].into_iter().zip(ends) {
            insert_text(headers, Name::XRateLimit, name, text.slice(place));
        }
    }
}

fn insert_text(headers: &mut AnswerFields, kind: Name, name: HeaderName, text: Bytes) {
    if text.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(text) {
        headers.set(kind, name, value);
    }
}

fn push_number(text: &mut BytesMut, number: u64) {
    text.extend_from_slice(Digits::default().of(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_the_one_with_the_smallest_share_left() {
        let mut standing = Standing::default();
        standing.announce(["", "\"a\";q=10;w=1"]);
        standing.add("a", Count { limit: 10, remaining: 5, reset: 1 });
        standing.add("b", Count { limit: 1_000, remaining: 20, reset: 2 });
        standing.add("c", Count { limit: 4, remaining: 3, reset: 3 });
        assert_eq!(standing.tightest.map(|count| count.limit), Some(1_000));
        assert_eq!(standing.text, "\"a\";q=10;w=1\"a\";r=5;t=1, \"b\";r=20;t=2, \"c\";r=3;t=3");
    }
}
