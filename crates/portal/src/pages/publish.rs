//! What I publish: registering an API, its versions, plans and deployments.

use askama::Template;
use authz::Action;
use axum::{
    extract::{Path, Query},
    response::Response,
};
use http::StatusCode;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use market::{
    ApiDraft, ApiFilter, ApiListing, DeploymentDraft, Deprecation, LimitDraft, MarketError, Page,
    PlanDraft, SpecificationSource, SubscriptionFilter, TargetDraft, UpstreamDraft, VersionDraft,
    Violation, VisibilityDraft,
};
use model::{
    ApiId, Approval, Balance, Classification, Delivery, Email, LimitScope, Name, Owner, Protocol,
    Quota, QuotaPeriod, Resilience, Sensitivity, Slug, SubscriptionStatus, UpstreamTls, Validation,
    VersionStatus,
};
use serde::Deserialize;

use super::{
    api::{PlanCard, current},
    id, page,
    sign_in::told,
};
use crate::{
    failure::{Answer, Failure, sentence},
    form::Form,
    format::{Moment, grouped},
    frame::{Flash, Frame, Section},
    visit::{Submission, Visit},
};

/// The largest body of a call to a new deployment, in bytes.
const BODY_MAX: u64 = 10 << 20;
/// Findings that are shown.
const FINDINGS: usize = 200;

#[derive(Template)]
#[template(path = "publish.html")]
struct List {
    frame: Frame,
    apis: Vec<Line>,
    previous: Option<u32>,
    next: Option<u32>,
    pages: String,
}

/// APIs in a page of the list.
const LISTED: u32 = 50;

/// What the address of the list says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    page: Option<u32>,
}

struct Line {
    id: String,
    name: String,
    version: String,
    status: &'static str,
    versions: usize,
    changed: Moment,
}

#[derive(Template)]
#[template(path = "publish_new.html")]
struct Register {
    frame: Frame,
    typed: Form,
    problem: Option<String>,
    findings: Vec<Found>,
    categories: Vec<(String, String)>,
}

/// Something that is wrong with a specification, with the line where it is.
struct Found {
    severity: &'static str,
    message: String,
    place: String,
    excerpt: String,
}

