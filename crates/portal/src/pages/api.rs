//! One API: can I use it, and how.

use askama::Template;
use authz::Action;
use axum::{
    extract::{Path, Query},
    response::Response,
};
use jiff::tz::TimeZone;
use market::{
    ApiListing, Availability, Endpoint, MarketError, Page, Period, SubscriptionDraft,
    SubscriptionFilter, UsagePart,
};
use model::{
    ApiVersion, Application, Approval, Limit, LimitAmount, LimitScope, Name, PersonalData, Plan,
    QuotaPeriod, SubscriptionStatus, VersionStatus,
};
use semver::Version;
use serde::Deserialize;
use spec::{OperationSummary, Syntax};

use super::{changes::Changes, id, page, sign_in::told};
use crate::{
    chart::{Sparkline, Strip},
    failure::{Answer, Failure, sentence},
    format::{Moment, duration, grouped, percent, quantile, query, short, whole},
    frame::{Flash, Frame, Section},
    markdown::SafeHtml,
    reference::{Operation, Reference, samples},
    visit::{Submission, Visit},
};

/// Versions of which it is said what they change.
const CHANGES: usize = 5;
/// Operations on one page of the reference.
const OPERATIONS: usize = 100;

/// What all pages of an API have in common.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) owner: String,
    pub(super) contact: String,
    /// The version that is shown.
    pub(super) version: Option<ApiVersion>,
    pub(super) is_phi: bool,
    pub(super) may_request: bool,
    pub(super) tab: &'static str,
}

#[derive(Template)]
#[template(path = "api_overview.html")]
struct Overview {
    frame: Frame,
    head: Head,
    description: SafeHtml,
    numbers: Option<Numbers>,
    operations: Vec<Line>,
    more_operations: usize,
    facts: Vec<(&'static str, String)>,
    links: Vec<(&'static str, String)>,
    agreements: Vec<Held>,
    endpoint: Option<String>,
    first_call: Option<String>,
    standing: Doing,
}

/// How an API did in the last 24 hours.
struct Doing {
    /// How it is in a word, as a status, and how its calls went; none after too few calls.
    told: Option<(&'static str, &'static str, String)>,
    hours: Strip,
}

/// Calls, errors and how long they took, of the last thirty days.
struct Numbers {
    calls: String,
    calls_line: Sparkline,
    errors: String,
    errors_line: Sparkline,
    p95: String,
    p95_line: Sparkline,
}

/// An operation in a line.
struct Line {
    index: usize,
    method: String,
    path: String,
    summary: String,
    is_deprecated: bool,
}

/// An agreement of the caller's own tenant.
struct Held {
    application: String,
    link: String,
    status: &'static str,
}

#[derive(Template)]
#[template(path = "api_reference.html")]
struct ReferenceList {
    frame: Frame,
    head: Head,
    search: String,
    groups: Vec<Group>,
    shown: usize,
    total: usize,
    previous: Option<String>,
    next: Option<String>,
}

/// Operations with the same first tag.
struct Group {
    name: String,
    lines: Vec<Line>,
}

#[derive(Template)]
#[template(path = "api_operation.html")]
struct OperationPage {
    frame: Frame,
    head: Head,
    line: Line,
    operation: Operation,
    samples: Vec<samples::Sample>,
    siblings: Vec<Line>,
    can_try: bool,
}

#[derive(Template)]
#[template(path = "api_versions.html")]
struct Versions {
    frame: Frame,
    head: Head,
    versions: Vec<VersionLine>,
    /// By the number of the version.
    changes: Vec<(String, Changes)>,
}

struct VersionLine {
    number: String,
    status: &'static str,
    since: Moment,
    notes: String,
    endpoint: Option<String>,
}

#[derive(Template)]
#[template(path = "api_plans.html")]
struct Plans {
    frame: Frame,
    head: Head,
    plans: Vec<PlanCard>,
}

/// A plan in words.
pub(super) struct PlanCard {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) limits: Vec<String>,
    pub(super) approval: &'static str,
    pub(super) is_open: bool,
}

#[derive(Template)]
#[template(path = "api_access.html")]
struct Ask {
    frame: Frame,
    head: Head,
    plans: Vec<PlanCard>,
    applications: Vec<Application>,
    /// What was chosen and typed.
    plan: String,
    application: String,
    purpose: String,
    problem: Option<String>,
}

/// What the address says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Shown {
    version: String,
    q: String,
    page: Option<usize>,
    plan: String,
}

