//! What is happening: calls, errors and how long they take.

use askama::Template;
use authz::Action;
use axum::extract::Query;
use jiff::tz::TimeZone;
use market::{ApiFilter, Page, Period, Usage};
use model::ApiId;
use serde::Deserialize;

use super::{id, page};
use crate::{
    chart::{Chart, Line},
    csv::Csv,
    failure::{Answer, Failure},
    format::{duration, grouped, percent, quantile, short},
    frame::{Frame, Section},
    visit::Visit,
};

const PERIODS: [(Period, &str); 4] = [
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
    export: String,
    is_empty: bool,
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

/// Who calls most.
struct Consumer {
    name: String,
    tenant: String,
    calls: String,
    errors: String,
    p95: String,
}

/// What the address says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    api: String,
    period: String,
}

impl Wanted {
    fn period(&self) -> Period {
        Period::parse(&self.period).unwrap_or(Period::Day)
    }

    fn api(&self) -> Result<Option<ApiId>, Failure> {
        if self.api.is_empty() { Ok(None) } else { id(&self.api).map(Some) }
    }
}

/// The usage that is asked for: of one API, or of all that the tenant offers.
async fn usage(visit: &Visit, api: Option<ApiId>, period: Period) -> Result<Usage, Failure> {
    match api {
        Some(api) => Ok(visit.market().read_api_metrics(&visit.request, api, period).await?.usage),
        None => Ok(visit.market().read_tenant_metrics(&visit.request, period).await?),
    }
}

pub(crate) async fn show(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let frame = visit.frame(Section::Traffic, "Traffic").await?;
    let period = wanted.period();
    let may_see_all = visit.may(Action::ReadConsumers);
    let filter = ApiFilter::default();
    let all =
        visit.market().list_apis(&visit.request, &filter, Page::numbered(1, 200)).await?.items;
    let api = match wanted.api()? {
        None if !may_see_all => all.first().map(|first| first.api.id),
        api => api,
    };
    let usage = match api {
        None if !may_see_all => return Err(Failure::NotFound),
        api => usage(&visit, api, period).await?,
    };
    let consumers = if api.is_none() {
        let (_, _, found) = visit.market().read_consumers(&visit.request, period, 10).await?;
        found.into_iter().map(Consumer::of).collect()
    } else {
        Vec::new()
    };
    let chosen = |id: ApiId| api == Some(id);
    let apis = all
        .iter()
        .map(|found| (found.api.id.to_string(), found.api.name.to_string(), chosen(found.api.id)));
    let periods = PERIODS.iter().map(|(known, words)| (known.as_str(), *words, *known == period));
    let api_query = api.map_or_else(String::new, |api| format!("api={api}&"));
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
        consumers,
        export: format!("/traffic.csv?{api_query}period={}", period.as_str()),
        is_empty: total.calls == 0,
        frame,
    })
}

/// The same as a file.
pub(crate) async fn export(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let period = wanted.period();
    let usage = usage(&visit, wanted.api()?, period).await?;
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
            Period::Hour | Period::Day => "%-d %b, %H:%M",
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
    fn of(found: market::ConsumerUsage) -> Self {
        let name = |name: Option<model::Name>, gone: &str| {
            name.map_or_else(|| gone.to_owned(), |name| name.to_string())
        };
        Self {
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
