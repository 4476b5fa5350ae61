//! What do I own, and is it healthy: applications, their keys and their agreements.

use askama::Template;
use authz::Action;
use axum::{extract::Path, response::Response};
use http::StatusCode;
use jiff::SignedDuration;
use market::{
    ApplicationDraft, CredentialDraft, IssuedCredential, MarketError, Page, Period, QuotaUse,
    SubscriptionFilter, SubscriptionMove,
};
use model::{
    Application, ApplicationId, Credential, CredentialKind, CredentialStatus, Name, QuotaPeriod,
    SubscriptionStatus,
};

use super::{failures::Failed, id, page, sign_in::told};
use crate::{
    chart::Sparkline,
    failure::{Answer, Failure, sentence},
    format::{Moment, duration, grouped, percent, quantile, short},
    frame::{Flash, Frame, Section},
    visit::{Submission, Visit},
};

/// How long the old key works after a rotation, in seconds.
const OVERLAPS: [(u32, &str); 4] = [
    (0, "stops at once"),
    (3_600, "works for another hour"),
    (86_400, "works for another day"),
    (604_800, "works for another week"),
];
/// How long a new key works, in days.
const LIVES: [(i64, &str); 4] =
    [(90, "90 days"), (30, "30 days"), (365, "1 year"), (0, "until it is revoked")];

#[derive(Template)]
#[template(path = "applications.html")]
struct List {
    frame: Frame,
    applications: Vec<Line>,
    total: u64,
    may_create: bool,
    name: String,
    description: String,
    problem: Option<String>,
}

struct Line {
    id: String,
    name: String,
    description: String,
    changed: Moment,
}

