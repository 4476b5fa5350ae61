//! Who uses whose data for what.

use askama::Template;
use axum::extract::Query;
use jiff::Timestamp;
use market::Registered;
use model::{Name, PersonalData, SubscriptionId};
use serde::Deserialize;

use super::page;
use crate::{
    csv::Csv,
    failure::Answer,
    format::Moment,
    frame::{Frame, Section},
    visit::Visit,
};

const IN_A_PAGE: u32 = 50;
/// How many agreements one file holds at most.
const EXPORTED: usize = 100_000;

#[derive(Template)]
#[template(path = "agreements.html")]
struct Register {
    frame: Frame,
    agreements: Vec<Agreement>,
    older: Option<String>,
}

struct Agreement {
    api: String,
    api_link: String,
    version: String,
    owner: String,
    consumer: String,
    application: String,
    purpose: String,
    data: &'static str,
    categories: String,
    status: &'static str,
    since: Moment,
    until: Option<Moment>,
    signed_by: Vec<String>,
}

/// Where the page begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    before: String,
}

pub(crate) async fn show(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let before = wanted.before.parse().ok();
    let found = visit.market().list_agreements(&visit.request, before, IN_A_PAGE).await?;
    let frame = visit.frame(Section::Audit, "Register of agreements").await?;
    let last = found.last().filter(|_| found.len() >= IN_A_PAGE as usize);
    let older = last.map(|last| format!("/agreements?before={}", last.subscription.id));
    let agreements = found.iter().map(|found| Agreement::of(&visit, found)).collect();
    page(&Register { frame, agreements, older })
}

/// A name, or what stands in its place when it is not known any more.
fn named(name: Option<&Name>, instead: &impl ToString) -> String {
    name.map_or_else(|| instead.to_string(), ToString::to_string)
}

impl Agreement {
    fn of(visit: &Visit, found: &Registered) -> Self {
        let agreement = &found.subscription;
        let personal = found.classification.as_ref().map(model::Classification::personal_data);
        let signed =
            |signature: &model::Signature| format!("{}: {}", signature.name, signature.meaning);
        let categories: Vec<_> =
            agreement.data_categories.iter().map(ToString::to_string).collect();
        Self {
            api: named(found.api.as_ref(), &agreement.api),
            api_link: format!("/apis/{}", agreement.api),
            version: found.version.clone().unwrap_or_default(),
            owner: named(found.owner.as_ref(), &agreement.owner),
            consumer: named(found.consumer.as_ref(), &agreement.consumer),
            application: named(found.application.as_ref(), &agreement.application),
            purpose: agreement.purpose_of_use.as_ref().map(ToString::to_string).unwrap_or_default(),
            data: match personal {
                Some(PersonalData::Health) => "health data",
                Some(PersonalData::Personal) => "personal data",
                Some(PersonalData::None) | None => "no personal data",
            },
            categories: categories.join(", "),
            status: agreement.status.as_str(),
            since: visit.moment(agreement.created_at),
            until: agreement.expires_at.map(|at| visit.moment(at)),
            signed_by: agreement.signatures.iter().map(signed).collect(),
        }
    }
}

/// The whole register as a file, newest first.
pub(crate) async fn export(visit: Visit) -> Answer {
    let mut csv = Csv::default();
    csv.line([
        "agreement",
        "status",
        "asked_at",
        "changed_at",
        "ends_at",
        "api",
        "version",
        "plan",
        "offered_by",
        "used_by",
        "application",
        "purpose",
        "data_categories",
        "personal_data",
        "regulations",
        "document_sha256",
        "signatures",
    ]);
    let (mut before, mut written): (Option<SubscriptionId>, usize) = (None, 0);
    while written < EXPORTED {
        let found = visit.market().list_agreements(&visit.request, before, 200).await?;
        before = found.last().map(|last| last.subscription.id);
        written += found.len();
        for agreement in &found {
            let cells = cells(agreement);
            csv.line(cells.iter().map(String::as_str));
        }
        if found.len() < 200 {
            break;
        }
    }
    Ok(csv.answer("agreements"))
}

fn cells(found: &Registered) -> [String; 17] {
    let agreement = &found.subscription;
    let at = |at: Timestamp| format!("{at:.0}");
    let list =
        |slugs: &[model::Slug]| slugs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let signed = |signature: &model::Signature| {
        format!(
            "{} {}: {} ({})",
            at(signature.at),
            signature.name,
            signature.meaning,
            signature.sha256
        )
    };
    let classification = found.classification.clone().unwrap_or_default();
    [
        agreement.id.to_string(),
        agreement.status.as_str().to_owned(),
        at(agreement.created_at),
        at(agreement.updated_at),
        agreement.expires_at.map(at).unwrap_or_default(),
        named(found.api.as_ref(), &agreement.api),
        found.version.clone().unwrap_or_default(),
        named(found.plan.as_ref(), &agreement.plan),
        named(found.owner.as_ref(), &agreement.owner),
        named(found.consumer.as_ref(), &agreement.consumer),
        named(found.application.as_ref(), &agreement.application),
        agreement.purpose_of_use.as_ref().map(ToString::to_string).unwrap_or_default(),
        list(&agreement.data_categories),
        classification.personal_data().as_str().to_owned(),
        list(&classification.regulatory_scope),
        agreement.agreement_sha256.clone().unwrap_or_default(),
        agreement.signatures.iter().map(signed).collect::<Vec<_>>().join("; "),
    ]
}
