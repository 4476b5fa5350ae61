//! Usage, as owners and consumers see it.

use std::collections::BTreeMap;

use authz::Action;
use http::StatusCode;
use jiff::Timestamp;
use market::{ConsumerUsage, Kind, NamedFailure, Period, Tally, Usage, UsagePart};
use model::{ApiId, ApplicationId, FailedCallId, Name, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::{self, Call},
    endpoint::{Endpoint, get},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/apis/{id}/metrics", Action::ReadApiMetrics, "See the usage of an API")
            .query::<ApiMetricsQuery>()
            .answers::<ApiMetricsView>()
            .run(of_api),
        get(
            "/apis/{id}/availability",
            Action::ReadApiAvailability,
            "See how an API did in the last 24 hours",
        )
        .answers::<AvailabilityView>()
        .run(availability),
        get("/apis/{id}/errors", Action::ListApiFailures, "See calls of an API that failed lately")
            .query::<FailureQuery>()
            .answers::<FailuresView>()
            .run(failures_of_api),
        get(
            "/applications/{id}/errors",
            Action::ListApplicationFailures,
            "See calls by an application that failed lately",
        )
        .query::<FailureQuery>()
        .answers::<FailuresView>()
        .run(failures_of_application),
        get(
            "/applications/{id}/metrics",
            Action::ReadApplicationMetrics,
            "See the usage by an application",
        )
        .query::<PeriodQuery>()
        .answers::<ApplicationMetricsView>()
        .run(of_application),
        get("/analytics/consumers", Action::ReadConsumers, "See who calls the tenant's APIs most")
            .query::<ConsumersQuery>()
            .answers::<ConsumersView>()
            .run(consumers),
    ]
}

/// Which span of time.
#[derive(Deserialize, JsonSchema)]
struct PeriodQuery {
    /// `15m`, `1h`, `24h`, `7d` or `30d` (when absent).
    period: Option<String>,
}

/// Which part of an API's usage.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApiMetricsQuery {
    /// `15m`, `1h`, `24h`, `7d` or `30d` (when absent).
    period: Option<String>,
    /// Of this version only.
    version: Option<semver::Version>,
    /// Of this operation only: its place in the version's specification, from 0.
    operation: Option<u16>,
    /// By this application only.
    application_id: Option<ApplicationId>,
}

/// Usage of an API.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApiMetricsView {
    api_id: ApiId,
    name: Name,
    #[serde(flatten)]
    usage: UsageView,
    versions: Vec<VersionUsageView>,
    /// Most called first, at most 50.
    operations: Vec<OperationUsageView>,
    /// Most calls first, at most 50; only for the owner.
    consumers: Vec<ConsumerView>,
}

/// How an API did, without how often it was called.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AvailabilityView {
    api_id: ApiId,
    start_date: Timestamp,
    end_date: Timestamp,
    /// Percent of calls that were answered with a status below 500; absent with fewer than 20 calls.
    answered: Option<f64>,
    /// Half of the calls took less.
    p50_response_time_ms: Option<f64>,
    p95_response_time_ms: Option<f64>,
    /// Oldest first; the last one is not over yet.
    hours: Vec<AvailabilityHourView>,
}

/// An hour.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AvailabilityHourView {
    start_date: Timestamp,
    /// Percent; absent with fewer than 5 calls.
    answered: Option<f64>,
}

/// Usage of a version.
#[derive(Serialize, JsonSchema)]
struct VersionUsageView {
    version: String,
    #[serde(flatten)]
    counted: CountedView,
}

/// Usage of an operation.
#[derive(Serialize, JsonSchema)]
struct OperationUsageView {
    version: String,
    /// Its place in the version's specification, from 0; absent for calls that match no operation.
    operation: Option<u16>,
    method: Option<String>,
    /// Path template.
    path: Option<String>,
    #[serde(flatten)]
    counted: CountedView,
}

/// What was counted of a part.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CountedView {
    call_volume: u64,
    error_count: u64,
    /// Percent.
    error_rate: f64,
    average_response_time_ms: Option<f64>,
    p95_response_time_ms: Option<f64>,
    p99_response_time_ms: Option<f64>,
}

/// Which failures.
#[derive(Deserialize, JsonSchema)]
struct FailureQuery {
    /// `nextCursor` of the page before.
    cursor: Option<FailedCallId>,
    /// 1 to 200; 50 when absent.
    limit: Option<u32>,
}

/// Calls that failed lately, newest first. The newest thousand of each API are kept, for a week; of a storm of failures a
/// part.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FailuresView {
    items: Vec<FailureView>,
    /// Absent on the last page.
    next_cursor: Option<FailedCallId>,
}

