//! Usage, as owners and consumers see it.

use std::collections::{BTreeMap, BTreeSet};

use authz::Action;
use jiff::{SignedDuration, Timestamp};
use model::{ApiId, ApplicationId, Name, TenantId};
use store::{
    Tx, Viewer,
    usage::{Grain, Rollup, Scope, Tally},
};

use crate::{Kind, Market, MarketError, Request, apis, failures::known_version, viewer};

/// A span of time that ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The last 15 minutes, by minute.
    Quarter,
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
    /// Its usage, or the part of it that was asked for and the caller may see.
    pub usage: Usage,
    /// By version, newest first.
    pub versions: Vec<VersionUsage>,
    /// By operation, most called first; at most 50.
    pub operations: Vec<OperationUsage>,
    /// By consumer, most calls first; at most 50, and only for the owner.
    pub consumers: Vec<ConsumerUsage>,
}

/// Usage of all APIs of a tenant.
#[derive(Debug, Clone)]
pub struct TenantUsage {
    /// Of all of them together.
    pub usage: Usage,
    /// By consumer, most calls first.
    pub consumers: Vec<ConsumerUsage>,
}

/// A part of an API's usage; all of it, where nothing is said.
#[derive(Debug, Clone, Default)]
pub struct UsagePart {
    /// Of this version only.
    pub version: Option<semver::Version>,
    /// Of this operation only, by its index in the version's specification.
    pub operation: Option<u16>,
    /// By this application only.
    pub application: Option<ApplicationId>,
}

/// Usage of one version.
#[derive(Debug, Clone)]
pub struct VersionUsage {
    /// Its number.
    pub number: semver::Version,
    /// What was counted.
    pub tally: Tally,
}

/// Usage of one operation.
#[derive(Debug, Clone)]
pub struct OperationUsage {
    /// The number of its version.
    pub version: semver::Version,
    /// Its index in the version's specification; none for calls that match no operation.
    pub index: Option<u16>,
    /// Its method and path template.
    pub operation: Option<(String, String)>,
    /// What was counted.
    pub tally: Tally,
}