#[derive(Template)]
#[template(path = "publish_api.html")]
struct Manage {
    frame: Frame,
    id: String,
    name: String,
    versions: Vec<VersionLine>,
    plans: Vec<PlanCard>,
    deployments: Vec<DeploymentLine>,
    consumers: Vec<ConsumerLine>,
    open_versions: Vec<String>,
    typed: Form,
    /// Which form could not be taken, and why.
    problem: Option<(&'static str, String)>,
    findings: Vec<Found>,
}

struct VersionLine {
    number: String,
    status: &'static str,
    since: Moment,
    comments: String,
    may_deprecate: bool,
    may_retire: bool,
}

struct DeploymentLine {
    id: String,
    version: String,
    route: String,
    targets: String,
}

struct ConsumerLine {
    name: String,
    tenant: String,
    version: String,
    status: &'static str,
}

pub(crate) async fn list(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    visit.market().require(&visit.request, Action::RegisterApi).await?;
    let frame = visit.frame(Section::Publish, "APIs we publish").await?;
    let owner = Some(visit.request.caller.tenant.to_string());
    let filter = ApiFilter { owner, ..ApiFilter::default() };
    let number = wanted.page.unwrap_or(1).clamp(1, 100_000);
    let listed = Page::numbered(number, LISTED);
    let found = visit.market().list_apis(&visit.request, &filter, listed).await?;
    let pages = found.total.div_ceil(LISTED.into()).max(1);
    let line = |listing: &ApiListing| {
        let shown = current(&listing.versions);
        Line {
            id: listing.api.id.to_string(),
            name: listing.api.name.to_string(),
            version: shown.map_or_else(String::new, |version| version.number.to_string()),
            status: shown.map_or("draft", |version| version.status.as_str()),
            versions: listing.versions.len(),
            changed: visit.moment(listing.api.updated_at),
        }
    };
    page(&List {
        frame,
        apis: found.items.iter().map(line).collect(),
        previous: (number > 1).then(|| number - 1),
        next: (u64::from(number) < pages).then(|| number + 1),
        pages: format!("Page {} of {}", number, grouped(pages)),
    })
}

pub(crate) async fn show_new(visit: Visit) -> Answer {
    visit.market().require(&visit.request, Action::RegisterApi).await?;
    new_form(&visit, Form::default(), None, Vec::new()).await
}

async fn new_form(
    visit: &Visit,
    typed: Form,
    problem: Option<String>,
    findings: Vec<Found>,
) -> Answer {
    let frame = visit.frame(Section::Publish, "Register an API").await?;
    let categories = visit.market().list_categories(&visit.request).await?;
    let categories =
        categories.iter().map(|category| (category.slug.to_string(), category.name.to_string()));
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let categories = categories.collect();
    let mut response = page(&Register { frame, typed, problem, findings, categories })?;
    *response.status_mut() = status;
    Ok(response)
}

pub(crate) async fn register(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let (draft, number) = match (draft(form), version(form)) {
        (Ok(draft), Ok(number)) => (draft, number),
        (draft, number) => {
            let mut all = draft.err().unwrap_or_default();
            all.extend(number.err());
            return new_form(visit, form.clone(), Some(told(&all)), Vec::new()).await;
        }
    };
    let source = SpecificationSource::Content(form.raw("specification").as_bytes().to_vec());
    match visit.market().register_api(&visit.request, None, draft, number, source).await {
        Ok(made) => Ok(visit.done(Flash::ApiRegistered, &format!("/publish/{}", made.api.id))),
        Err(error) => {
            let (problem, findings) = explained(error, form)?;
            new_form(visit, form.clone(), Some(problem), findings).await
        }
    }
}

/// What is said about an API, out of the form.
fn draft(form: &Form) -> Result<ApiDraft, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut wrong = |field: &str, error: String| violations.push(Violation::new(field, error));
    let name = Name::parse(form.text("name")).map_err(|error| wrong("name", error.to_string()));
    let team = Name::parse(form.text("owner")).map_err(|error| wrong("team", error.to_string()));
    let email =
        Email::parse(form.text("contact")).map_err(|error| wrong("contact", error.to_string()));
    let mut slugs = |field: &str| -> Vec<Slug> {
        let words = form.text(field).split([',', ' ', '\n']).filter(|word| !word.is_empty());
        words
            .filter_map(|word| {
                Slug::parse(word).map_err(|error| wrong(field, format!("“{word}” {error}"))).ok()
            })
            .collect()
    };
    let (tags, data_categories, regulatory_scope) =
        (slugs("tags"), slugs("data"), slugs("regulation"));
    let categories = slugs("category");
    match (name, team, email) {
        (Ok(name), Ok(team), Ok(contact_email)) if violations.is_empty() => Ok(ApiDraft {
            name,
            description: form.text("description").to_owned(),
            owner: Owner { name: team, contact_email },
            visibility: match form.text("visibility") {
                "public" => VisibilityDraft::Public,
                _ => VisibilityDraft::Private,
            },
            classification: Classification {
                contains_phi: form.text("personal") == "phi",
                contains_pii: matches!(form.text("personal"), "phi" | "pii"),
                regulatory_scope,
                sensitivity_level: match form.text("sensitivity") {
                    "public" => Sensitivity::Public,
                    "confidential" => Sensitivity::Confidential,
                    "restricted" => Sensitivity::Restricted,
                    _ => Sensitivity::Internal,
                },
                data_categories,
            },
            tags,
            categories,
            documentation_url: None,
            terms_of_service_url: None,
            license: None,
        }),
        _ => Err(violations),
    }
}