impl Shown {
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// From 1.
    pub(super) fn page(&self) -> usize {
        self.page.unwrap_or(1)
    }
}

/// The version that people should use: the newest that is active, or else the newest that was published.
pub(super) fn current(versions: &[ApiVersion]) -> Option<&ApiVersion> {
    let newest = |fits: &dyn Fn(&ApiVersion) -> bool| {
        versions
            .iter()
            .filter(|version| fits(version))
            .max_by(|one, other| one.number.cmp(&other.number))
    };
    newest(&|version| version.status == VersionStatus::Active)
        .or_else(|| newest(&|version| version.status == VersionStatus::Deprecated))
        .or_else(|| newest(&|_| true))
}

impl Head {
    pub(super) fn of(
        visit: &Visit,
        listing: &ApiListing,
        wanted: &str,
        tab: &'static str,
    ) -> Result<Self, Failure> {
        let version = if wanted.is_empty() {
            current(&listing.versions).cloned()
        } else {
            let found =
                listing.versions.iter().find(|version| version.number.to_string() == wanted);
            Some(found.cloned().ok_or(Failure::NotFound)?)
        };
        let api = &listing.api;
        let is_open = version.as_ref().is_some_and(|version| version.status.is_open());
        Ok(Self {
            id: api.id.to_string(),
            name: api.name.to_string(),
            owner: api.owner.name.to_string(),
            contact: api.owner.contact_email.to_string(),
            is_phi: api.classification.contains_phi,
            may_request: is_open && visit.may(Action::RequestSubscription),
            version,
            tab,
        })
    }

    pub(super) fn number(&self) -> Option<&Version> {
        self.version.as_ref().map(|version| &version.number)
    }

    pub(super) fn status(&self) -> &'static str {
        self.version.as_ref().map_or("draft", |version| version.status.as_str())
    }

    pub(super) fn operation_link(&self, index: impl std::fmt::Display) -> String {
        self.link(&format!("reference/{index}"))
    }

    pub(super) fn try_link(&self, index: impl std::fmt::Display) -> String {
        self.link(&format!("reference/{index}/try"))
    }

    /// A page of the same version.
    pub(super) fn link(&self, place: &str) -> String {
        let version = self.number().map(ToString::to_string).unwrap_or_default();
        format!("/apis/{}/{place}?version={}", self.id, query(&version))
    }
}

pub(super) async fn load(
    visit: &Visit,
    api: &str,
    wanted: &str,
    tab: &'static str,
) -> Result<(ApiListing, Head, Frame), Failure> {
    let listing = visit.market().read_api(&visit.request, id(api)?).await?;
    let head = Head::of(visit, &listing, wanted, tab)?;
    let frame = visit.frame(Section::Catalogue, format!("{} · {tab}", listing.api.name)).await?;
    Ok((listing, head, frame))
}

pub(crate) async fn overview(
    visit: Visit,
    Path(api): Path<String>,
    Query(shown): Query<Shown>,
) -> Answer {
    let (listing, head, frame) = load(&visit, &api, &shown.version, "Overview").await?;
    let (market, api) = (visit.market(), &listing.api);
    let numbers = match market
        .read_api_metrics(&visit.request, api.id, Period::Month, &UsagePart::default())
        .await
    {
        Ok(found) if found.usage.total.calls > 0 => Some(Numbers::of(&found.usage)),
        Ok(_) | Err(MarketError::Forbidden(_)) => None,
        Err(other) => return Err(other.into()),
    };
    let summary = summary(&visit, &head).await?;
    let all = summary.as_ref().map_or(&[][..], |summary| &summary.operations);
    let operations: Vec<Line> = all.iter().enumerate().take(8).map(Line::of).collect();
    let endpoint = endpoint(&visit, &listing, &head).await?.map(|endpoint| endpoint.url);
    let first = all.iter().find(|operation| operation.method == "get").or(all.first());
    let first_call = first.zip(endpoint.as_ref()).map(|(operation, base)| {
        let url = format!("{base}{}", operation.path);
        let call = samples::Call {
            method: &operation.method.to_uppercase(),
            url: &url,
            key: "YOUR_KEY",
            body: None,
        };
        let [curl, ..] = samples::all(&call);
        curl.code
    });
    let links =
        [("Documentation", &api.documentation_url), ("Terms of use", &api.terms_of_service_url)];
    page(&Overview {
        description: SafeHtml::from_markdown(&api.description),
        more_operations: all.len().saturating_sub(operations.len()),
        operations,
        facts: facts(&listing),
        links: links
            .into_iter()
            .filter_map(|(label, url)| Some((label, url.as_ref()?.to_string())))
            .collect(),
        agreements: agreements(&visit, &listing).await?,
        standing: Doing::of(&market.read_availability(&visit.request, api.id).await?),
        numbers,
        endpoint,
        first_call,
        frame,
        head,
    })
}

