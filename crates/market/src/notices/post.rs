//! Letters, as they are handed to whoever sends them and as their fate comes back.
//!
//! A letter counts as tried before it is handed out, and comes again after a pause: a sender that dies between sending
//! and saying so sends it a second time, and none is lost.

use jiff::{SignedDuration, Timestamp};
use model::{Email, Letter, Name, News, Notice, UserStatus};
use store::{
    Tx, Viewer,
    letter::{Addressed, Ending},
};
use zeroize::Zeroizing;

use crate::{Market, MarketError};

/// A letter with everything that stands in it.
#[derive(Debug)]
pub struct Outgoing {
    /// The letter.
    pub letter: Letter,
    /// Where it goes.
    pub email: Email,
    /// Whom it is for.
    pub name: Name,
    /// What it says, oldest first; never empty.
    pub notices: Vec<Notice>,
    /// How many notices there are beyond those.
    pub more: u64,
    /// What whoever is invited needs.
    pub invitation: Option<OneTimeInvitation>,
}

/// The one-time token with which an invitation is accepted.
pub struct OneTimeInvitation {
    /// The token.
    pub token: Zeroizing<String>,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// What has become of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterOutcome {
    /// A server took it.
    Sent,
    /// It will never be taken, for this reason.
    Refused(&'static str, Option<u16>),
    /// It was not taken this time, for this reason.
    Deferred(&'static str, Option<u16>),
}

/// How many letters there are to be sent.
pub type Queue = store::letter::Queue;

/// How long the right to send lasts; renewed with every turn.
const LEASE: SignedDuration = SignedDuration::from_secs(180);
const LEASE_NAME: &str = "letters";
/// The most notices that are told in one letter.
const NOTICES: i64 = 50;

impl std::fmt::Debug for OneTimeInvitation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("OneTimeInvitation")
    }
}

impl Market {
    /// How many letters are to be sent.
    pub async fn look_at_letters(&self) -> Result<Queue, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        Ok(store::letter::find_queue(&mut tx, self.clock.now()).await?)
    }

    /// Takes up to `limit` letters that are due, each for one attempt; none while another process is sending. `holder`
    /// names this process. What is taken is to be tried within two minutes.
    pub async fn take_letters(
        &self,
        holder: &str,
        limit: i64,
    ) -> Result<Vec<Outgoing>, MarketError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let until = now + LEASE;
        if !store::letter::take_lease(&mut tx, LEASE_NAME, holder, now, until).await? {
            return Ok(Vec::new());
        }
        let mut outgoing = Vec::new();
        for addressed in store::letter::take_due(&mut tx, now, limit).await? {
            outgoing.extend(self.write_letter(&mut tx, addressed, now).await?);
        }
        tx.commit().await?;
        Ok(outgoing)
    }

    /// Writes a letter, or drops it when there is nothing left to say or nobody to say it to.
    async fn write_letter(
        &self,
        tx: &mut Tx,
        addressed: Addressed,
        now: Timestamp,
    ) -> Result<Option<Outgoing>, MarketError> {
        let Addressed { letter, email, name, status, .. } = &addressed;
        let (mut notices, more) = store::letter::list_notices(tx, letter.id, NOTICES).await?;
        let invitation = self.open_invitation(&addressed, now)?;
        let is_pointless = |notice: &Notice| {
            matches!(notice.news, News::Invitation { .. }) && invitation.is_none()
        };
        notices.retain(|notice| !is_pointless(notice));
        let reason = match status {
            UserStatus::Disabled => Some("the account is disabled"),
            _ if notices.is_empty() => Some("it was read in the inbox, or is out of date"),
            UserStatus::Active | UserStatus::Invited => None,
        };
        if reason.is_some() {
            store::letter::end(tx, letter, Ending::Dropped, reason, now).await?;
            if addressed.sealed_invitation.is_some() {
                store::account::keep_invitation(tx, letter.user, None).await?;
            }
            return Ok(None);
        }
        let (letter, email, name) = (letter.clone(), email.clone(), name.clone());
        Ok(Some(Outgoing { letter, email, name, notices, more, invitation }))
    }

    fn open_invitation(
        &self,
        addressed: &Addressed,
        now: Timestamp,
    ) -> Result<Option<OneTimeInvitation>, MarketError> {
        let expires_at = addressed.invitation_expires_at.filter(|end| now < *end);
        let (Some(sealed), Some(expires_at)) = (&addressed.sealed_invitation, expires_at) else {
            return Ok(None);
        };
        let token = String::from_utf8(self.secrets.open(sealed)?).map_err(|error| {
            MarketError::internal("an invitation could not be read")(error.utf8_error().into())
        })?;
        Ok(Some(OneTimeInvitation { token: Zeroizing::new(token), expires_at }))
    }

    /// Notes what has become of a letter; says whether it was given up.
    pub async fn settle_letter(
        &self,
        outgoing: &Outgoing,
        outcome: LetterOutcome,
    ) -> Result<bool, MarketError> {
        let (letter, now) = (&outgoing.letter, self.clock.now());
        let ending = match outcome {
            LetterOutcome::Sent => Some(Ending::Sent),
            LetterOutcome::Refused(..) => Some(Ending::Failed),
            LetterOutcome::Deferred(..) => letter.is_hopeless(now).then_some(Ending::Failed),
        };
        let reason = outcome.reason();
        let mut tx = self.db.begin(Viewer::Installation).await?;
        match ending {
            Some(ending) => {
                store::letter::end(&mut tx, letter, ending, reason.as_deref(), now).await?;
                if outgoing.invitation.is_some() {
                    store::account::keep_invitation(&mut tx, letter.user, None).await?;
                }
            }
            None => {
                let reason = reason.unwrap_or_default();
                store::letter::note_failure(&mut tx, letter, &reason).await?;
            }
        }
        tx.commit().await?;
        Ok(ending == Some(Ending::Failed))
    }
}

impl LetterOutcome {
    /// The code with which the server did not take it.
    pub const fn code(self) -> Option<u16> {
        match self {
            Self::Sent => None,
            Self::Refused(_, code) | Self::Deferred(_, code) => code,
        }
    }

    /// Why it was not taken, in words of our own: what a server says may quote the letter.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Sent => None,
            Self::Refused(reason, None) | Self::Deferred(reason, None) => Some(reason.to_owned()),
            Self::Refused(reason, Some(code)) | Self::Deferred(reason, Some(code)) => {
                Some(format!("{reason} ({code})"))
            }
        }
    }
}