/// The most consumers and operations that usage is told by.
const PARTS_MAX: usize = 50;

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
    /// Reads `15m`, `1h`, `24h`, `7d` or `30d`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Quarter, Self::Hour, Self::Day, Self::Week, Self::Month]
            .into_iter()
            .find(|period| period.as_str() == text)
    }

    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarter => "15m",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    const fn minutes(self) -> i64 {
        match self {
            Self::Quarter => 15,
            Self::Hour => 60,
            Self::Day => 24 * 60,
            Self::Week => 7 * 24 * 60,
            Self::Month => 30 * 24 * 60,
        }
    }

    const fn grain(self) -> Grain {
        match self {
            Self::Quarter | Self::Hour => Grain::Minute,
            Self::Day | Self::Week | Self::Month => Grain::Hour,
        }
    }

    const fn step_micros(self) -> i64 {
        match self {
            Self::Quarter => 60_000_000,
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
        part: &UsagePart,
    ) -> Result<ApiUsage, MarketError> {
        self.require(request, Action::ReadApiMetrics).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let api = apis::find_visible(&mut tx, request, api).await?;
        let is_own = request.caller.acts_for(api.tenant);
        let consumer = (!is_own).then_some(request.caller.tenant);
        let (start, end) = self.span(period);
        let scope = Scope::Api(api.id, consumer);
        let mut rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        let mut known = BTreeMap::new();
        let mut version = None;
        if let Some(number) = &part.version {
            let all = Viewer::Installation;
            let found = store::version::find_numbered(&mut tx, all, api.id, number).await?;
            version = Some(found.ok_or(MarketError::NotFound(Kind::Version))?.id);
        }
        rollups.retain(|rollup| {
            version.is_none_or(|version| rollup.version == version)
                && (part.operation.is_none() || rollup.operation == part.operation)
                && part.application.is_none_or(|application| rollup.application == application)
        });
        let by_operation = sums(&rollups, |rollup| (rollup.version, rollup.operation));
        let mut operations = Vec::new();
        for ((version, index), tally) in ranked(by_operation).into_iter().take(PARTS_MAX) {
            let Some(version) = known_version(&mut tx, &mut known, version).await? else {
                continue;
            };
            let operation = version.operation(index);
            let version = version.number.clone();
            operations.push(OperationUsage { version, index, operation, tally });
        }
        let mut versions = Vec::new();
        for (version, tally) in sums(&rollups, |rollup| rollup.version) {
            let Some(version) = known_version(&mut tx, &mut known, version).await? else {
                continue;
            };
            versions.push(VersionUsage { number: version.number.clone(), tally });
        }
        versions.sort_by(|one, other| other.number.cmp(&one.number));
        let consumers =
            if is_own { consumers(&mut tx, &rollups, PARTS_MAX).await? } else { Vec::new() };
        let usage = summarise(period, start, end, &rollups);
        Ok(ApiUsage { api: api.id, name: api.name, usage, versions, operations, consumers })
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
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let (start, end) = self.span(period);
        let scope = Scope::Application(application.id);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        Ok(summarise(period, start, end, &rollups))
    }

    /// Usage of all APIs of the caller's tenant, with those who call most. It is of no single API.
    pub async fn read_tenant_metrics(
        &self,
        request: &Request,
        period: Period,
        top: usize,
    ) -> Result<TenantUsage, MarketError> {
        self.require(request, Action::ReadConsumers).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let (start, end) = self.span(period);
        let scope = Scope::Owner(request.caller.tenant);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        let consumers = consumers(&mut tx, &rollups, top).await?;
        Ok(TenantUsage { usage: summarise(period, start, end, &rollups), consumers })
    }

    /// The applications that call the APIs of the caller's tenant most.
    pub async fn read_consumers(
        &self,
        request: &Request,
        period: Period,
        top: u32,
    ) -> Result<(Timestamp, Timestamp, Vec<ConsumerUsage>), MarketError> {
        self.require(request, Action::ReadConsumers).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let (start, end) = self.span(period);
        let scope = Scope::Owner(request.caller.tenant);
        let rollups = store::usage::list(&mut tx, scope, period.grain(), start, end).await?;
        let most = usize::try_from(top.clamp(1, 100)).unwrap_or(100);
        let consumers = consumers(&mut tx, &rollups, most).await?;
        Ok((start, end, consumers))
    }

    /// The period's span: its start falls on a step, so that the first step is whole.
    fn span(&self, period: Period) -> (Timestamp, Timestamp) {
        let end = self.clock.now();
        let start = end - SignedDuration::from_mins(period.minutes());
        let micros = start.as_microsecond();
        let step = period.step_micros();
        let aligned = Timestamp::from_microsecond(micros - micros.rem_euclid(step));
        (aligned.unwrap_or(start), end)
    }
}

/// The applications that called most, with their names.
async fn consumers(
    tx: &mut Tx,
    rollups: &[Rollup],
    most: usize,
) -> Result<Vec<ConsumerUsage>, MarketError> {
    let by_application = sums(rollups, |rollup| (rollup.application, rollup.consumer));
    let mut ranked = ranked(by_application);
    ranked.truncate(most);
    let mut consumers = Vec::with_capacity(ranked.len());
    for ((application, tenant), tally) in ranked {
        let found = store::application::find(tx, Viewer::Installation, application).await?;
        let tenant_name = store::tenant::find(tx, tenant).await?.map(|tenant| tenant.name);
        let name = found.map(|application| application.name);
        consumers.push(ConsumerUsage { application, name, tenant, tenant_name, tally });
    }
    Ok(consumers)
}

/// Adds up what was counted for each key.
fn sums<K: Ord>(rollups: &[Rollup], key: impl Fn(&Rollup) -> K) -> BTreeMap<K, Tally> {
    let mut sums: BTreeMap<K, Tally> = BTreeMap::new();
    for rollup in rollups {
        sums.entry(key(rollup)).or_default().merge(&rollup.tally);
    }
    sums
}

/// Most calls first.
fn ranked<K: Ord + Copy>(sums: BTreeMap<K, Tally>) -> Vec<(K, Tally)> {
    let mut ranked: Vec<_> = sums.into_iter().collect();
    ranked.sort_by_key(|(key, tally)| (std::cmp::Reverse(tally.calls), *key));
    ranked
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
