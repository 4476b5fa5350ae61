//! What is happening: calls, errors and how long they take.

use askama::Template;
use authz::Action;
use axum::extract::Query;
use jiff::tz::TimeZone;
use market::{
    ApiUsage, ConsumerUsage, NamedFailure, OperationUsage, Page, Period, Tally, TenantUsage, Usage,
    UsagePart, VersionUsage,
};
use model::ApiId;
use serde::Deserialize;

use super::{
    failures::{Failed, SHOWN},
    id, page,
};
use crate::{
    chart::{Chart, Line},
    csv::Csv,
    failure::{Answer, Failure},
    format::{duration, grouped, percent, quantile, query, short},
    frame::{Frame, Section},
    visit::Visit,
};

const PERIODS: [(Period, &str); 5] = [
    (Period::Quarter, "live: last 15 minutes"),
    (Period::Hour, "last hour"),
    (Period::Day, "last 24 hours"),
    (Period::Week, "last 7 days"),
    (Period::Month, "last 30 days"),
];

#[derive(Template)]
#[template(path = "traffic.html")]
struct Traffic {
    frame: Frame,
    apis: Vec<(String, String, bool)>,
    periods: Vec<(&'static str, &'static str, bool)>,
    may_see_all: bool,
    calls: String,
    errors: String,
    p50: String,
    p95: String,
    p99: String,
    consumers_count: u64,
    calls_chart: Chart,
    latency_chart: Chart,
    steps: Vec<Step>,
    codes: Vec<(u16, String)>,
    consumers: Vec<Consumer>,
    /// What the numbers are narrowed to, each with the address without it.
    narrowed: Vec<(String, String)>,
    versions: Vec<Part>,
    operations: Vec<Part>,
    /// None where no single API was chosen.
    failed: Option<Vec<Failed>>,
    export: String,
    is_empty: bool,
    /// The page brings itself up to date.
    is_live: bool,
}

/// A row of the table.
struct Step {
    start: String,
    calls: u64,
    errors: u64,
    share: String,
    p50: String,
    p95: String,
    p99: String,
}

/// A version or an operation.
struct Part {
    name: String,
    /// Where the numbers are narrowed to it; empty where they are already.
    link: String,
    calls: String,
    errors: String,
    p50: String,
    p95: String,
}

/// Who calls most.
struct Consumer {
    name: String,
    /// Where the numbers are narrowed to it; empty where they are already, or cannot be.
    link: String,
    tenant: String,
    calls: String,
    errors: String,
    p95: String,
}

/// What the address says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    api: String,
    period: String,
    version: String,
    operation: String,
    application: String,
}

impl Wanted {
    fn period(&self) -> Period {
        Period::parse(&self.period).unwrap_or(Period::Day)
    }

    fn api(&self) -> Result<Option<ApiId>, Failure> {
        if self.api.is_empty() { Ok(None) } else { id(&self.api).map(Some) }
    }

    fn part(&self) -> Result<UsagePart, Failure> {
        let unreadable = |_| Failure::NotFound;
        let version = Some(self.version.as_str()).filter(|text| !text.is_empty());
        let operation = Some(self.operation.as_str()).filter(|text| !text.is_empty());
        Ok(UsagePart {
            version: version.map(semver::Version::parse).transpose().map_err(unreadable)?,
            operation: operation
                .map(str::parse)
                .transpose()
                .map_err(|_not_a_number| Failure::NotFound)?,
            application: if self.application.is_empty() {
                None
            } else {
                Some(id(&self.application)?)
            },
        })
    }

    /// The address of these numbers.
    fn address(&self, page: &str) -> String {
        let mut address = format!("{page}?period={}", self.period().as_str());
        for (name, value) in [
            ("api", &self.api),
            ("version", &self.version),
            ("operation", &self.operation),
            ("application", &self.application),
        ] {
            if !value.is_empty() {
                address.push_str(&format!("&{name}={}", query(value)));
            }
        }
        address
    }
}

/// The numbers that are asked for.
struct Numbers {
    usage: Usage,
    versions: Vec<VersionUsage>,
    operations: Vec<OperationUsage>,
    consumers: Vec<ConsumerUsage>,
}

/// The numbers that are asked for: of one API, or of all that the tenant offers.
async fn numbers(visit: &Visit, wanted: &Wanted) -> Result<Numbers, Failure> {
    let (market, period) = (visit.market(), wanted.period());
    let Some(api) = wanted.api()? else {
        let TenantUsage { usage, consumers } =
            market.read_tenant_metrics(&visit.request, period, 10).await?;
        return Ok(Numbers { usage, versions: Vec::new(), operations: Vec::new(), consumers });
    };
    let found = market.read_api_metrics(&visit.request, api, period, &wanted.part()?).await?;
    let ApiUsage { usage, versions, operations, consumers, .. } = found;
    Ok(Numbers { usage, versions, operations, consumers })
}

