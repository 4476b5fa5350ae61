//! Usage, as owners and consumers see it.

use std::collections::{BTreeMap, BTreeSet};

use authz::Action;
use jiff::{SignedDuration, Timestamp};
use model::{ApiId, ApplicationId, Name, TenantId};
use store::{
    Viewer,
    usage::{Grain, Rollup, Scope, Tally},
};

use crate::{Market, MarketError, Request, apis};

/// A span of time that ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The last hour, by five minutes.
    Hour,
    /// The last 24 hours, by hour.
    Day,
    /// The last 7 days, by day.
    Week,
    /// The last 30 days, by day.
    Month,
}

/// Usage of an API.
#[derive(Debug, Clone)]
pub struct ApiUsage {
    /// The API.
    pub api: ApiId,
    /// Its name.
    pub name: Name,
    /// Its usage, or the part of it that the caller may see.
    pub usage: Usage,
}

/// Usage in a period.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The period.
    pub period: Period,
    /// Where it starts.
    pub start: Timestamp,
    /// Where it ends.
    pub end: Timestamp,
    /// What was counted.
    pub total: Tally,
    /// How many applications called.
    pub unique_consumers: u64,
    /// What was counted, step by step.
    pub trends: Vec<Trend>,
}

/// What was counted in one step of a period.
#[derive(Debug, Clone)]
pub struct Trend {
    /// Where the step starts.
    pub start: Timestamp,
    /// What was counted.
    pub tally: Tally,
}

/// Usage by one consumer.
#[derive(Debug, Clone)]
pub struct ConsumerUsage {
    /// The application.
    pub application: ApplicationId,
    /// Its name; absent when it was removed.
    pub name: Option<Name>,
    /// Its tenant.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: Option<Name>,
    /// What was counted.
    pub tally: Tally,
}

impl Period {
    /// Reads `1h`, `24h`, `7d` or `30d`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Week, Self::Month]
            .into_iter()
            .find(|period| period.as_str() == text)
    }

    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    const fn hours(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
        }
    }

    const fn grain(self) -> Grain {
        match self {
            Self::Hour => Grain::Minute,
            Self::Day | Self::Week | Self::Month => Grain::Hour,
        }
    }

    const fn step_micros(self) -> i64 {
        match self {
            Self::Hour => 5 * 60_000_000,
            Self::Day => 3_600_000_000,
            Self::Week | Self::Month => 24 * 3_600_000_000,
        }
    }
}

impl Market {
    /// Usage of an API: all of it for its owner, one's own tenant's for others who see it.
    pub async fn read_api_metrics(
        &self,
        request: &Request,
        api: ApiId,
        period: Period,
    ) -> Result<ApiUsage, MarketError> {
        self.require(request, Action::ReadApiMetrics).await?;
        let mut tx = self.db.read().await?;
        let api = apis::find_visible(&mut tx, request, api).await?;
        let consumer = (!request.caller.acts_for(api.tenant)).then_some(request.caller.tenant);
        let (start, end) = self.span(period);
        let scope = Scope::Api(api.id, consumer);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        Ok(ApiUsage { api: api.id, name: api.name, usage: summarise(period, start, end, &rollups) })
    }

    /// Usage by an application of the caller's tenant.
    pub async fn read_application_metrics(
        &self,
        request: &Request,
        application: ApplicationId,
        period: Period,
    ) -> Result<Usage, MarketError> {
        self.require(request, Action::ReadApplicationMetrics).await?;
        let application = self.read_application(request, application).await?;
        let mut tx = self.db.read().await?;
        let (start, end) = self.span(period);
        let scope = Scope::Application(application.id);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        Ok(summarise(period, start, end, &rollups))
    }

    /// Usage of all APIs of the caller's tenant.
    pub async fn read_tenant_metrics(
        &self,
        request: &Request,
        period: Period,
    ) -> Result<Usage, MarketError> {
        self.require(request, Action::ReadConsumers).await?;
        let mut tx = self.db.read().await?;
        let (start, end) = self.span(period);
        let scope = Scope::Owner(request.caller.tenant);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        Ok(summarise(period, start, end, &rollups))
    }

    /// The applications that call the APIs of the caller's tenant most.
    pub async fn read_consumers(
        &self,
        request: &Request,
        period: Period,
        top: u32,
    ) -> Result<(Timestamp, Timestamp, Vec<ConsumerUsage>), MarketError> {
        self.require(request, Action::ReadConsumers).await?;
        let mut tx = self.db.read().await?;
        let (start, end) = self.span(period);
        let scope = Scope::Owner(request.caller.tenant);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        let mut by_application: BTreeMap<ApplicationId, (TenantId, Tally)> = BTreeMap::new();
        for rollup in &rollups {
            let entry = by_application.entry(rollup.application);
            let (_, tally) = entry.or_insert_with(|| (rollup.consumer, Tally::default()));
            tally.merge(&rollup.tally);
        }
        let mut ranked: Vec<_> = by_application.into_iter().collect();
        ranked.sort_by_key(|(id, (_, tally))| (std::cmp::Reverse(tally.calls), *id));
        ranked.truncate(usize::try_from(top.clamp(1, 100)).unwrap_or(100));
        let mut consumers = Vec::with_capacity(ranked.len());
        for (application, (tenant, tally)) in ranked {
            let found =
                store::application::find(&mut tx, Viewer::Installation, application).await?;
            let tenant_name = store::tenant::find(&mut tx, tenant).await?.map(|tenant| tenant.name);
            let name = found.map(|application| application.name);
            consumers.push(ConsumerUsage { application, name, tenant, tenant_name, tally });
        }
        Ok((start, end, consumers))
    }

    /// The period's span: its start falls on a step, so that the first step is whole.
    fn span(&self, period: Period) -> (Timestamp, Timestamp) {
        let end = self.clock.now();
        let start = end - SignedDuration::from_hours(period.hours());
        let micros = start.as_microsecond();
        let step = period.step_micros();
        let aligned = Timestamp::from_microsecond(micros - micros.rem_euclid(step));
        (aligned.unwrap_or(start), end)
    }
}

fn summarise(period: Period, start: Timestamp, end: Timestamp, rollups: &[Rollup]) -> Usage {
    let mut total = Tally::default();
    let mut consumers = BTreeSet::new();
    let step = period.step_micros();
    let mut steps: BTreeMap<i64, Tally> = BTreeMap::new();
    let mut at = start.as_microsecond();
    while at < end.as_microsecond() {
        steps.insert(at, Tally::default());
        at += step;
    }
    for rollup in rollups {
        total.merge(&rollup.tally);
        consumers.insert(rollup.application);
        let micros = rollup.start.as_microsecond();
        let slot = micros - (micros - start.as_microsecond()).rem_euclid(step);
        steps.entry(slot).or_default().merge(&rollup.tally);
    }
    let trends = steps
        .into_iter()
        .filter_map(|(micros, tally)| {
            Some(Trend { start: Timestamp::from_microsecond(micros).ok()?, tally })
        })
        .collect();
    Usage { period, start, end, total, unique_consumers: consumers.len() as u64, trends }
}
