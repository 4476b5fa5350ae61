//! How a pool stays of use while some of its targets do not: retries, ejection, breaker, bounds.
//!
//! One form serves the control API, the database and the gateway, so that a setting means the same everywhere. Every
//! field may be left out.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a pool stays of use while some of its targets do not. Every field may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resilience {
    /// Seconds that one attempt may take until its answer begins; without it only the whole call is timed. After it
    /// the call is tried on another target when that is safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_seconds: Option<Seconds>,
    /// How many more calls retries may cause.
    pub retry_budget: RetryBudget,
    /// Whether an answer of 502, 503 or 504 to a call that may be repeated is a reason to ask another target; otherwise
    /// it is passed on.
    pub retry_gateway_errors: bool,
    /// When a target is spared because calls to it fail.
    pub ejection: Ejection,
    /// Seconds in which a target that returns is brought up to its share of the calls; 10 when absent, 0 for at once.
    pub slow_start_seconds: Seconds,
    /// When fewer than this percentage of the targets are well, calls go to all of them rather than overload those; 0,
    /// which is the default, for never.
    pub panic_percent: u8,
    /// When calls are refused at once because too many have failed.
    pub breaker: Breaker,
    /// The most calls at the same time, over all targets and gateway threads; more are refused at once with 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// The most connections to one target; a call that would need another one is refused at once with 503. Connections
    /// are counted by address: deployments with the same target share them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Whether the number of calls at the same time is also bounded by what the targets' latency shows them to bear. Off
    /// by default: where some operations are slow by nature, it takes a change of the mix for overload.
    pub adaptive_concurrency: bool,
}

/// How many more calls retries may cause, within the seconds that the breaker looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Retries in a hundred calls; 20 when absent.
    pub percent: u8,
    /// Retries in a second that are always possible, for APIs that are seldom called; 10 when absent.
    pub min_per_second: u16,
}

/// When a target is spared because calls to it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ejection {
    /// Failures in a row after which a target is spared: no connection, no or no usable answer, or an answer of 502, 503
    /// or 504. 5 when absent, 0 for never.
    pub consecutive_failures: u16,
    /// Seconds for which it is spared the first time; each time in a row doubles them. 5 when absent.
    pub base_seconds: Seconds,
    /// The longest time for which it is spared, in seconds; 60 when absent.
    pub max_seconds: Seconds,
    /// The largest share of the targets that is spared at the same time, though always one; 50 when absent.
    pub max_percent: u8,
}

/// When calls are refused at once because too many have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Breaker {
    /// The percentage of failed calls at which it opens; 50 when absent, 0 for never.
    pub failure_percent: u8,
    /// The least calls within the window that it judges by; 20 when absent.
    pub minimum_calls: u16,
    /// The seconds that it looks back; 10 when absent.
    pub window_seconds: Seconds,
    /// The seconds for which it stays open before it lets probes through; 5 when absent.
    pub open_seconds: Seconds,
    /// How many probes have to go well until it closes; 3 when absent.
    pub probes: u8,
}

/// A length of time, written as a number of seconds and kept in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Seconds(u32);

/// A number is not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 0 to 86400 seconds")]
pub struct InvalidSeconds;

impl Seconds {
    const MAX: f64 = 86_400.0;

    /// A whole number of seconds.
    pub const fn whole(seconds: u16) -> Self {
        Self(seconds as u32 * 1_000)
    }

    /// A number of milliseconds.
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// In milliseconds.
    pub const fn millis(self) -> u32 {
        self.0
    }

    /// In nanoseconds.
    pub const fn nanos(self) -> u64 {
        self.0 as u64 * 1_000_000
    }
}

impl TryFrom<f64> for Seconds {
    type Error = InvalidSeconds;

    fn try_from(seconds: f64) -> Result<Self, InvalidSeconds> {
        if !(0.0..=Self::MAX).contains(&seconds) {
            return Err(InvalidSeconds);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the bounds above"
        )]
        let millis = (seconds * 1_000.0).round() as u32;
        Ok(Self(millis))
    }
}