/// A call that failed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FailureView {
    id: FailedCallId,
    at: Timestamp,
    /// What its answer said in `X-Request-Id`.
    request_id: String,
    /// 499 when the client went away before it was answered.
    status: u16,
    /// Whose fault it was: `client`, `gateway` or `upstream`.
    fault: &'static str,
    duration_ms: f64,
    api_id: ApiId,
    /// Absent when the API was removed.
    api_name: Option<Name>,
    version: Option<String>,
    method: Option<String>,
    /// Path template.
    path: Option<String>,
    application_id: ApplicationId,
    /// Absent when the application was removed.
    application_name: Option<Name>,
}

/// Usage by an application.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationMetricsView {
    application_id: ApplicationId,
    #[serde(flatten)]
    usage: UsageView,
}

/// Usage in a period.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UsageView {
    period: &'static str,
    start_date: Timestamp,
    end_date: Timestamp,
    metrics: MetricsView,
    /// By five minutes, hour or day.
    trends: Vec<TrendView>,
}

/// What was counted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MetricsView {
    call_volume: u64,
    unique_consumers: u64,
    average_response_time_ms: Option<f64>,
    p95_response_time_ms: Option<f64>,
    p99_response_time_ms: Option<f64>,
    /// Percent of calls that were answered with 400 or above.
    error_rate: f64,
    error_count: u64,
    request_bytes: u64,
    response_bytes: u64,
    /// Calls by status.
    status_codes: BTreeMap<u16, u64>,
}

/// What was counted in one step.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TrendView {
    start: Timestamp,
    call_volume: u64,
    average_response_time_ms: Option<f64>,
    p95_response_time_ms: Option<f64>,
    p99_response_time_ms: Option<f64>,
    error_rate: f64,
    error_count: u64,
}

/// Microseconds as milliseconds with three decimals.
fn millis(micros: Option<f64>) -> Option<f64> {
    micros.map(|micros| micros.round() / 1_000.0)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
    let share = part as f64 / whole as f64;
    (share * 10_000.0).round() / 100.0
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        let Usage { period, start, end, total, unique_consumers, trends } = usage;
        Self {
            period: period.as_str(),
            start_date: start,
            end_date: end,
            metrics: MetricsView {
                call_volume: total.calls,
                unique_consumers,
                average_response_time_ms: millis(total.latency.mean_micros()),
                p95_response_time_ms: millis(total.latency.quantile_micros(0.95)),
                p99_response_time_ms: millis(total.latency.quantile_micros(0.99)),
                error_rate: percent(total.errors, total.calls),
                error_count: total.errors,
                request_bytes: total.request_bytes,
                response_bytes: total.response_bytes,
                status_codes: total.status_codes,
            },
            trends: trends
                .into_iter()
                .map(|trend| TrendView {
                    start: trend.start,
                    call_volume: trend.tally.calls,
                    average_response_time_ms: millis(trend.tally.latency.mean_micros()),
                    p95_response_time_ms: millis(trend.tally.latency.quantile_micros(0.95)),
                    p99_response_time_ms: millis(trend.tally.latency.quantile_micros(0.99)),
                    error_rate: percent(trend.tally.errors, trend.tally.calls),
                    error_count: trend.tally.errors,
                })
                .collect(),
        }
    }
}

fn period(text: Option<&str>) -> Result<Period, Problem> {
    match text {
        None => Ok(Period::Month),
        Some(text) => Period::parse(text).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                "period must be 15m, 1h, 24h, 7d or 30d",
            )
        }),
    }
}

impl From<&Tally> for CountedView {
    fn from(tally: &Tally) -> Self {
        Self {
            call_volume: tally.calls,
            error_count: tally.errors,
            error_rate: percent(tally.errors, tally.calls),
            average_response_time_ms: millis(tally.latency.mean_micros()),
            p95_response_time_ms: millis(tally.latency.quantile_micros(0.95)),
            p99_response_time_ms: millis(tally.latency.quantile_micros(0.99)),
        }
    }
}

impl From<NamedFailure> for FailureView {
    fn from(failure: NamedFailure) -> Self {
        let NamedFailure { call, api, version, operation, application } = failure;
        let (method, path) = operation.unzip();
        Self {
            id: call.id,
            at: call.at,
            request_id: call.request_id,
            status: call.status,
            fault: call.fault.as_str(),
            duration_ms: f64::from(call.duration_micros) / 1_000.0,
            api_id: call.api,
            api_name: api,
            version: version.map(|version| version.to_string()),
            method,
            path,
            application_id: call.application,
            application_name: application,
        }
    }
}

