//! Everything that is stored of a person.

use authz::Action;
use jiff::Timestamp;
use market::{Kind, PersonalData};
use model::{NoticeSettings, Roles, SessionId};
use schemars::JsonSchema;
use serde::Serialize;

use super::{audit::AuditEntryView, notices::NoticeView, users::UserView};
use crate::{
    call::Call,
    endpoint::{Endpoint, get},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/me/personal-data", Action::ReadOwnData, "Read everything that is stored of oneself")
            .answers::<PersonalDataView>()
            .run(read_own),
        get(
            "/admin/users/{id}/personal-data",
            Action::ExportUser,
            "Read everything that is stored of a person, which the audit trail will say",
        )
        .answers::<PersonalDataView>()
        .run(export),
    ]
}

/// Everything that is stored of a person, newest first; at most 10,000 of each kind.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PersonalDataView {
    account: UserView,
    /// Open sessions.
    sessions: Vec<SessionOfPerson>,
    /// What the person wants to be sent, if they said so.
    #[schemars(with = "Option<serde_json::Value>")]
    notice_settings: Option<NoticeSettings>,
    notices: Vec<NoticeView>,
    /// What they made, decided, signed and said.
    deeds: Vec<DeedView>,
    /// What they did, by the audit trail.
    audit: Vec<AuditEntryView>,
    /// Whether that is all; otherwise older ones are left out.
    complete: bool,
}

/// A session of the person.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SessionOfPerson {
    id: SessionId,
    roles: Roles,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// Something that the person made, decided, signed or said.
#[derive(Serialize, JsonSchema)]
struct DeedView {
    /// `api`, `version`, `application`, `credential`, `subscription`, `decision`, `signature` or `review`.
    kind: String,
    id: String,
    /// Name, number or words.
    text: String,
    at: Timestamp,
}

impl From<PersonalData> for PersonalDataView {
    fn from(data: PersonalData) -> Self {
        let sessions = data.sessions.into_iter().map(|session| SessionOfPerson {
            id: session.id,
            roles: session.roles,
            created_at: session.created_at,
            expires_at: session.expires_at,
        });
        let deeds = data.deeds.into_iter().map(|deed| DeedView {
            kind: deed.kind,
            id: deed.id,
            text: deed.text,
            at: deed.at,
        });
        Self {
            account: data.account.into(),
            sessions: sessions.collect(),
            notice_settings: data.notice_settings,
            notices: data.notices.into_iter().map(Into::into).collect(),
            deeds: deeds.collect(),
            audit: data.audit.into_iter().map(Into::into).collect(),
            complete: data.is_complete,
        }
    }
}

async fn read_own(call: Call) -> Result<Reply, Problem> {
    Ok(Reply::ok(&PersonalDataView::from(call.market.read_own_data(call.request()).await?)))
}

async fn export(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::User)?;
    Ok(Reply::ok(&PersonalDataView::from(call.market.export_user(call.request(), id).await?)))
}
