//! What must I decide, and on what grounds.

use askama::Template;
use authz::Action;
use axum::{extract::Path, response::Response};
use http::StatusCode;
use market::{MarketError, Page, Review, SignatureDraft, SubscriptionMove, Violation};
use model::{
    Approval, Name, PersonalData, Signature, SubscriptionId, SubscriptionStatus, VersionStatus,
};

use super::{
    api::{Head, PlanCard, sensitivity},
    changes::{Changes, calls},
    id, page,
    sign_in::told,
};
use crate::{
    failure::{Answer, Failure, sentence},
    format::Moment,
    frame::{Flash, Frame, Section},
    visit::{Submission, Visit},
};

#[derive(Template)]
#[template(path = "approvals.html")]
struct List {
    frame: Frame,
    requests: Vec<Line>,
    versions: Vec<Line>,
}

/// Something that waits for a decision.
struct Line {
    what: String,
    detail: String,
    link: String,
    since: Moment,
}

#[derive(Template)]
#[template(path = "approval_agreement.html")]
struct Agreement {
    frame: Frame,
    id: String,
    revision: i64,
    api: String,
    api_link: String,
    version: String,
    facts: Vec<(&'static str, String)>,
    plan: PlanCard,
    is_phi: bool,
    is_pending: bool,
    /// Two people have to approve, and the visitor already has.
    has_approved: bool,
    /// Whoever approves has to sign.
    is_signed: bool,
    meaning: String,
    /// The visitor's account has a second factor, whose code belongs to a signature.
    has_second_factor: bool,
    status: &'static str,
    since: Moment,
    comments: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "approval_version.html")]