impl Doing {
    fn of(found: &Availability) -> Self {
        let told = found.overall.map(|standing| {
            let (class, word) = match standing.answered {
                share if share >= WELL => ("active", "answers"),
                share if share >= BADLY => ("pending", "some calls fail"),
                _ => ("failed", "many calls fail"),
            };
            let words = format!(
                "{} of calls answered; half within {}, 95 % within {}.",
                share(standing.answered),
                duration(whole(standing.p50_micros)),
                duration(whole(standing.p95_micros)),
            );
            (class, word, words)
        });
        let hours = found.hours.iter().map(|(start, answered)| {
            let at = start.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
            match answered {
                None => (at + " UTC: too few calls to say", ""),
                Some(answered) => {
                    let class = match *answered {
                        share if share >= WELL => "good",
                        share if share >= BADLY => "fair",
                        _ => "poor",
                    };
                    (format!("{at} UTC: {} answered", share(*answered)), class)
                }
            }
        });
        Self { told, hours: Strip(hours.collect()) }
    }
}

/// With this share of calls answered an API does well, with less than [`BADLY`] it does badly.
const WELL: f64 = 0.995;
const BADLY: f64 = 0.95;

/// Such as `99.93 %`: rounded down, so that a call that failed shows.
fn share(answered: f64) -> String {
    let hundredths = (answered * 10_000.0 + 1e-6).floor() / 100.0;
    if hundredths >= 100.0 { "100 %".to_owned() } else { format!("{hundredths:.2} %") }
}

impl Numbers {
    fn of(usage: &market::Usage) -> Self {
        let line = |label, value: &dyn Fn(&market::Tally) -> u64| {
            Sparkline::new(label, usage.trends.iter().map(|trend| value(&trend.tally)).collect())
        };
        let p95 = |tally: &market::Tally| quantile(tally, 0.95);
        Self {
            calls: short(usage.total.calls),
            calls_line: line("Calls a day", &|tally| tally.calls),
            errors: percent(usage.total.errors, usage.total.calls),
            errors_line: line("Errors a day", &|tally| tally.errors),
            p95: duration(p95(&usage.total)),
            p95_line: line("95th percentile in microseconds", &p95),
        }
    }
}

async fn summary(visit: &Visit, head: &Head) -> Result<Option<spec::Summary>, Failure> {
    let Some(number) = head.number() else { return Ok(None) };
    Ok(Some(visit.market().read_summary_of(&visit.request, id(&head.id)?, Some(number)).await?))
}

/// Where the version that is shown is called.
async fn endpoint(
    visit: &Visit,
    listing: &ApiListing,
    head: &Head,
) -> Result<Option<Endpoint>, Failure> {
    let all = visit.market().list_endpoints(&visit.request, listing.api.id).await?;
    let version = head.version.as_ref().map(|version| version.id);
    Ok(all.into_iter().find(|endpoint| Some(endpoint.version) == version))
}

