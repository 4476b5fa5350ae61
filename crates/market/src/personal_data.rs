//! Everything that is stored of a person, for the person (GDPR Art. 15 and 20).

use authz::{Action, Principal};
use model::{AuditEntry, Notice, NoticeSettings, User, UserId};
use serde_json::json;
use store::{Page, Tx, Viewer, audit::Filter, personal_data::Deed, session::Session};

use crate::{Begun, Kind, Market, MarketError, Request, viewer};

/// How much of each kind is given at most.
const MOST: i64 = 10_000;

/// Everything that is stored of a person, newest first. Of passwords and second factors there are only hashes and sealed
/// secrets, which say nothing about anybody.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PersonalData {
    /// The account.
    pub account: User,
    /// Open sessions.
    pub sessions: Vec<Session>,
    /// What the person wants to be sent, if they said so.
    pub notice_settings: Option<NoticeSettings>,
    /// What they were told.
    pub notices: Vec<Notice>,
    /// What they made and said.
    pub deeds: Vec<Deed>,
    /// What they did, by the audit trail.
    pub audit: Vec<AuditEntry>,
    /// Whether that is all; otherwise older ones are left out.
    pub is_complete: bool,
}

impl Market {
    /// Everything that is stored of the person who asks.
    pub async fn read_own_data(&self, request: &Request) -> Result<PersonalData, MarketError> {
        self.require(request, Action::ReadOwnData).await?;
        let Principal::User(user) = request.caller.principal else {
            return Err(MarketError::NotFound(Kind::User));
        };
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let own = Viewer::Tenant(request.caller.tenant);
        self.gather(&mut tx, own, user).await
    }

    /// Everything that is stored of a person of the caller's tenant. The audit trail says that it was read.
    pub async fn export_user(
        &self,
        request: &Request,
        id: UserId,
    ) -> Result<PersonalData, MarketError> {
        let mut change = match self.begin::<()>(request, Action::ExportUser).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Err(MarketError::Internal("a read was done before", None)),
        };
        let data = self.gather(change.tx(), viewer(&request.caller), id).await?;
        change.audit(data.account.tenant, id, json!({})).await?;
        change.finish(()).await?;
        Ok(data)
    }

    async fn gather(
        &self,
        tx: &mut Tx,
        viewer: Viewer,
        id: UserId,
    ) -> Result<PersonalData, MarketError> {
        let account = store::account::find(tx, viewer, id).await?;
        let account = account.ok_or(MarketError::NotFound(Kind::User))?;
        let page = Page::numbered(1, Page::LIMIT_MAX);
        let now = self.clock.now();
        let sessions = store::session::list_open(tx, viewer, Some(id), now, page).await?;
        let notice_settings = store::notice::find_settings(tx, id).await?;
        let notices = store::notice::list(tx, id, None, false, MOST).await?;
        let deeds = store::personal_data::list_deeds(tx, id, MOST).await?;
        let by = Filter { actor: Some(id.to_string()), ..Filter::default() };
        let audit = store::audit::list(tx, viewer, &by, MOST).await?;
        let most = usize::try_from(MOST).unwrap_or(usize::MAX);
        let is_complete = [notices.len(), deeds.len(), audit.len()].iter().all(|len| *len < most);
        Ok(PersonalData {
            account,
            sessions: sessions.items,
            notice_settings: notice_settings.map(|(settings, _)| settings),
            notices,
            deeds,
            audit,
            is_complete,
        })
    }
}