pub(crate) async fn show(visit: Visit, Query(mut wanted): Query<Wanted>) -> Answer {
    let frame = visit.frame(Section::Traffic, "Traffic").await?;
    let period = wanted.period();
    let may_see_all = visit.may(Action::ReadConsumers);
    let all = visit.market().list_api_names(&visit.request, Page::numbered(1, 200)).await?;
    let api = match wanted.api()? {
        None if !may_see_all => all.first().map(|(id, _)| *id),
        api => api,
    };
    let api = match api {
        None if !may_see_all => return Err(Failure::NotFound),
        api => api,
    };
    wanted.api = api.map(|api| api.to_string()).unwrap_or_default();
    let Numbers { usage, versions, operations, consumers } = numbers(&visit, &wanted).await?;
    let failed = match api {
        None => None,
        Some(api) => {
            let part = wanted.part()?;
            let failures = visit.market().list_api_failures(&visit.request, api, None, 200).await?;
            let failures = failures.into_iter().filter(|failure| is_within(failure, &part));
            let failures = failures.take(SHOWN);
            Some(failures.map(|failure| Failed::of(&visit, failure)).collect())
        }
    };
    let chosen = |id: ApiId| api == Some(id);
    let apis = all.iter().map(|(id, name)| (id.to_string(), name.to_string(), chosen(*id)));
    let periods = PERIODS.iter().map(|(known, words)| (known.as_str(), *words, *known == period));
    let narrowed = narrowed(&wanted, &operations, &consumers);
    let total = &usage.total;
    page(&Traffic {
        apis: apis.collect(),
        periods: periods.collect(),
        may_see_all,
        calls: grouped(total.calls),
        errors: percent(total.errors, total.calls),
        p50: duration(quantile(total, 0.5)),
        p95: duration(quantile(total, 0.95)),
        p99: duration(quantile(total, 0.99)),
        consumers_count: usage.unique_consumers,
        calls_chart: calls_chart(&usage),
        latency_chart: latency_chart(&usage),
        steps: usage.trends.iter().rev().map(|trend| Step::of(trend, period)).collect(),
        codes: total.status_codes.iter().map(|(code, count)| (*code, grouped(*count))).collect(),
        consumers: consumers.into_iter().map(|one| Consumer::of(one, &wanted)).collect(),
        versions: versions.into_iter().map(|one| Part::of_version(&one, &wanted)).collect(),
        operations: operations.into_iter().map(|one| Part::of_operation(&one, &wanted)).collect(),
        narrowed,
        failed,
        export: wanted.address("/traffic.csv"),
        is_empty: total.calls == 0,
        is_live: period == Period::Quarter,
        frame,
    })
}

fn is_within(failure: &NamedFailure, part: &UsagePart) -> bool {
    (part.version.is_none() || failure.version == part.version)
        && (part.operation.is_none() || failure.call.operation == part.operation)
        && part.application.is_none_or(|application| failure.call.application == application)
}

/// What the numbers are narrowed to, and where they are not.
fn narrowed(
    wanted: &Wanted,
    operations: &[OperationUsage],
    consumers: &[ConsumerUsage],
) -> Vec<(String, String)> {
    let mut narrowed = Vec::new();
    let without = |wider: Wanted| wider.address("/traffic");
    if !wanted.operation.is_empty() {
        let name = match operations {
            [only] => operation_name(only),
            _ => "one operation".to_owned(),
        };
        narrowed.push((name, without(Wanted { operation: String::new(), ..wanted.clone() })));
    }
    if !wanted.version.is_empty() {
        let wider = Wanted { version: String::new(), operation: String::new(), ..wanted.clone() };
        narrowed.push((format!("version {}", wanted.version), without(wider)));
    }
    if !wanted.application.is_empty() {
        let name = match consumers {
            [ConsumerUsage { name: Some(name), .. }] => name.to_string(),
            _ => "one application".to_owned(),
        };
        narrowed.push((name, without(Wanted { application: String::new(), ..wanted.clone() })));
    }
    narrowed
}

fn operation_name(usage: &OperationUsage) -> String {
    match &usage.operation {
        Some((method, path)) => format!("{method} {path}"),
        None => "none of the specification".to_owned(),
    }
}

impl Part {
    fn new(name: String, link: String, tally: &Tally) -> Self {
        Self {
            name,
            link,
            calls: grouped(tally.calls),
            errors: percent(tally.errors, tally.calls),
            p50: duration(quantile(tally, 0.5)),
            p95: duration(quantile(tally, 0.95)),
        }
    }