#[derive(Template)]
#[template(path = "application.html")]
struct Show {
    frame: Frame,
    application: Application,
    numbers: Option<Numbers>,
    keys: Vec<Key>,
    /// Revoked or expired.
    former: Vec<Key>,
    agreements: Vec<Agreement>,
    failed: Vec<Failed>,
    may_change: bool,
    /// What was typed into the settings, when that could not be saved.
    typed: Option<Typed>,
    lives: [(i64, &'static str); 4],
    overlaps: [(u32, &'static str); 4],
    problem: Option<String>,
}

struct Numbers {
    calls: String,
    calls_line: Sparkline,
    errors: String,
    errors_line: Sparkline,
    p95: String,
}

struct Key {
    id: String,
    name: String,
    kind: &'static str,
    shown: String,
    status: &'static str,
    expires: Option<Moment>,
    used: Option<Moment>,
    made: Moment,
    is_live: bool,
    is_key: bool,
}

struct Agreement {
    id: String,
    api: String,
    api_link: String,
    version: String,
    plan: String,
    status: &'static str,
    since: Moment,
    comments: String,
    purpose: String,
    /// None when the plan has no quota, or the agreement is not in force.
    quota: Option<QuotaBar>,
    may_end: bool,
}

/// How much of a quota is used.
struct QuotaBar {
    used: u64,
    most: u64,
    words: String,
}

/// Settings as somebody typed them.
struct Typed {
    name: String,
    description: String,
    /// Whether somebody else has changed them meanwhile.
    is_stale: bool,
}

#[derive(Template)]
#[template(path = "key.html")]
struct NewKey {
    frame: Frame,
    application: Application,
    secret: String,
    gateway: String,
    expires: Option<Moment>,
    /// What becomes of the key that this one replaces.
    replaced: Option<String>,
}

pub(crate) async fn list(visit: Visit) -> Answer {
    list_with(&visit, String::new(), String::new(), None).await
}

async fn list_with(
    visit: &Visit,
    name: String,
    description: String,
    problem: Option<String>,
) -> Answer {
    let frame = visit.frame(Section::Applications, "My applications").await?;
    let all = visit.market().list_applications(&visit.request, Page::numbered(1, 200)).await?;
    let line = |application: &Application| Line {
        id: application.id.to_string(),
        name: application.name.to_string(),
        description: application.description.clone(),
        changed: visit.moment(application.updated_at),
    };
    let is_wrong = problem.is_some();
    let mut response = page(&List {
        frame,
        applications: all.items.iter().map(line).collect(),
        total: all.total,
        may_create: visit.may(Action::CreateApplication),
        name,
        description,
        problem,
    })?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

pub(crate) async fn create(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let (name, description) = (form.text("name").to_owned(), form.text("description").to_owned());
    let problem = match Name::parse(&name) {
        Err(error) => sentence(&format!("The name {error}")),
        Ok(parsed) => {
            let draft = ApplicationDraft { name: parsed, description: description.clone() };
            match visit.market().create_application(&visit.request, None, draft).await {
                Ok(made) => {
                    return Ok(visit
                        .done(Flash::ApplicationCreated, &format!("/applications/{}", made.id)));
                }
                Err(MarketError::Invalid(violations)) => told(&violations),
                Err(MarketError::Conflict(conflict)) => sentence(&conflict.to_string()),
                Err(other) => return Err(other.into()),
            }
        }
    };
    list_with(visit, name, description, Some(problem)).await
}

pub(crate) async fn show(visit: Visit, Path(application): Path<String>) -> Answer {
    show_with(&visit, id(&application)?, None).await
}

async fn show_with(visit: &Visit, id: ApplicationId, problem: Option<String>) -> Answer {
    show_typed(visit, id, None, problem).await
}

async fn show_typed(
    visit: &Visit,
    id: ApplicationId,
    typed: Option<Typed>,
    problem: Option<String>,
) -> Answer {
    let market = visit.market();
    let application = market.read_application(&visit.request, id).await?;
    let frame = visit.frame(Section::Applications, application.name.to_string()).await?;
    let usage = market.read_application_metrics(&visit.request, id, Period::Week).await?;
    let line = |label, value: &dyn Fn(&market::Tally) -> u64| {
        Sparkline::new(label, usage.trends.iter().map(|trend| value(&trend.tally)).collect())
    };
    let numbers = (usage.total.calls > 0).then(|| Numbers {
        calls: short(usage.total.calls),
        calls_line: line("Calls a day", &|tally| tally.calls),
        errors: percent(usage.total.errors, usage.total.calls),
        errors_line: line("Errors a day", &|tally| tally.errors),
        p95: duration(quantile(&usage.total, 0.95)),
    });
    let mut all = market.list_credentials(&visit.request, id).await?;
    all.sort_by_key(|key| std::cmp::Reverse(key.created_at));
    let (keys, former): (Vec<_>, Vec<_>) = all.iter().partition(|key| key.is_accepted(visit.now()));
    let shown = |keys: Vec<&Credential>| {
        keys.into_iter().take(50).map(|key| Key::of(visit, key)).collect::<Vec<_>>()
    };
    let failed = market.list_application_failures(&visit.request, id, None, 20).await?;
    let status = match &typed {
        Some(Typed { is_stale: true, .. }) => StatusCode::PRECONDITION_FAILED,
        _ if problem.is_some() => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    let mut response = page(&Show {
        keys: shown(keys),
        former: shown(former),
        agreements: agreements(visit, id).await?,
        failed: failed.into_iter().map(|failure| Failed::of(visit, failure)).collect(),
        may_change: visit.may(Action::CreateCredential),
        lives: LIVES,
        overlaps: OVERLAPS,
        frame,
        application,
        numbers,
        typed,
        problem,
    })?;
    *response.status_mut() = status;
    Ok(response)
}

impl Key {
    fn of(visit: &Visit, key: &Credential) -> Self {
        let now = visit.now();
        let is_live = key.is_accepted(now);
        let is_key = matches!(key.kind, CredentialKind::ApiKey);
        Self {
            id: key.id.to_string(),
            name: key.name.to_string(),
            kind: if is_key { "API key" } else { "client of the control API" },
            shown: format!("{}…{}", key.prefix, key.last_four),
            status: match key.status {
                CredentialStatus::Revoked => "revoked",
                CredentialStatus::Active if is_live => "active",
                CredentialStatus::Active => "expired",
            },
            expires: key.expires_at.map(|at| visit.moment(at)),
            used: key.last_used_at.map(|at| visit.moment(at)),
            made: visit.moment(key.created_at),
            is_live,
            is_key,
        }
    }
}

impl QuotaBar {
    fn of(found: QuotaUse) -> Self {
        let period = match found.quota.period {
            QuotaPeriod::Day => "today",
            QuotaPeriod::Month => "this month",
        };
        let (used, most) = (grouped(found.used), grouped(found.quota.requests));
        let words = format!("{used} of {most} {period} (UTC)");
        Self { used: found.used.min(found.quota.requests), most: found.quota.requests, words }
    }
}

async fn agreements(visit: &Visit, application: ApplicationId) -> Result<Vec<Agreement>, Failure> {
    let filter =
        SubscriptionFilter { application: Some(application), ..SubscriptionFilter::default() };
    let found =
        visit.market().list_subscriptions(&visit.request, &filter, Page::numbered(1, 100)).await?;
    let mut agreements = Vec::with_capacity(found.items.len());
    for agreement in found.items {
        let api = match visit.market().read_api(&visit.request, agreement.api).await {
            Ok(listing) => Some(listing),
            Err(MarketError::NotFound(_)) => None,
            Err(other) => return Err(other.into()),
        };
        let plan = match visit.market().read_plan(&visit.request, agreement.plan).await {
            Ok(plan) => plan.name.to_string(),
            Err(MarketError::NotFound(_)) => "a plan that is gone".to_owned(),
            Err(other) => return Err(other.into()),
        };
        let version = api.as_ref().and_then(|listing| {
            listing.versions.iter().find(|version| version.id == agreement.version)
        });
        let quota = if agreement.status == SubscriptionStatus::Active {
            visit.market().read_quota_use(&visit.request, agreement.id).await?
        } else {
            None
        };
        agreements.push(Agreement {
            quota: quota.map(QuotaBar::of),
            id: agreement.id.to_string(),
            api: api.as_ref().map_or_else(
                || "An API that is gone".to_owned(),
                |found| found.api.name.to_string(),
            ),
            api_link: format!("/apis/{}", agreement.api),
            version: version.map_or_else(String::new, |version| version.number.to_string()),
            plan,
            status: agreement.status.as_str(),
            since: visit.moment(agreement.updated_at),
            purpose: agreement.purpose_of_use.as_ref().map(ToString::to_string).unwrap_or_default(),
            may_end: visit.may(Action::CancelSubscription)
                && agreement.status.may_become(SubscriptionStatus::Cancelled),
            comments: agreement.comments,
        });
    }
    Ok(agreements)
}

pub(crate) async fn change(Path(application): Path<String>, submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let application: ApplicationId = id(&application)?;
    let typed = |is_stale| Typed {
        name: form.text("name").to_owned(),
        description: form.text("description").to_owned(),
        is_stale,
    };
    let problem = |text: String| show_typed(visit, application, Some(typed(false)), Some(text));
    let name = match Name::parse(form.text("name")) {
        Ok(name) => name,
        Err(error) => return problem(sentence(&format!("The name {error}"))).await,
    };
    let draft = ApplicationDraft { name, description: form.text("description").to_owned() };
    let market = visit.market();
    let action = Action::ReplaceApplication;
    match market.replace_application(&visit.request, action, application, draft).await {
        Ok(_) => Ok(visit.done(Flash::ApplicationSaved, &format!("/applications/{application}"))),
        Err(MarketError::Stale) => show_typed(visit, application, Some(typed(true)), None).await,
        Err(MarketError::Invalid(violations)) => problem(told(&violations)).await,
        Err(MarketError::Conflict(conflict)) => problem(sentence(&conflict.to_string())).await,
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn remove(Path(application): Path<String>, submission: Submission) -> Answer {
    let visit = &submission.visit;
    let application = id(&application)?;
    match visit.market().remove_application(&visit.request, application).await {
        Ok(()) => Ok(visit.done(Flash::ApplicationRemoved, "/applications")),
        Err(MarketError::Conflict(conflict)) => {
            show_with(visit, application, Some(sentence(&conflict.to_string()))).await
        }
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn create_key(Path(application): Path<String>, submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let application: ApplicationId = id(&application)?;
    let name = if form.text("name").is_empty() { "Key" } else { form.text("name") };
    let name = match Name::parse(name) {
        Ok(name) => name,
        Err(error) => {
            return show_with(visit, application, Some(sentence(&format!("The name {error}"))))
                .await;
        }
    };
    let days = form.text("days").parse::<i64>().ok().filter(|days| (1..=3_650).contains(days));
    let expires_at = days.map(|days| visit.now() + SignedDuration::from_hours(24 * days));
    let draft = CredentialDraft { name, kind: CredentialKind::ApiKey, expires_at };
    match visit.market().create_credential(&visit.request, application, draft).await {
        Ok(issued) => new_key(visit, application, issued, None).await,
        Err(MarketError::Invalid(violations)) => {
            show_with(visit, application, Some(told(&violations))).await
        }
        Err(MarketError::Conflict(conflict)) => {
            show_with(visit, application, Some(sentence(&conflict.to_string()))).await
        }
        Err(other) => Err(other.into()),
    }
}

/// The page that shows a key, this once.
async fn new_key(
    visit: &Visit,
    application: ApplicationId,
    issued: IssuedCredential,
    replaced: Option<String>,
) -> Result<Response, Failure> {
    let application = visit.market().read_application(&visit.request, application).await?;
    let frame =
        visit.frame(Section::Applications, format!("New key · {}", application.name)).await?;
    page(&NewKey {
        gateway: visit.market().gateway_url().trim_end_matches('/').to_owned(),
        expires: issued.credential.expires_at.map(|at| visit.moment(at)),
        secret: issued.secret,
        frame,
        application,
        replaced,
    })
}

pub(crate) async fn rotate_key(
    Path((application, key)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let Submission { visit, form } = &submission;
    let application: ApplicationId = id(&application)?;
    let overlap = form.text("overlap").parse().unwrap_or(0);
    match visit.market().rotate_credential(&visit.request, application, id(&key)?, overlap).await {
        Ok(rotation) => {
            let words =
                OVERLAPS.iter().find(|(seconds, _)| *seconds == overlap).map(|(_, words)| *words);
            let old = format!(
                "The old key ({}…) {}.",
                rotation.replaced.prefix,
                words.unwrap_or("works for a while")
            );
            new_key(visit, application, rotation.issued, Some(old)).await
        }
        Err(MarketError::Invalid(violations)) => {
            show_with(visit, application, Some(told(&violations))).await
        }
        Err(MarketError::Conflict(conflict)) => {
            show_with(visit, application, Some(sentence(&conflict.to_string()))).await
        }
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn revoke_key(
    Path((application, key)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let visit = &submission.visit;
    let application: ApplicationId = id(&application)?;
    match visit.market().revoke_credential(&visit.request, application, id(&key)?).await {
        Ok(()) => Ok(visit.done(Flash::KeyRevoked, &format!("/applications/{application}"))),
        Err(MarketError::Conflict(conflict)) => {
            show_with(visit, application, Some(sentence(&conflict.to_string()))).await
        }
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn end_agreement(
    Path((application, agreement)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let visit = &submission.visit;
    let application: ApplicationId = id(&application)?;
    let step = SubscriptionMove::Cancel;
    match visit
        .market()
        .move_subscription(&visit.request, id(&agreement)?, step, String::new())
        .await
    {
        Ok(_) => Ok(visit.done(Flash::AgreementEnded, &format!("/applications/{application}"))),
        Err(MarketError::Conflict(conflict)) => {
            show_with(visit, application, Some(sentence(&conflict.to_string()))).await
        }
        Err(other) => Err(other.into()),
    }
}
