//! Calling an operation from its page, through the gateway.
//!
//! The call is made by the portal with a key of one of the caller's applications that is made for this one call and revoked
//! after it: keys are shown once, and the portal knows none of the others. It is limited, counted and recorded like any
//! other call of that application.

use std::time::Duration;

use askama::Template;
use authz::Action;
use axum::extract::{Path, Query};
use jiff::SignedDuration;
use market::{CredentialDraft, MarketError, Page, Request, SubscriptionFilter};
use model::{Application, CredentialKind, CredentialStatus, Name, SubscriptionStatus};
use serde::Deserialize;

use super::{
    api::{Found, Head, find_operation, segment},
    id, page,
};
use crate::{
    failure::{Answer, Failure},
    form::Form,
    format::grouped,
    frame::Frame,
    visit::{Submission, Visit},
};

/// How long a call may take, and how much of its answer is shown.
const PATIENCE: Duration = Duration::from_secs(15);
const SHOWN: usize = 64 << 10;
/// How long the key of a call is good if it cannot be revoked after it.
const KEY_LIFE: SignedDuration = SignedDuration::from_mins(2);
/// How often it is asked whether gateways know the key already.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Template)]
#[template(path = "try_it.html")]
struct TryIt {
    frame: Frame,
    head: Head,
    index: String,
    method: String,
    path: String,
    fields: Vec<Field>,
    body: Option<(String, String)>,
    applications: Vec<Application>,
    application: String,
    result: Option<Outcome>,
}

/// A parameter to be filled in.
struct Field {
    name: String,
    place: String,
    is_required: bool,
    kind: String,
    value: String,
}