impl From<Seconds> for f64 {
    fn from(seconds: Seconds) -> Self {
        Self::from(seconds.0) / 1_000.0
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "maximum": 86_400 })
    }
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            per_try_timeout_seconds: None,
            retry_budget: RetryBudget::default(),
            retry_gateway_errors: false,
            ejection: Ejection::default(),
            slow_start_seconds: Seconds::whole(10),
            panic_percent: 0,
            breaker: Breaker::default(),
            max_concurrent: None,
            max_connections: None,
            adaptive_concurrency: false,
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10 }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base_seconds: Seconds::whole(5),
            max_seconds: Seconds::whole(60),
            max_percent: 50,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failure_percent: 50,
            minimum_calls: 20,
            window_seconds: Seconds::whole(10),
            open_seconds: Seconds::whole(5),
            probes: 3,
        }
    }
}

impl Resilience {
    /// The fields that are out of bounds, with what they must be.
    pub fn violations(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut within = |field, value: u32, bounds: RangeInclusive<u32>| {
            if !bounds.contains(&value) {
                found.push((field, format!("must be {} to {}", bounds.start(), bounds.end())));
            }
        };
        let Self { retry_budget, ejection, breaker, .. } = *self;
        within("retryBudget.percent", retry_budget.percent.into(), 0..=100);
        within("retryBudget.minPerSecond", retry_budget.min_per_second.into(), 0..=1_000);
        within("ejection.maxPercent", ejection.max_percent.into(), 0..=100);
        within("panicPercent", self.panic_percent.into(), 0..=100);
        within("breaker.failurePercent", breaker.failure_percent.into(), 0..=100);
        within("breaker.minimumCalls", breaker.minimum_calls.into(), 1..=10_000);
        within("breaker.probes", breaker.probes.into(), 1..=100);
        within("maxConcurrent", self.max_concurrent.unwrap_or(1), 1..=1_000_000);
        within("maxConnections", self.max_connections.unwrap_or(1), 1..=65_535);
        let mut lasting = |field, seconds: Seconds, least: u32, most: u32| {
            if !(least..=most * 1_000).contains(&seconds.millis()) {
                let least = f64::from(least) / 1_000.0;
                found.push((field, format!("must be {least} to {most} seconds")));
            }
        };
        let per_try = self.per_try_timeout_seconds.unwrap_or(Seconds::whole(1));
        lasting("perTryTimeoutSeconds", per_try, 10, 600);
        lasting("ejection.baseSeconds", ejection.base_seconds, 100, 3_600);
        lasting("ejection.maxSeconds", ejection.max_seconds, 100, 3_600);
        lasting("slowStartSeconds", self.slow_start_seconds, 0, 3_600);
        lasting("breaker.windowSeconds", breaker.window_seconds, 1_000, 60);
        lasting("breaker.openSeconds", breaker.open_seconds, 100, 3_600);
        if ejection.max_seconds.millis() < ejection.base_seconds.millis() {
            found.push(("ejection.maxSeconds", "must not be less than baseSeconds".to_owned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_may_be_left_out() {
        let read: Resilience = serde_json::from_str("{}").unwrap();
        assert_eq!(read, Resilience::default());
        assert!(read.violations().is_empty());
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written["slowStartSeconds"], 10.0);
        assert_eq!(serde_json::from_value::<Resilience>(written).unwrap(), read);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let fields = |text: &str| {
            let read: Resilience = serde_json::from_str(text).unwrap();
            read.violations().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(fields(r#"{"panicPercent": 101}"#), ["panicPercent"]);
        assert_eq!(fields(r#"{"maxConcurrent": 0}"#), ["maxConcurrent"]);
        assert_eq!(fields(r#"{"perTryTimeoutSeconds": 0}"#), ["perTryTimeoutSeconds"]);
        assert_eq!(fields(r#"{"breaker": {"windowSeconds": 61}}"#), ["breaker.windowSeconds"]);
        assert_eq!(fields(r#"{"ejection": {"maxSeconds": 1}}"#), ["ejection.maxSeconds"]);
    }

    #[test]
    fn unknown_fields_and_impossible_times_are_refused() {
        for bad in [
            r#"{"breakers": {}}"#,
            r#"{"breaker": {"percent": 5}}"#,
            r#"{"slowStartSeconds": -1}"#,
            r#"{"slowStartSeconds": 1e300}"#,
        ] {
            assert!(serde_json::from_str::<Resilience>(bad).is_err(), "{bad}");
        }
    }
}