    fn of_version(usage: &VersionUsage, wanted: &Wanted) -> Self {
        let version = usage.number.to_string();
        let link = if wanted.version.is_empty() {
            Wanted { version: version.clone(), ..wanted.clone() }.address("/traffic")
        } else {
            String::new()
        };
        Self::new(version, link, &usage.tally)
    }

    fn of_operation(usage: &OperationUsage, wanted: &Wanted) -> Self {
        let link = match usage.index {
            Some(index) if wanted.operation.is_empty() => {
                let (version, operation) = (usage.version.to_string(), index.to_string());
                Wanted { version, operation, ..wanted.clone() }.address("/traffic")
            }
            _ => String::new(),
        };
        let name = operation_name(usage);
        let name =
            if wanted.version.is_empty() { format!("{name} ({})", usage.version) } else { name };
        Self::new(name, link, &usage.tally)
    }
}

/// The same as a file.
pub(crate) async fn export(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let usage = numbers(&visit, &wanted).await?.usage;
    let mut csv = Csv::default();
    csv.line([
        "start",
        "calls",
        "errors",
        "p50_micros",
        "p95_micros",
        "p99_micros",
        "request_bytes",
        "response_bytes",
    ]);
    for trend in &usage.trends {
        let tally = &trend.tally;
        let numbers = [
            tally.calls,
            tally.errors,
            quantile(tally, 0.5),
            quantile(tally, 0.95),
            quantile(tally, 0.99),
            tally.request_bytes,
            tally.response_bytes,
        ];
        let cells: Vec<String> = std::iter::once(format!("{:.0}", trend.start))
            .chain(numbers.iter().map(ToString::to_string))
            .collect();
        csv.line(cells.iter().map(String::as_str));
    }
    Ok(csv.answer("traffic"))
}

impl Step {
    fn of(trend: &market::Trend, period: Period) -> Self {
        let tally = &trend.tally;
        let start = trend.start.to_zoned(TimeZone::UTC);
        let form = match period {
            Period::Quarter | Period::Hour | Period::Day => "%-d %b, %H:%M",
            Period::Week | Period::Month => "%-d %b %Y",
        };
        let took = |share| {
            if tally.calls == 0 { "–".to_owned() } else { duration(quantile(tally, share)) }
        };
        Self {
            start: start.strftime(form).to_string(),
            calls: tally.calls,
            errors: tally.errors,
            share: percent(tally.errors, tally.calls),
            p50: took(0.5),
            p95: took(0.95),
            p99: took(0.99),
        }
    }
}

impl Consumer {
    fn of(found: ConsumerUsage, wanted: &Wanted) -> Self {
        let application = found.application.to_string();
        let link = if wanted.api.is_empty() || !wanted.application.is_empty() {
            String::new()
        } else {
            Wanted { application, ..wanted.clone() }.address("/traffic")
        };
        let name = |name: Option<model::Name>, gone: &str| {
            name.map_or_else(|| gone.to_owned(), |name| name.to_string())
        };
        Self {
            link,
            name: name(found.name, "an application that is gone"),
            tenant: name(found.tenant_name, "an organisation that is gone"),
            calls: grouped(found.tally.calls),
            errors: percent(found.tally.errors, found.tally.calls),
            p95: duration(quantile(&found.tally, 0.95)),
        }
    }
}

fn span(usage: &Usage) -> (String, String) {
    let first = usage.start.to_zoned(TimeZone::UTC).strftime("%-d %b, %H:%M UTC").to_string();
    (first, "now".to_owned())
}

fn calls_chart(usage: &Usage) -> Chart {
    let line = |label, class, value: &dyn Fn(&market::Tally) -> u64| Line {
        label,
        class,
        points: usage.trends.iter().map(|trend| Some(value(&trend.tally))).collect(),
    };
    Chart {
        title: "Calls and errors".to_owned(),
        unit: short,
        lines: vec![
            line("calls", "calls", &|tally| tally.calls),
            line("errors", "errors", &|tally| tally.errors),
        ],
        span: span(usage),
    }
}

fn latency_chart(usage: &Usage) -> Chart {
    let line = |label, class, share: f64| Line {
        label,
        class,
        points: usage
            .trends
            .iter()
            .map(|trend| (trend.tally.calls > 0).then(|| quantile(&trend.tally, share)))
            .collect(),
    };
    Chart {
        title: "How long calls took".to_owned(),
        unit: duration,
        lines: vec![line("p99", "p99", 0.99), line("p95", "p95", 0.95), line("p50", "p50", 0.5)],
        span: span(usage),
    }
}