async fn of_api(call: Call) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let query: ApiMetricsQuery = call.query()?;
    let period = period(query.period.as_deref())?;
    let ApiMetricsQuery { version, operation, application_id, .. } = query;
    let part = UsagePart { version, operation, application: application_id };
    let found = call.market.read_api_metrics(call.request(), id, period, &part).await?;
    let versions = found.versions.into_iter().map(|one| VersionUsageView {
        version: one.number.to_string(),
        counted: CountedView::from(&one.tally),
    });
    let operations = found.operations.into_iter().map(|one| {
        let (method, path) = one.operation.unzip();
        OperationUsageView {
            version: one.version.to_string(),
            operation: one.index,
            method,
            path,
            counted: CountedView::from(&one.tally),
        }
    });
    Ok(Reply::ok(&ApiMetricsView {
        api_id: found.api,
        name: found.name,
        usage: found.usage.into(),
        versions: versions.collect(),
        operations: operations.collect(),
        consumers: found.consumers.into_iter().map(ConsumerView::from).collect(),
    }))
}

async fn availability(call: Call) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let found = call.market.read_availability(call.request(), id).await?;
    let percent = |share: f64| (share * 10_000.0).round() / 100.0;
    let overall = found.overall;
    Ok(Reply::ok(&AvailabilityView {
        api_id: id,
        start_date: found.start,
        end_date: found.end,
        answered: overall.map(|standing| percent(standing.answered)),
        p50_response_time_ms: millis(overall.map(|standing| standing.p50_micros)),
        p95_response_time_ms: millis(overall.map(|standing| standing.p95_micros)),
        hours: found
            .hours
            .into_iter()
            .map(|(start_date, answered)| AvailabilityHourView {
                start_date,
                answered: answered.map(percent),
            })
            .collect(),
    }))
}

async fn failures_of_api(call: Call) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let query: FailureQuery = call.query()?;
    let (_, limit, _) = call::page(None, Some(query.limit.unwrap_or(50)))?;
    let found = call.market.list_api_failures(call.request(), id, query.cursor, limit).await?;
    Ok(failures(found, limit))
}

async fn failures_of_application(call: Call) -> Result<Reply, Problem> {
    let id: ApplicationId = call.id("id", Kind::Application)?;
    let query: FailureQuery = call.query()?;
    let (_, limit, _) = call::page(None, Some(query.limit.unwrap_or(50)))?;
    let market = &call.market;
    let found = market.list_application_failures(call.request(), id, query.cursor, limit).await?;
    Ok(failures(found, limit))
}

fn failures(found: Vec<NamedFailure>, limit: u32) -> Reply {
    let is_full = found.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = found.last().map(|failure| failure.call.id).filter(|_| is_full);
    let items = found.into_iter().map(FailureView::from).collect();
    Reply::ok(&FailuresView { items, next_cursor })
}

async fn of_application(call: Call) -> Result<Reply, Problem> {
    let id: ApplicationId = call.id("id", Kind::Application)?;
    let query: PeriodQuery = call.query()?;
    let period = period(query.period.as_deref())?;
    let usage = call.market.read_application_metrics(call.request(), id, period).await?;
    Ok(Reply::ok(&ApplicationMetricsView { application_id: id, usage: usage.into() }))
}

/// How many consumers of which span of time.
#[derive(Deserialize, JsonSchema)]
struct ConsumersQuery {
    /// `15m`, `1h`, `24h`, `7d` or `30d` (when absent).
    period: Option<String>,
    /// 1 to 100; 5 when absent.
    top: Option<u32>,
}

/// Who calls most.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConsumersView {
    period: &'static str,
    start_date: Timestamp,
    end_date: Timestamp,
    items: Vec<ConsumerView>,
}

/// A consumer.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConsumerView {
    application_id: ApplicationId,
    /// Absent when the application was removed.
    application_name: Option<Name>,
    tenant_id: TenantId,
    tenant_name: Option<Name>,
    call_volume: u64,
    error_count: u64,
    /// Percent.
    error_rate: f64,
    average_response_time_ms: Option<f64>,
}

impl From<ConsumerUsage> for ConsumerView {
    fn from(consumer: ConsumerUsage) -> Self {
        let Tally { calls, errors, ref latency, .. } = consumer.tally;
        Self {
            application_id: consumer.application,
            application_name: consumer.name,
            tenant_id: consumer.tenant,
            tenant_name: consumer.tenant_name,
            call_volume: calls,
            error_count: errors,
            error_rate: percent(errors, calls),
            average_response_time_ms: millis(latency.mean_micros()),
        }
    }
}

async fn consumers(call: Call) -> Result<Reply, Problem> {
    let query: ConsumersQuery = call.query()?;
    let period = period(query.period.as_deref())?;
    let top = query.top.unwrap_or(5);
    let (start, end, found) = call.market.read_consumers(call.request(), period, top).await?;
    let items = found.into_iter().map(ConsumerView::from).collect();
    Ok(Reply::ok(&ConsumersView {
        period: period.as_str(),
        start_date: start,
        end_date: end,
        items,
    }))
}