fn facts(listing: &ApiListing) -> Vec<(&'static str, String)> {
    let (api, classification) = (&listing.api, &listing.api.classification);
    let list = |slugs: &[model::Slug]| {
        slugs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let personal = match classification.personal_data() {
        PersonalData::Health => "Health data of patients (PHI)",
        PersonalData::Personal => "Personal data",
        PersonalData::None => "None",
    };
    let visibility = match &api.visibility {
        model::Visibility::Public => "All organisations",
        model::Visibility::Restricted(_) => "Some organisations",
        model::Visibility::Private => "The owner's organisation only",
    };
    let all = [
        ("Owner", api.owner.name.to_string()),
        ("Contact", api.owner.contact_email.to_string()),
        ("Personal data", personal.to_owned()),
        ("Sensitivity", sensitivity(classification.sensitivity_level).to_owned()),
        ("Kinds of data", list(&classification.data_categories)),
        ("Regulation", list(&classification.regulatory_scope).to_uppercase()),
        ("Offered to", visibility.to_owned()),
        ("Licence", api.license.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Categories", list(&api.categories)),
        ("Tags", list(&api.tags)),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// How much care data takes, in plain words.
pub(super) const fn sensitivity(level: model::Sensitivity) -> &'static str {
    match level {
        model::Sensitivity::Public => "public",
        model::Sensitivity::Internal => "internal",
        model::Sensitivity::Confidential => "confidential",
        model::Sensitivity::Restricted => "restricted",
    }
}

async fn agreements(visit: &Visit, listing: &ApiListing) -> Result<Vec<Held>, Failure> {
    if !visit.may(Action::ListApplications) {
        return Ok(Vec::new());
    }
    let filter = SubscriptionFilter { api: Some(listing.api.id), ..SubscriptionFilter::default() };
    let found =
        visit.market().list_subscriptions(&visit.request, &filter, Page::numbered(1, 20)).await?;
    let mut held = Vec::new();
    for agreement in found.items {
        let is_live = matches!(
            agreement.status,
            SubscriptionStatus::Active
                | SubscriptionStatus::Pending
                | SubscriptionStatus::Suspended
        );
        if agreement.consumer != visit.request.caller.tenant || !is_live {
            continue;
        }
        let application =
            visit.market().read_application(&visit.request, agreement.application).await?;
        held.push(Held {
            application: application.name.to_string(),
            link: format!("/applications/{}", application.id),
            status: agreement.status.as_str(),
        });
    }
    Ok(held)
}

impl Line {
    fn of((index, operation): (usize, &OperationSummary)) -> Self {
        let summary = operation.summary.clone().or_else(|| operation.operation_id.clone());
        Self {
            index,
            method: operation.method.to_uppercase(),
            path: operation.path.clone(),
            summary: summary.unwrap_or_default(),
            is_deprecated: operation.deprecated,
        }
    }

    fn fits(&self, words: &str) -> bool {
        let text = format!("{} {} {}", self.method, self.path, self.summary).to_lowercase();
        words.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }
}

pub(crate) async fn reference(
    visit: Visit,
    Path(api): Path<String>,
    Query(shown): Query<Shown>,
) -> Answer {
    let (_, head, frame) = load(&visit, &api, &shown.version, "Reference").await?;
    let summary = summary(&visit, &head).await?;
    let all = summary.map_or_else(Vec::new, |summary| summary.operations);
    let fitting: Vec<(usize, &OperationSummary)> =
        all.iter().enumerate().filter(|found| Line::of(*found).fits(&shown.q)).collect();
    let pages = fitting.len().div_ceil(OPERATIONS).max(1);
    let number = shown.page.unwrap_or(1).clamp(1, pages);
    let mut groups: Vec<Group> = Vec::new();
    for found in fitting.iter().skip((number - 1) * OPERATIONS).take(OPERATIONS) {
        let name = found.1.tags.first().cloned().unwrap_or_else(|| "Operations".to_owned());
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.lines.push(Line::of(*found)),
            None => groups.push(Group { name, lines: vec![Line::of(*found)] }),
        }
    }
    let to = |page: usize| format!("{}&q={}&page={page}", head.link("reference"), query(&shown.q));
    page(&ReferenceList {
        previous: (number > 1).then(|| to(number - 1)),
        next: (number < pages).then(|| to(number + 1)),
        shown: fitting.len(),
        total: all.len(),
        search: shown.q,
        groups,
        frame,
        head,
    })
}

/// An operation with what the specification says of it, for its page and for trying it.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) frame: Frame,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) operation: Operation,
    pub(super) endpoint: Option<Endpoint>,
    all: Vec<OperationSummary>,
}

pub(super) async fn find_operation(
    visit: &Visit,
    api: &str,
    index: &str,
    version: &str,
) -> Result<Found, Failure> {
    let (listing, head, frame) = load(visit, api, version, "Reference").await?;
    let index: usize = id(index)?;
    let all = summary(visit, &head).await?.ok_or(Failure::NotFound)?.operations;
    let wanted = all.get(index).ok_or(Failure::NotFound)?;
    let (method, path) = (wanted.method.to_uppercase(), wanted.path.clone());
    let found = visit
        .market()
        .read_specification_of(&visit.request, listing.api.id, head.number(), Some(Syntax::Json))
        .await?;
    let document = Reference::parse(&found.content).ok_or(Failure::NotFound)?;
    let operation = document.operation(&method, &path).ok_or(Failure::NotFound)?;
    let endpoint = endpoint(visit, &listing, &head).await?;
    Ok(Found { head, frame, method, path, operation, endpoint, all })
}

pub(crate) async fn operation(
    visit: Visit,
    Path((api, index)): Path<(String, String)>,
    Query(shown): Query<Shown>,
) -> Answer {
    let Found { head, mut frame, method, path, operation, endpoint, all, .. } =
        find_operation(&visit, &api, &index, &shown.version).await?;
    let index: usize = id(&index)?;
    frame.title = format!("{method} {path} · {}", head.name);
    let key = super::try_it::shown_key(&visit, &head).await?;
    let base = endpoint.as_ref().map_or("https://gateway.example", |endpoint| &endpoint.url);
    let url = format!("{base}{}", filled(&path, &operation));
    let body = operation.body.as_ref().and_then(|body| body.content.first());
    let call = samples::Call {
        method: &method,
        url: &url,
        key: &key,
        body: body.map(|content| (content.media_type.as_str(), content.example.as_str())),
    };
    let near = index.saturating_sub(20)..(index + 21).min(all.len());
    let siblings = all.iter().enumerate().skip(near.start).take(near.len()).map(Line::of).collect();
    let line = all.get(index).map(|found| Line::of((index, found))).ok_or(Failure::NotFound)?;
    page(&OperationPage {
        samples: samples::all(&call).into(),
        can_try: endpoint.is_some() && visit.may(Action::CreateCredential),
        line,
        operation,
        siblings,
        frame,
        head,
    })
}

/// A path with examples for its parameters, and the query that is required.
fn filled(path: &str, operation: &Operation) -> String {
    let mut text = path.to_owned();
    let mut query_parts = Vec::new();
    for parameter in &operation.parameters {
        let example = if parameter.example.is_empty() { "VALUE" } else { &parameter.example };
        match parameter.place.as_str() {
            "path" => text = text.replace(&format!("{{{}}}", parameter.name), &segment(example)),
            "query" if parameter.is_required => {
                query_parts.push((parameter.name.clone(), example.to_owned()))
            }
            _ => {}
        }
    }
    if !query_parts.is_empty() {
        text.push('?');
        text.push_str(&crate::form::Form::encoded(&query_parts));
    }
    text
}

/// A value as a segment of a path.
pub(super) fn segment(value: &str) -> String {
    query(value).replace('+', "%20")
}

pub(crate) async fn versions(
    visit: Visit,
    Path(api): Path<String>,
    Query(shown): Query<Shown>,
) -> Answer {
    let (listing, head, frame) = load(&visit, &api, &shown.version, "Versions").await?;
    let endpoints = visit.market().list_endpoints(&visit.request, listing.api.id).await?;
    let mut versions = listing.versions.clone();
    versions.sort_by(|one, other| other.number.cmp(&one.number));
    let line = |version: &ApiVersion| {
        let successor =
            version.successor.and_then(|id| listing.versions.iter().find(|other| other.id == id));
        let mut notes = Vec::new();
        if let Some(sunset) = version.sunset_at {
            notes.push(format!("works until {}", visit.moment(sunset).exact()));
        }
        if let Some(successor) = successor {
            notes.push(format!("move to {}", successor.number));
        }
        if let Some(decision) =
            version.decision.as_ref().filter(|decision| !decision.comments.is_empty())
        {
            notes.push(format!("reviewer: {}", decision.comments));
        }
        VersionLine {
            number: version.number.to_string(),
            status: version.status.as_str(),
            since: visit.moment(version.created_at),
            notes: notes.join("; "),
            endpoint: endpoints
                .iter()
                .find(|found| found.version == version.id)
                .map(|found| found.url.clone()),
        }
    };
    let lines = versions.iter().map(line).collect();
    let mut changes = Vec::new();
    for version in versions.iter().take(CHANGES) {
        if let Some(found) = Changes::of(&visit, &listing, version).await? {
            changes.push((version.number.to_string(), found));
        }
    }
    page(&Versions { versions: lines, changes, frame, head })
}

pub(crate) async fn plans(
    visit: Visit,
    Path(api): Path<String>,
    Query(shown): Query<Shown>,
) -> Answer {
    let (listing, head, frame) = load(&visit, &api, &shown.version, "Plans").await?;
    let plans = visit.market().list_plans(&visit.request, listing.api.id).await?;
    page(&Plans { plans: plans.iter().map(PlanCard::of).collect(), frame, head })
}

impl PlanCard {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut limits: Vec<String> = plan.limits.iter().map(limit_words).collect();
        if let Some(quota) = plan.quota {
            let period = match quota.period {
                QuotaPeriod::Day => "day",
                QuotaPeriod::Month => "month",
            };
            limits.push(format!("{} calls a {period} in all", grouped(quota.requests)));
        }
        Self {
            id: plan.id.to_string(),
            name: plan.name.to_string(),
            description: plan.description.clone(),
            limits,
            approval: match (plan.approval, plan.is_signed) {
                (Approval::Automatic, _) => "At once",
                (Approval::Owner, false) => "The owner decides",
                (Approval::Owner, true) => "The owner decides and signs",
                (Approval::TwoPerson, false) => "Two people of the owner decide",
                (Approval::TwoPerson, true) => "Two people of the owner decide and sign",
            },
            is_open: plan.is_open,
        }
    }
}