fn version(form: &Form) -> Result<semver::Version, Violation> {
    semver::Version::parse(form.text("version"))
        .map_err(|_malformed| Violation::new("version", "must have three numbers, such as 1.0.0"))
}

/// Why a form was not taken, for whoever filled it in; other failures are passed on.
fn explained(error: MarketError, form: &Form) -> Result<(String, Vec<Found>), Failure> {
    match error {
        MarketError::Invalid(violations) => Ok((told(&violations), Vec::new())),
        MarketError::Conflict(conflict) => Ok((sentence(&conflict.to_string()), Vec::new())),
        MarketError::Fetch(why) => Ok((sentence(&why), Vec::new())),
        MarketError::Specification(report) => {
            let lines: Vec<&str> = form.raw("specification").lines().collect();
            let found = |issue: &spec::Issue| Found {
                severity: match issue.severity {
                    spec::Severity::Error => "error",
                    spec::Severity::Warning => "warning",
                    spec::Severity::Info => "hint",
                },
                message: sentence(&issue.message),
                place: format!("line {}, column {}", issue.line, issue.column),
                excerpt: excerpt(&lines, issue.line),
            };
            let findings: Vec<_> = report.issues.iter().take(FINDINGS).map(found).collect();
            let problem = match report
                .issues
                .iter()
                .filter(|issue| issue.severity == spec::Severity::Error)
                .count()
            {
                1 => "The specification has an error, shown below. Nothing is registered yet."
                    .to_owned(),
                errors => format!(
                    "The specification has {errors} errors, shown below. Nothing is registered yet."
                ),
            };
            Ok((problem, findings))
        }
        other => Err(other.into()),
    }
}

/// The line that something is wrong with, and the one before it.
fn excerpt(lines: &[&str], line: u32) -> String {
    let at = usize::try_from(line).unwrap_or(0);
    let shown = (at.saturating_sub(1)..=at).filter_map(|number| {
        let text: String = lines.get(number.checked_sub(1)?)?.chars().take(160).collect();
        Some(format!("{number:>5}  {text}"))
    });
    shown.collect::<Vec<_>>().join("\n")
}

pub(crate) async fn show(visit: Visit, Path(api): Path<String>) -> Answer {
    manage(&visit, id(&api)?, Form::default(), None, Vec::new()).await
}

