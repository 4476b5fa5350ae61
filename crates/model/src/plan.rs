//! Plans: under which limits an API may be called, and who has to agree.

use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::{ApiId, Limit, Name, PlanId, TenantId};

/// Named limits that an API offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Identifier.
    pub id: PlanId,
    /// The API that offers it.
    pub api: ApiId,
    /// The tenant that owns the API.
    pub tenant: TenantId,
    /// Unique within the API.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// Limits of each subscriber.
    pub limits: Vec<Limit>,
    /// How many calls in a day or month.
    pub quota: Option<Quota>,
    /// Who has to agree to a subscription.
    pub approval: Approval,
    /// Whether whoever approves has to sign.
    pub is_signed: bool,
    /// Whether it takes new subscribers.
    pub is_open: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// Who has to agree to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody: it is active at once.
    Automatic,
    /// Somebody at the owner's tenant.
    Owner,
    /// Two people at the owner's tenant, one after the other.
    TwoPerson,
}

/// How many calls are allowed in a calendar period (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Calls in a period, at least 1.
    #[schemars(range(min = 1))]
    pub requests: u64,
    /// The period.
    pub period: QuotaPeriod,
}

/// A calendar period in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaPeriod {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl QuotaPeriod {
    /// Start and end of the period that contains `at`.
    pub fn bounds(self, at: Timestamp) -> (Timestamp, Timestamp) {
        let today = at.to_zoned(TimeZone::UTC).date();
        let (first, next) = match self {
            Self::Day => (today, today.tomorrow().unwrap_or(Date::MAX)),
            Self::Month => {
                let first = today.first_of_month();
                (first, today.last_of_month().tomorrow().unwrap_or(Date::MAX))
            }
        };
        let midnight = |date: Date| {
            date.to_zoned(TimeZone::UTC).as_ref().map_or(Timestamp::MAX, Zoned::timestamp)
        };
        (midnight(first), midnight(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_periods_are_calendar_days_and_months_in_utc() {
        let at: Timestamp = "2024-02-29T23:59:59Z".parse().unwrap();
        let text = |(start, end): (Timestamp, Timestamp)| format!("{start} {end}");
        assert_eq!(text(QuotaPeriod::Day.bounds(at)), "2024-02-29T00:00:00Z 2024-03-01T00:00:00Z");
        assert_eq!(
            text(QuotaPeriod::Month.bounds(at)),
            "2024-02-01T00:00:00Z 2024-03-01T00:00:00Z"
        );
    }
}
