//! Who did what.

use askama::Template;
use authz::Action;
use axum::extract::Query;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use market::{AuditFilter, NamedAuditEntry};
use model::AuditOutcome;
use serde::Deserialize;

use super::page;
use crate::{
    csv::Csv,
    failure::Answer,
    format::{Moment, query},
    frame::{Frame, Section},
    visit::Visit,
};

const IN_A_PAGE: u32 = 50;
/// How many entries one file holds at most.
const EXPORTED: usize = 10_000;

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    entries: Vec<Entry>,
    actions: Vec<(&'static str, bool)>,
    wanted: Wanted,
    older: Option<String>,
    export: String,
    is_filtered: bool,
}

struct Entry {
    at: Moment,
    who: String,
    who_link: String,
    action: String,
    about: String,
    about_link: String,
    is_denied: bool,
    details: String,
    request_id: String,
}

/// What the address says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    actor: String,
    action: String,
    target: String,
    from: String,
    until: String,
    before: String,
}

impl Wanted {
    fn filter(&self) -> AuditFilter {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        AuditFilter {
            actor: text(&self.actor),
            action: text(&self.action),
            target: text(&self.target),
            from: day(&self.from, 0),
            until: day(&self.until, 1),
            before: self.before.parse().ok(),
        }
    }

    fn link(&self, page: &str) -> String {
        let all = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("target", &self.target),
            ("from", &self.from),
            ("until", &self.until),
            ("before", &self.before),
        ];
        let parts: Vec<_> = all
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", query(value)))
            .collect();
        format!("{page}?{}", parts.join("&"))
    }
}

/// The beginning of a day in UTC, so many days later.
fn day(text: &str, later: i8) -> Option<Timestamp> {
    let date: Date = text.parse().ok()?;
    let mut date = date;
    for _ in 0..later {
        date = date.tomorrow().ok()?;
    }
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

pub(crate) async fn show(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let found =
        visit.market().list_audit_trail(&visit.request, &wanted.filter(), IN_A_PAGE).await?;
    let frame = visit.frame(Section::Audit, "Audit").await?;
    let last = found.last().map(|last| last.entry.id.to_string());
    let older = last.filter(|_| found.len() >= IN_A_PAGE as usize);
    let filter = Wanted { before: String::new(), ..wanted.clone() };
    page(&Audit {
        entries: found.into_iter().map(|entry| Entry::of(&visit, &wanted, entry)).collect(),
        actions: Action::ALL
            .iter()
            .map(|action| (action.as_str(), action.as_str() == wanted.action))
            .collect(),
        older: older.map(|before| Wanted { before, ..wanted.clone() }.link("/audit")),
        export: filter.link("/audit.csv"),
        is_filtered: filter.link("") != "?",
        wanted,
        frame,
    })
}

impl Entry {
    fn of(visit: &Visit, wanted: &Wanted, found: NamedAuditEntry) -> Self {
        let NamedAuditEntry { entry, actor } = found;
        let narrowed = |change: &dyn Fn(&mut Wanted)| {
            let mut wanted = Wanted { before: String::new(), ..wanted.clone() };
            change(&mut wanted);
            wanted.link("/audit")
        };
        Self {
            at: visit.moment(entry.at),
            who_link: narrowed(&|wanted| wanted.actor.clone_from(&entry.actor)),
            who: actor.unwrap_or_else(|| entry.actor.clone()),
            about_link: narrowed(&|wanted| wanted.target.clone_from(&entry.target)),
            details: match &entry.details {
                serde_json::Value::Null => String::new(),
                details => serde_json::to_string_pretty(details).unwrap_or_default(),
            },
            about: entry.target,
            action: entry.action,
            is_denied: entry.outcome == AuditOutcome::Denied,
            request_id: entry.request_id,
        }
    }
}

/// The same as a file, newest first.
pub(crate) async fn export(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let mut csv = Csv::default();
    csv.line(["at", "actor", "actor_name", "action", "target", "outcome", "request_id", "details"]);
    let (mut filter, mut written) = (wanted.filter(), 0);
    while written < EXPORTED {
        let found = visit.market().list_audit_trail(&visit.request, &filter, 200).await?;
        filter.before = found.last().map(|last| last.entry.id);
        written += found.len();
        for NamedAuditEntry { entry, actor } in &found {
            let (at, details) = (format!("{:.0}", entry.at), entry.details.to_string());
            csv.line([
                at.as_str(),
                &entry.actor,
                actor.as_deref().unwrap_or_default(),
                &entry.action,
                &entry.target,
                entry.outcome.as_str(),
                &entry.request_id,
                &details,
            ]);
        }
        if found.len() < 200 {
            break;
        }
    }
    Ok(csv.answer("audit"))
}