/// What came of a call.
enum Outcome {
    /// It could not be made.
    Problem(String),
    Answer {
        status: u16,
        reason: &'static str,
        is_good: bool,
        took: String,
        headers: Vec<(String, String)>,
        body: String,
        is_cut: bool,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Shown {
    version: String,
}

/// The beginning of a key of the caller that may call the API, for samples.
pub(super) async fn shown_key(visit: &Visit, head: &Head) -> Result<String, Failure> {
    if visit.may(Action::ListApplications) {
        for application in callers(visit, head).await? {
            let keys = visit.market().list_credentials(&visit.request, application.id).await?;
            let usable = keys.iter().find(|key| {
                key.status == CredentialStatus::Active && matches!(key.kind, CredentialKind::ApiKey)
            });
            if let Some(key) = usable {
                return Ok(format!("{}…", key.prefix));
            }
        }
    }
    Ok("YOUR_KEY".to_owned())
}

/// The caller's applications that may call the version that is shown.
async fn callers(visit: &Visit, head: &Head) -> Result<Vec<Application>, Failure> {
    let filter = SubscriptionFilter {
        status: Some(SubscriptionStatus::Active),
        api: Some(id(&head.id)?),
        ..SubscriptionFilter::default()
    };
    let found =
        visit.market().list_subscriptions(&visit.request, &filter, Page::numbered(1, 50)).await?;
    let version = head.version.as_ref().map(|version| version.id);
    let mut callers: Vec<Application> = Vec::new();
    for agreement in found.items {
        let fits =
            agreement.consumer == visit.request.caller.tenant && Some(agreement.version) == version;
        if fits && !callers.iter().any(|known| known.id == agreement.application) {
            callers.push(
                visit.market().read_application(&visit.request, agreement.application).await?,
            );
        }
    }
    Ok(callers)
}

pub(crate) async fn show(
    visit: Visit,
    Path((api, index)): Path<(String, String)>,
    Query(shown): Query<Shown>,
) -> Answer {
    visit.market().require(&visit.request, Action::CreateCredential).await?;
    let found = find_operation(&visit, &api, &index, &shown.version).await?;
    form(&visit, index, found, &Form::default(), None).await
}

async fn form(
    visit: &Visit,
    index: String,
    found: Found,
    typed: &Form,
    result: Option<Outcome>,
) -> Answer {
    let Found { head, mut frame, method, path, operation, .. } = found;
    frame.title = format!("Try {method} {path} · {}", head.name);
    let is_fresh = typed.raw("application").is_empty();
    let fields = operation.parameters.iter().filter(|parameter| parameter.place != "cookie");
    let fields = fields.map(|parameter| Field {
        value: if is_fresh && (parameter.is_required || parameter.place == "path") {
            parameter.example.clone()
        } else {
            typed.raw(&field_name(&parameter.place, &parameter.name)).to_owned()
        },
        name: parameter.name.clone(),
        place: parameter.place.clone(),
        is_required: parameter.is_required,
        kind: parameter.kind.clone(),
    });
    let content = operation.body.as_ref().and_then(|body| body.content.first());
    let body = content.map(|content| {
        let text = if is_fresh { content.example.clone() } else { typed.raw("body").to_owned() };
        (content.media_type.clone(), text)
    });
    let applications = callers(visit, &head).await?;
    let application = match typed.text("application") {
        "" => applications.first().map_or_else(String::new, |first| first.id.to_string()),
        chosen => chosen.to_owned(),
    };
    page(&TryIt {
        fields: fields.collect(),
        frame,
        head,
        index,
        method,
        path,
        body,
        applications,
        application,
        result,
    })
}

fn field_name(place: &str, name: &str) -> String {
    format!("{place}:{name}")
}

/// Makes the call.
pub(crate) async fn send(
    Path((api, index)): Path<(String, String)>,
    Query(shown): Query<Shown>,
    submission: Submission,
) -> Answer {
    let Submission { visit, form: typed } = &submission;
    let found = find_operation(visit, &api, &index, &shown.version).await?;
    let outcome = match call(visit, &found, typed).await {
        Ok(outcome) => outcome,
        Err(Failure::Market(error)) => match error.as_ref() {
            MarketError::Conflict(conflict) => {
                Outcome::Problem(crate::failure::sentence(&conflict.to_string()))
            }
            MarketError::NotFound(_) => {
                Outcome::Problem("Choose an application of yours.".to_owned())
            }
            _ => return Err(Failure::Market(error)),
        },
        Err(other) => return Err(other),
    };
    form(visit, index, found, typed, Some(outcome)).await
}

async fn call(visit: &Visit, found: &Found, typed: &Form) -> Result<Outcome, Failure> {
    let Some(endpoint) = &found.endpoint else {
        return Ok(Outcome::Problem(
            "This version is not deployed, so that it cannot be called yet.".to_owned(),
        ));
    };
    let url = match url(&endpoint.gateway_url, found, typed) {
        Ok(url) => url,
        Err(missing) => return Ok(Outcome::Problem(format!("Fill in {missing}: it is required."))),
    };
    let application = id(typed.text("application"))?;
    let now = visit.now();
    // Conditions of the form are for what it asks for, not for the key that is made on the way.
    let request = Request::plain(visit.request.caller.clone(), visit.request.request_id.clone());
    let draft = CredentialDraft {
        name: Name::parse("One call from the portal").map_err(|_never| Failure::Template)?,
        kind: CredentialKind::ApiKey,
        expires_at: Some(now + KEY_LIFE),
    };
    let issued = visit.market().create_credential(&request, application, draft).await?;
    let host = endpoint.host.as_deref();
    let outcome = exchange(visit, found, typed, (&url, host), &issued.secret).await;
    visit.market().discard_credential(&request, application, issued.credential.id).await?;
    Ok(outcome)
}

/// The address of the call, or the name of a parameter that is missing.
fn url(base: &str, found: &Found, typed: &Form) -> Result<String, String> {
    let (mut path, mut query) = (found.path.clone(), Vec::new());
    for parameter in &found.operation.parameters {
        let value = typed.text(&field_name(&parameter.place, &parameter.name));
        match parameter.place.as_str() {
            "path" if value.is_empty() => return Err(parameter.name.clone()),
            "path" => path = path.replace(&format!("{{{}}}", parameter.name), &segment(value)),
            "query" if !value.is_empty() => query.push((parameter.name.clone(), value.to_owned())),
            "query" | "header" if parameter.is_required && value.is_empty() => {
                return Err(parameter.name.clone());
            }
            _ => {}
        }
    }
    let query =
        if query.is_empty() { String::new() } else { format!("?{}", Form::encoded(&query)) };
    Ok(format!("{base}{path}{query}"))
}

async fn exchange(
    visit: &Visit,
    found: &Found,
    typed: &Form,
    (url, host): (&str, Option<&str>),
    key: &str,
) -> Outcome {
    let Ok(method) = http::Method::from_bytes(found.method.as_bytes()) else {
        return Outcome::Problem("The method cannot be called.".to_owned());
    };
    let client = &visit.portal.http;
    for attempt in 1..=ATTEMPTS {
        let mut request =
            client.request(method.clone(), url).timeout(PATIENCE).header("X-API-Key", key);
        // The connection goes to the gateway, wherever that name may lead.
        if let Some(host) = host {
            request = request.header("Host", host);
        }
        for (name, value) in headers(found, typed) {
            request = request.header(name, value);
        }
        if let Some(content) = found.operation.body.as_ref().and_then(|body| body.content.first()) {
            let body = typed.raw("body");
            if !body.trim().is_empty() {
                request = request.header("Content-Type", &content.media_type).body(body.to_owned());
            }
        }
        let began = visit.now();
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Problem(no_answer(&error, url)),
        };
        let outcome = read(answer, visit.now().duration_since(began)).await;
        // Gateways hear of the new key within moments. An answer of the real system is never asked for twice.
        if attempt == ATTEMPTS || !is_unknown_key(&outcome) {
            return outcome;
        }
        tokio::time::sleep(PAUSE * attempt).await;
    }
    Outcome::Problem("The gateway did not take the key.".to_owned())
}

/// The headers that were filled in. Those that say how a request is framed, where it goes and who makes it are not up to a
/// specification (OpenAPI 3.1, 4.8.12).
fn headers<'call>(found: &'call Found, typed: &'call Form) -> Vec<(&'call str, &'call str)> {
    const OURS: [&str; 12] = [
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
    ];
    let declared = found.operation.parameters.iter();
    declared
        .filter(|parameter| parameter.place == "header")
        .filter(|parameter| !OURS.contains(&parameter.name.to_ascii_lowercase().as_str()))
        .map(|parameter| {
            (parameter.name.as_str(), typed.text(&field_name("header", &parameter.name)))
        })
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Whether the gateway itself says that it does not know the key.
fn is_unknown_key(outcome: &Outcome) -> bool {
    let Outcome::Answer { status: 401, body, .. } = outcome else { return false };
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    problem
        .is_some_and(|problem| problem.get("code").is_some_and(|code| code == "invalid_credential"))
}

fn no_answer(error: &reqwest::Error, url: &str) -> String {
    let host = url.split('/').nth(2).unwrap_or_default();
    if error.is_timeout() {
        format!("No answer within {} seconds.", PATIENCE.as_secs())
    } else if error.is_connect() {
        format!(
            "The gateway could not be reached at {host}. It may be down, or its address in the settings may be wrong."
        )
    } else {
        "The call could not be made as it was filled in.".to_owned()
    }
}

async fn read(mut answer: reqwest::Response, took: SignedDuration) -> Outcome {
    let status = answer.status();
    let headers = answer.headers().iter();
    let headers = headers
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let (mut body, mut is_cut) = (Vec::new(), false);
    while let Ok(Some(part)) = answer.chunk().await {
        let left = SHOWN - body.len();
        body.extend_from_slice(part.get(..left.min(part.len())).unwrap_or_default());
        if part.len() > left {
            is_cut = true;
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let pretty = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok());
    Outcome::Answer {
        status: status.as_u16(),
        reason: status.canonical_reason().unwrap_or_default(),
        is_good: status.is_success(),
        took: format!("{} ms", grouped(u64::try_from(took.as_millis()).unwrap_or(0))),
        headers,
        body: pretty.unwrap_or(text),
        is_cut,
    }
}