struct Version {
    frame: Frame,
    head: Head,
    number: String,
    status: &'static str,
    since: Moment,
    is_pending: bool,
    may_decide: bool,
    facts: Vec<(&'static str, String)>,
    /// None for a first version.
    changes: Option<Changes>,
    operations: usize,
    comments: String,
    problem: Option<String>,
}

pub(crate) async fn list(visit: Visit) -> Answer {
    let frame = visit.frame(Section::Approvals, "Approvals").await?;
    let found = visit.market().list_approvals(&visit.request, Page::numbered(1, 100)).await?;
    let mut requests = Vec::new();
    for agreement in found.subscriptions.items {
        let listing = visit.market().read_api(&visit.request, agreement.api).await?;
        let purpose = agreement
            .purpose_of_use
            .as_ref()
            .map_or_else(|| "no purpose named".to_owned(), ToString::to_string);
        requests.push(Line {
            what: format!("Access to {}", listing.api.name),
            detail: format!("{} · {purpose}", consumer(&visit, &agreement).await?),
            link: format!("/approvals/agreements/{}", agreement.id),
            since: visit.moment(agreement.created_at),
        });
    }
    let versions = found.versions.items.iter().map(|(api, version)| Line {
        what: format!("{} {}", api.name, version.number),
        detail: api.owner.name.to_string(),
        link: format!("/approvals/versions/{}/{}", api.id, version.number),
        since: visit.moment(version.created_at),
    });
    let versions = versions.collect();
    page(&List { frame, requests, versions })
}

/// Who would call: the application and its organisation.
async fn consumer(visit: &Visit, agreement: &model::Subscription) -> Result<String, Failure> {
    let (application, tenant) = visit.market().read_requester(&visit.request, agreement.id).await?;
    Ok(format!("{} of {}", application, tenant))
}

pub(crate) async fn agreement(visit: Visit, Path(agreement): Path<String>) -> Answer {
    show_agreement(&visit, id(&agreement)?, &Typed::default(), None).await
}

/// What was typed on the page of an agreement; of a password nothing is shown again.
#[derive(Default)]
struct Typed {
    comments: String,
    meaning: String,
}

async fn show_agreement(
    visit: &Visit,
    id: SubscriptionId,
    typed: &Typed,
    problem: Option<String>,
) -> Answer {
    let market = visit.market();
    let agreement = market.read_subscription(&visit.request, id).await?;
    let listing = market.read_api(&visit.request, agreement.api).await?;
    let plan = market.read_plan(&visit.request, agreement.plan).await?;
    let version = listing.versions.iter().find(|version| version.id == agreement.version);
    let frame = visit.frame(Section::Approvals, format!("Access to {}", listing.api.name)).await?;
    let classification = &listing.api.classification;
    let data = match classification.personal_data() {
        PersonalData::Health => "Health data of patients (PHI)",
        PersonalData::Personal => "Personal data",
        PersonalData::None => "No personal data",
    };
    let categories: Vec<_> = agreement.data_categories.iter().map(ToString::to_string).collect();
    let facts = [
        ("Who asks", consumer(visit, &agreement).await?),
        (
            "Purpose",
            agreement
                .purpose_of_use
                .as_ref()
                .map_or_else(|| "None was named".to_owned(), ToString::to_string),
        ),
        ("They would see", data.to_owned()),
        ("Kinds of data", categories.join(", ")),
        ("Agreement document", agreement.agreement_sha256.clone().unwrap_or_default()),
        ("Until", agreement.expires_at.map(|at| visit.moment(at).exact()).unwrap_or_default()),
        ("Approved by", approved_by(visit, &agreement, plan.approval).await?),
        ("Signed", signatures(visit, &agreement)),
    ];
    let is_wrong = problem.is_some();
    let has_second_factor =
        plan.is_signed && market.read_second_factor(&visit.request).await?.since.is_some();
    let mut response = page(&Agreement {
        frame,
        id: id.to_string(),
        revision: agreement.revision,
        api: listing.api.name.to_string(),
        api_link: format!("/apis/{}", listing.api.id),
        version: version.map_or_else(String::new, |version| version.number.to_string()),
        facts: facts.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        plan: PlanCard::of(&plan),
        is_phi: classification.contains_phi,
        is_pending: agreement.status == SubscriptionStatus::Pending,
        has_approved: agreement
            .first_approval
            .is_some_and(|first| first.by == visit.request.caller.user()),
        is_signed: plan.is_signed,
        meaning: match typed.meaning.as_str() {
            "" => "I approve this agreement".to_owned(),
            meaning => meaning.to_owned(),
        },
        has_second_factor,
        status: agreement.status.as_str(),
        since: visit.moment(agreement.created_at),
        comments: typed.comments.clone(),
        problem,
    })?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// How far an agreement is that takes two people.
async fn approved_by(
    visit: &Visit,
    agreement: &model::Subscription,
    approval: Approval,
) -> Result<String, Failure> {
    if approval != Approval::TwoPerson {
        return Ok(String::new());
    }
    let Some(first) = agreement.first_approval else {
        return Ok("nobody yet; two people have to approve".to_owned());
    };
    let name = match visit.market().read_first_approver(&visit.request, agreement.id).await? {
        Some(name) => name.to_string(),
        None => "somebody whose account was removed".to_owned(),
    };
    Ok(format!("{name}, {}; another person has to approve as well", visit.moment(first.at).exact()))
}

pub(crate) async fn decide_agreement(
    Path(agreement): Path<String>,
    submission: Submission,
) -> Answer {
    let Submission { visit, form } = &submission;
    let agreement: SubscriptionId = id(&agreement)?;
    let comments = form.text("comments").to_owned();
    let typed = Typed { comments: comments.clone(), meaning: form.text("meaning").to_owned() };
    let again = async |problem| show_agreement(visit, agreement, &typed, Some(problem)).await;
    let (market, request) = (visit.market(), &visit.request);
    let (moved, flash) = match form.text("decision") {
        "approve" => {
            let signature = match (form.filled("meaning"), form.raw("current-password")) {
                (None, "") => None,
                (meaning, password) => match Name::parse(meaning.unwrap_or_default()) {
                    Ok(meaning) => Some(SignatureDraft {
                        meaning,
                        password: password.to_owned(),
                        code: form.filled("code").map(ToOwned::to_owned),
                    }),
                    Err(error) => return again(sentence(&format!("What you mean {error}"))).await,
                },
            };
            let moved = market.approve_subscription(request, agreement, comments, signature).await;
            (moved, Flash::AccessGranted)
        }
        "reject" if comments.is_empty() => {
            let problem = "Say why it is rejected, so that the requester knows what to change.";
            return again(problem.to_owned()).await;
        }
        "reject" => {
            let step = SubscriptionMove::Reject;
            let moved = market.move_subscription(request, agreement, step, comments).await;
            (moved, Flash::AccessRejected)
        }
        _ => return Err(Failure::Unreadable),
    };
    match moved {
        Ok(moved) if moved.status == SubscriptionStatus::Pending => {
            Ok(visit.done(Flash::ApprovedByOne, "/approvals"))
        }
        Ok(_) => Ok(visit.done(flash, "/approvals")),
        Err(MarketError::Invalid(violations)) => again(signing(&violations)).await,
        Err(MarketError::Conflict(conflict)) => again(sentence(&conflict.to_string())).await,
        Err(other) => Err(other.into()),
    }
}

/// What is wrong, in the words of the page.
fn signing(violations: &[Violation]) -> String {
    match violations {
        [one] if one.field == "signature.currentPassword" => "The password is wrong.".to_owned(),
        [one] if one.field == "signature.code" => format!("The code {}.", one.message),
        [one] if one.field == "signature" => {
            "Sign it: say what you mean, and give your password.".to_owned()
        }
        violations => told(violations),
    }
}

/// Who signed, when, and what was meant.
fn signatures(visit: &Visit, agreement: &model::Subscription) -> String {
    let one = |signature: &Signature| {
        let at = visit.moment(signature.at).exact();
        format!("{}, {at}: {}", signature.name, signature.meaning)
    };
    agreement.signatures.iter().map(one).collect::<Vec<_>>().join("; ")
}

pub(crate) async fn version(visit: Visit, Path((api, number)): Path<(String, String)>) -> Answer {
    show_version(&visit, &api, &number, String::new(), None).await
}

async fn show_version(
    visit: &Visit,
    api: &str,
    number: &str,
    comments: String,
    problem: Option<String>,
) -> Result<Response, Failure> {
    visit.market().require(&visit.request, Action::ListApprovals).await?;
    let listing = visit.market().read_api(&visit.request, id(api)?).await?;
    let head = Head::of(visit, &listing, number, "Versions")?;
    let Some(version) = head.version.clone() else { return Err(Failure::NotFound) };
    let frame =
        visit.frame(Section::Approvals, format!("{} {}", listing.api.name, version.number)).await?;
    let operations = calls(visit, &listing, &version).await?;
    let changes = Changes::of(visit, &listing, &version).await?;
    let classification = &listing.api.classification;
    let slugs = |slugs: &[model::Slug]| {
        slugs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let facts = [
        ("Owner", listing.api.owner.name.to_string()),
        ("Contact", listing.api.owner.contact_email.to_string()),
        (
            "Health data of patients",
            if classification.contains_phi { "yes" } else { "no" }.to_owned(),
        ),
        ("Sensitivity", sensitivity(classification.sensitivity_level).to_owned()),
        ("Kinds of data", slugs(&classification.data_categories)),
        ("Regulation", slugs(&classification.regulatory_scope).to_uppercase()),
    ];
    let is_pending = version.status == VersionStatus::PendingApproval;
    let is_own = version.submitted_by == visit.request.caller.user();
    let is_wrong = problem.is_some();
    let mut response = page(&Version {
        frame,
        number: version.number.to_string(),
        status: version.status.as_str(),
        since: visit.moment(version.created_at),
        may_decide: is_pending && !is_own && visit.may(Action::ApproveVersion),
        is_pending,
        facts: facts.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        changes,
        operations: operations.len(),
        head,
        comments,
        problem,
    })?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

pub(crate) async fn decide_version(
    Path((api, number)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let Submission { visit, form } = &submission;
    let comments = form.text("comments").to_owned();
    let parsed = semver::Version::parse(&number).map_err(|_malformed| Failure::NotFound)?;
    let review = Review { number: Some(parsed), comments: comments.clone(), reasons: Vec::new() };
    let (decided, flash) = match form.text("decision") {
        "approve" => (
            visit.market().approve_version(&visit.request, id(&api)?, review).await,
            Flash::VersionApproved,
        ),
        "reject" if comments.is_empty() => {
            let problem =
                "Say why it is rejected, so that its provider knows what to change.".to_owned();
            return show_version(visit, &api, &number, comments, Some(problem)).await;
        }
        "reject" => {
            let review = Review { reasons: vec![comments.clone()], ..review };
            (
                visit.market().reject_version(&visit.request, id(&api)?, review).await,
                Flash::VersionRejected,
            )
        }
        _ => return Err(Failure::Unreadable),
    };
    match decided {
        Ok(_) => Ok(visit.done(flash, "/approvals")),
        Err(MarketError::Invalid(violations)) => {
            show_version(visit, &api, &number, comments, Some(told(&violations))).await
        }
        Err(MarketError::Conflict(conflict)) => {
            show_version(visit, &api, &number, comments, Some(sentence(&conflict.to_string())))
                .await
        }
        Err(other) => Err(other.into()),
    }
}
