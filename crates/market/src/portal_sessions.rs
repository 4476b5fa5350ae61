//! Signing in to the portal: a session that a cookie stands for.
//!
//! The cookie is 256 random bits, of which only a keyed hash is kept. A session ends after twelve hours, after thirty
//! minutes without use, and when somebody ends it.

use authz::Caller;
use jiff::{SignedDuration, Timestamp};
use store::{Tx, Viewer, session::Session};

use crate::{
    Attempt, Market, MarketError, SignInStep,
    second_factor::Proof,
    secrets,
    tokens::{Proven, caller_of},
};

/// How long a session lasts at most.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);
/// How long it lasts without being used.
const IDLE: SignedDuration = SignedDuration::from_mins(30);
/// How exactly its last use is noted.
const NOTED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Who asks for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A person.
    Person,
    /// A page that is open, by itself.
    OpenPage,
}

/// Somebody who has just signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// What the cookie holds. It is shown to nobody else.
    pub cookie: String,
    /// Who it is.
    pub caller: Caller,
    /// When the session ends at the latest.
    pub expires_at: Timestamp,
}

impl Market {
    /// Signs a person in, or asks for a code. `address` is the client's, for limiting failures.
    pub async fn sign_in(
        &self,
        email: &str,
        password: &str,
        address: &str,
        request_id: &str,
    ) -> Result<SignInStep, MarketError> {
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(address, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        match self.prove_person(email, password, None, request_id).await {
            Ok(Proven::Wholly(session, proof)) => {
                let tx = self.db.begin(Viewer::Installation).await?;
                let signed_in = self.open_portal_session(tx, session, proof, request_id).await?;
                Ok(SignInStep::Done(signed_in))
            }
            Ok(Proven::NeedsCode { user, password_hash }) => {
                Ok(SignInStep::NeedsCode(self.pending_sign_in(user, &password_hash)?))
            }
            Err(error) => {
                if matches!(error, MarketError::Unauthenticated) {
                    self.attempts.fail(address, now);
                }
                Err(error)
            }
        }
    }

    /// Opens a session of somebody who has proven who they are. Of too many that the person has, the oldest end.
    pub(crate) async fn open_portal_session(
        &self,
        mut tx: Tx,
        mut session: Session,
        proof: Option<Proof>,
        request_id: &str,
    ) -> Result<SignedIn, MarketError> {
        let now = self.clock.now();
        session.expires_at = now + LONGEST;
        let cookie = secrets::one_time_token();
        let others = i64::from(self.settings.sessions_per_person) - 1;
        store::portal_session::end_beyond(&mut tx, session.user, others, now).await?;
        store::session::insert(&mut tx, &session).await?;
        store::portal_session::insert(&mut tx, session.id, &self.cookie_digest(&cookie), now)
            .await?;
        let entry = self.signed_in_entry(&session, proof, request_id);
        store::audit::insert(&mut tx, &entry).await?;
        tx.commit().await?;
        let expires_at = session.expires_at;
        Ok(SignedIn { cookie, caller: caller_of(&session, session.roles), expires_at })
    }

    /// Who a cookie stands for; fails when the session has ended. A page that brings itself up to date is no use of the
    /// session: nobody may be there.
    pub async fn resume(&self, cookie: &str, presence: Presence) -> Result<Caller, MarketError> {
        let now = self.clock.now();
        let digest = self.cookie_digest(cookie);
        let mut tx = self.db.read(Viewer::Installation).await?;
        let found = store::portal_session::find(&mut tx, &digest).await?;
        let Some((id, seen_at)) = found.filter(|(_, seen_at)| *seen_at + IDLE > now) else {
            return Err(MarketError::Unauthenticated);
        };
        let standing = store::session::find_standing(&mut tx, id, now).await?;
        drop(tx);
        let caller = standing
            .filter(|found| found.session.ended_at.is_none() && found.session.expires_at > now)
            .and_then(|found| Some(caller_of(&found.session, found.current_roles?)))
            .ok_or(MarketError::Unauthenticated)?;
        if presence == Presence::Person && seen_at + NOTED_EVERY <= now {
            let mut tx = self.db.begin(Viewer::Installation).await?;
            store::portal_session::note_use(&mut tx, id, now).await?;
            tx.commit().await?;
        }
        Ok(caller)
    }

    fn cookie_digest(&self, cookie: &str) -> String {
        secrets::hex(&self.secrets.digest(cookie).0)
    }
}