async fn manage(
    visit: &Visit,
    id: ApiId,
    typed: Form,
    problem: Option<(&'static str, String)>,
    findings: Vec<Found>,
) -> Answer {
    let market = visit.market();
    let listing = market.read_api(&visit.request, id).await?;
    if !visit.request.caller.acts_for(listing.api.tenant) {
        return Err(Failure::NotFound);
    }
    let frame = visit.frame(Section::Publish, listing.api.name.to_string()).await?;
    let mut versions = listing.versions.clone();
    versions.sort_by(|one, other| other.number.cmp(&one.number));
    let open = versions.iter().filter(|version| version.status.is_open());
    let open_versions = open.map(|version| version.number.to_string()).collect();
    let version_line = |version: &model::ApiVersion| VersionLine {
        number: version.number.to_string(),
        status: version.status.as_str(),
        since: visit.moment(version.updated_at),
        comments: version
            .decision
            .as_ref()
            .map_or_else(String::new, |decision| decision.comments.clone()),
        may_deprecate: version.status == VersionStatus::Active,
        may_retire: version.status == VersionStatus::Deprecated,
    };
    let number = |id| {
        let found = listing.versions.iter().find(|version| version.id == id);
        found.map_or_else(String::new, |version| version.number.to_string())
    };
    let deployed =
        market.list_deployments(&visit.request, Some(id), Page::numbered(1, 100)).await?;
    let endpoints = market.list_endpoints(&visit.request, id).await?;
    let deployments =
        deployed.items.iter().zip(&endpoints).map(|(deployment, endpoint)| DeploymentLine {
            id: deployment.id.to_string(),
            version: number(deployment.version),
            route: endpoint.url.clone(),
            targets: deployment
                .upstream
                .targets
                .iter()
                .map(|target| target.url.to_string())
                .collect::<Vec<_>>()
                .join(", "),
        });
    let deployments = deployments.collect();
    let filter =
        SubscriptionFilter { api: Some(id), as_owner: true, ..SubscriptionFilter::default() };
    let agreements =
        market.list_subscriptions(&visit.request, &filter, Page::numbered(1, 100)).await?;
    let mut consumers = Vec::new();
    for agreement in agreements.items {
        if !matches!(agreement.status, SubscriptionStatus::Active | SubscriptionStatus::Suspended) {
            continue;
        }
        let (name, tenant) = market.read_requester(&visit.request, agreement.id).await?;
        consumers.push(ConsumerLine {
            name: name.to_string(),
            tenant: tenant.to_string(),
            version: number(agreement.version),
            status: agreement.status.as_str(),
        });
    }
    let plans = market.list_plans(&visit.request, id).await?;
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let mut response = page(&Manage {
        id: id.to_string(),
        name: listing.api.name.to_string(),
        versions: versions.iter().map(version_line).collect(),
        plans: plans.iter().map(PlanCard::of).collect(),
        deployments,
        consumers,
        open_versions,
        typed,
        problem,
        findings,
        frame,
    })?;
    *response.status_mut() = status;
    Ok(response)
}

/// The page again after one of its forms: with what has been done, or with what is wrong.
async fn after<T>(
    submission: &Submission,
    api: ApiId,
    form_name: &'static str,
    outcome: Result<T, MarketError>,
    flash: Flash,
) -> Result<Response, Failure> {
    let Submission { visit, form } = submission;
    match outcome {
        Ok(_) => Ok(visit.done(flash, &format!("/publish/{api}"))),
        Err(error) => {
            let (problem, findings) = explained(error, form)?;
            manage(visit, api, form.clone(), Some((form_name, problem)), findings).await
        }
    }
}

async fn wrong(
    submission: &Submission,
    api: ApiId,
    form_name: &'static str,
    all: &[Violation],
) -> Answer {
    let Submission { visit, form } = submission;
    manage(visit, api, form.clone(), Some((form_name, told(all))), Vec::new()).await
}

pub(crate) async fn submit_version(Path(api): Path<String>, submission: Submission) -> Answer {
    let (visit, form, api) = (&submission.visit, &submission.form, id(&api)?);
    let number = match version(form) {
        Ok(number) => number,
        Err(violation) => return wrong(&submission, api, "version", &[violation]).await,
    };
    let source = SpecificationSource::Content(form.raw("specification").as_bytes().to_vec());
    let outcome =
        visit.market().submit_version(&visit.request, api, VersionDraft { number, source }).await;
    after(&submission, api, "version", outcome, Flash::VersionSubmitted).await
}

pub(crate) async fn change_version(
    Path((api, number)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let (visit, form, api) = (&submission.visit, &submission.form, id(&api)?);
    let number = semver::Version::parse(&number).map_err(|_malformed| Failure::NotFound)?;
    let market = visit.market();
    match form.text("step") {
        "deprecate" => {
            let sunset_at = match form.filled("sunset").map(day).transpose() {
                Ok(day) => day,
                Err(violation) => return wrong(&submission, api, "lifecycle", &[violation]).await,
            };
            let successor =
                form.filled("successor").and_then(|text| semver::Version::parse(text).ok());
            let deprecation = Deprecation { number: Some(number), sunset_at, successor };
            let outcome = market.deprecate_version(&visit.request, api, deprecation).await;
            after(&submission, api, "lifecycle", outcome, Flash::VersionDeprecated).await
        }
        "retire" => {
            let outcome = market.retire_version(&visit.request, api, Some(number)).await;
            after(&submission, api, "lifecycle", outcome, Flash::VersionRetired).await
        }
        _ => Err(Failure::Unreadable),
    }
}

/// The beginning of a day in UTC.
fn day(text: &str) -> Result<Timestamp, Violation> {
    let day: Result<Date, _> = text.parse();
    day.ok()
        .and_then(|day| day.to_zoned(TimeZone::UTC).ok())
        .map(|day| day.timestamp())
        .ok_or_else(|| Violation::new("last day", "must be a date, such as 2027-06-30"))
}

pub(crate) async fn create_plan(Path(api): Path<String>, submission: Submission) -> Answer {
    let (visit, form, api) = (&submission.visit, &submission.form, id(&api)?);
    let draft = match plan(form) {
        Ok(draft) => draft,
        Err(violation) => return wrong(&submission, api, "plan", &[violation]).await,
    };
    let outcome = visit.market().create_plan(&visit.request, api, draft).await;
    after(&submission, api, "plan", outcome, Flash::PlanCreated).await
}

fn plan(form: &Form) -> Result<PlanDraft, Violation> {
    let number = |field: &'static str| {
        let filled = form.filled(field).map(|text| text.replace([',', ' '], "").parse::<u64>());
        filled.transpose().map_err(|_malformed| Violation::new(field, "must be a whole number"))
    };
    let rate = number("calls a minute")?;
    let limits = match rate {
        None => Vec::new(),
        Some(rate) => {
            let requests = u32::try_from(rate)
                .map_err(|_too_many| Violation::new("calls a minute", "is too large"))?;
            vec![LimitDraft {
                name: Slug::parse("per-minute")
                    .map_err(|error| Violation::new("limit", error.to_string()))?,
                per: LimitScope::Application,
                requests: Some(requests),
                concurrent: None,
                window_seconds: Some(60),
                burst: None,
            }]
        }
    };
    Ok(PlanDraft {
        name: Name::parse(form.text("plan-name"))
            .map_err(|error| Violation::new("name", error.to_string()))?,
        description: form.text("plan-description").to_owned(),
        limits,
        quota: number("calls a month")?
            .map(|requests| Quota { requests, period: QuotaPeriod::Month }),
        approval: match form.text("approval") {
            "automatic" => Approval::Automatic,
            "two_person" => Approval::TwoPerson,
            _ => Approval::Owner,
        },
        is_signed: form.text("signed") == "yes",
        is_open: true,
    })
}

pub(crate) async fn deploy(Path(api): Path<String>, submission: Submission) -> Answer {
    let (visit, form, api) = (&submission.visit, &submission.form, id(&api)?);
    let number = match version(form) {
        Ok(number) => number,
        Err(violation) => return wrong(&submission, api, "deployment", &[violation]).await,
    };
    let targets = form.raw("targets").split_whitespace();
    let draft = DeploymentDraft {
        api,
        number,
        host: form.filled("host").map(ToOwned::to_owned),
        path_prefix: form.text("path").to_owned(),
        strip_prefix: form.text("strip") == "yes",
        upstream: UpstreamDraft {
            targets: targets.map(|url| TargetDraft { url: url.to_owned(), weight: 1 }).collect(),
            balance: Balance::default(),
            hash_on: None,
            protocol: Protocol::default(),
            tls: UpstreamTls::default(),
            health_check: None,
            timeout_seconds: 30.0,
            retries: 1,
            resilience: Resilience::default(),
        },
        limits: Vec::new(),
        max_body_bytes: BODY_MAX,
        delivery: Delivery::default(),
        validation: match form.text("validation") {
            "enforce" => Validation::Enforce,
            "warn" => Validation::Warn,
            _ => Validation::Off,
        },
    };
    let outcome = visit.market().deploy(&visit.request, draft).await;
    after(&submission, api, "deployment", outcome, Flash::Deployed).await
}

pub(crate) async fn remove_deployment(
    Path((api, deployment)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let (visit, api) = (&submission.visit, id(&api)?);
    let outcome = visit.market().remove_deployment(&visit.request, id(&deployment)?).await;
    after(&submission, api, "deployment", outcome, Flash::Undeployed).await
}