/// A limit in words: "100 calls a minute for each application".
fn limit_words(limit: &Limit) -> String {
    let whom = match limit.per {
        LimitScope::Tenant => "each organisation",
        LimitScope::Application => "each application",
        LimitScope::Credential => "each key",
        LimitScope::Route => "all callers together",
    };
    match limit.amount {
        LimitAmount::Rate { requests, window_seconds, .. } => {
            let window = match window_seconds {
                1 => "a second".to_owned(),
                60 => "a minute".to_owned(),
                3_600 => "an hour".to_owned(),
                86_400 => "a day".to_owned(),
                seconds => format!("in {} seconds", grouped(seconds.into())),
            };
            format!("{} calls {window} for {whom}", grouped(requests.into()))
        }
        LimitAmount::Concurrent { calls } => format!("{calls} calls at once for {whom}"),
    }
}

pub(crate) async fn ask(
    visit: Visit,
    Path(api): Path<String>,
    Query(shown): Query<Shown>,
) -> Answer {
    let chosen = Chosen { plan: shown.plan, ..Chosen::default() };
    ask_form(&visit, &api, chosen, None).await
}

#[derive(Default)]
struct Chosen {
    plan: String,
    application: String,
    purpose: String,
}

async fn ask_form(visit: &Visit, api: &str, chosen: Chosen, problem: Option<String>) -> Answer {
    let (listing, head, mut frame) = load(visit, api, "", "Plans").await?;
    frame.title = format!("Request access · {}", head.name);
    let plans = visit.market().list_plans(&visit.request, listing.api.id).await?;
    let open: Vec<PlanCard> = plans.iter().filter(|plan| plan.is_open).map(PlanCard::of).collect();
    let applications =
        visit.market().list_applications(&visit.request, Page::numbered(1, 200)).await?.items;
    let Chosen { plan, application, purpose } = chosen;
    let plan = if plan.is_empty() {
        open.first().map_or_else(String::new, |plan| plan.id.clone())
    } else {
        plan
    };
    let application = if application.is_empty() && applications.len() == 1 {
        applications.first().map_or_else(String::new, |only| only.id.to_string())
    } else {
        application
    };
    let is_wrong = problem.is_some();
    let mut response =
        page(&Ask { frame, head, plans: open, applications, plan, application, purpose, problem })?;
    if is_wrong {
        *response.status_mut() = http::StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

pub(crate) async fn request_access(
    Path(api): Path<String>,
    submission: Submission,
) -> Result<Response, Failure> {
    let Submission { visit, form } = &submission;
    let chosen = || Chosen {
        plan: form.text("plan").to_owned(),
        application: form.text("application").to_owned(),
        purpose: form.text("purpose").to_owned(),
    };
    let problem = |text: String| ask_form(visit, &api, chosen(), Some(text));
    let (Ok(plan), Ok(application)) = (form.text("plan").parse(), form.text("application").parse())
    else {
        return problem("Choose an application and a plan.".to_owned()).await;
    };
    let purpose_of_use = match form.filled("purpose").map(Name::parse).transpose() {
        Ok(purpose) => purpose,
        Err(error) => return problem(sentence(&format!("The purpose {error}"))).await,
    };
    let draft = SubscriptionDraft {
        application,
        api: id(&api)?,
        number: None,
        plan,
        purpose_of_use,
        data_categories: None,
        agreement_sha256: None,
        expires_at: None,
    };
    match visit.market().request_subscription(&visit.request, draft).await {
        Ok(agreement) => {
            let flash = match agreement.status {
                SubscriptionStatus::Active => Flash::AccessGranted,
                _ => Flash::AccessRequested,
            };
            Ok(visit.done(flash, &format!("/applications/{application}")))
        }
        Err(MarketError::Invalid(violations)) => problem(told(&violations)).await,
        Err(MarketError::Conflict(conflict)) => problem(sentence(&conflict.to_string())).await,
        Err(other) => Err(other.into()),
    }
}
