//! Turning events into notices, and notices into letters.
//!
//! One turn tells one event to a bounded number of people, in the transaction that also stores how far it came: killed
//! at any time, each is told once. Several processes may try at once; the stored place lets one of them succeed.

use authz::{Access, Action};
use jiff::{SignedDuration, Timestamp};
use model::{
    ApiId, CredentialId, CredentialStatus, Event, EventKind, LetterId, Mailing, News, Notice,
    NoticeKind, Release, Role, Roles, SubscriptionId, SubscriptionStatus, TenantId, UserId,
    VersionId,
};
use store::{
    Tx, Viewer,
    notice::{Audience, Place, Recipient},
};

use super::watch;
use crate::{Market, MarketError};

/// The most events that are looked at in one turn.
const EVENTS: i64 = 500;
/// The most people who are told in one turn.
const PEOPLE: i64 = 200;
/// The most letters of their own that one person is written in an hour; what is more is gathered in one letter.
const LETTERS_AN_HOUR: i64 = 20;

impl Market {
    /// Tells the next event that concerns people. `seen` is the last event that was looked at, so that those that
    /// concern nobody are not looked at again. Returns whether there may be more.
    pub(crate) async fn tell(&self, seen: &mut u64) -> Result<bool, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        let place = store::notice::find_place(&mut tx).await?;
        let from = place.number.max(*seen);
        let events = store::event::list_after(&mut tx, from, EVENTS).await?;
        let Some(newest) = events.last().map(|event| event.number) else {
            // A database that was put back to an earlier state gives the same numbers again.
            *seen = (*seen).min(store::event::last_number(&mut tx).await?);
            return Ok(false);
        };
        drop(tx);
        if let Some(event) = events.iter().find(|event| concerns_people(event.kind)) {
            self.tell_of(event, &place).await?;
            return Ok(true);
        }
        *seen = newest;
        // After a restart, at most so many are looked at again.
        if newest - place.number >= EVENTS.unsigned_abs() {
            let mut tx = self.db.begin(Viewer::Installation).await?;
            let next = Place { number: newest, reached: String::new() };
            store::notice::advance(&mut tx, &place, &next).await?;
            tx.commit().await?;
        }
        Ok(events.len() as u64 == EVENTS.unsigned_abs())
    }

    async fn tell_of(&self, event: &Event, place: &Place) -> Result<(), MarketError> {
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let told = describe(&mut tx, event).await?;
        let people = match &told {
            Some((_, audience)) => {
                store::notice::list_recipients(&mut tx, *audience, &place.reached, PEOPLE).await?
            }
            None => Vec::new(),
        };
        let is_more = people.len() as u64 == PEOPLE.unsigned_abs();
        let next = match people.last().filter(|_| is_more) {
            Some(last) => Place { number: place.number, reached: last.user.to_string() },
            None => Place { number: event.number, reached: String::new() },
        };
        // Another process may have told it meanwhile.
        if !store::notice::advance(&mut tx, place, &next).await? {
            return Ok(());
        }
        if let Some((news, _)) = &told {
            for person in &people {
                let letter = self.address(&mut tx, person, news.kind()).await?;
                let id = self.ids.next();
                let (user, news, at) = (person.user, news.clone(), event.at);
                let notice = Notice { id, user, news, at, read_at: None };
                store::notice::insert(&mut tx, &notice, letter).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// The letter in which a person is sent a notice of this kind, if at all.
    async fn address(
        &self,
        tx: &mut Tx,
        person: &Recipient,
        kind: NoticeKind,
    ) -> Result<Option<LetterId>, MarketError> {
        let Some(mail) = self.settings.mail else { return Ok(None) };
        let (now, hour) = (self.clock.now(), SignedDuration::from_hours(1));
        let due_at = match person.settings.mailing(kind) {
            Mailing::Off => return Ok(None),
            Mailing::Daily => next_digest(now, mail.digest_hour),
            Mailing::Immediately => {
                let sent = store::letter::count_since(tx, person.user, now - hour).await?;
                if sent < LETTERS_AN_HOUR {
                    let id = self.ids.next();
                    store::letter::insert(tx, id, person.user, now).await?;
                    return Ok(Some(id));
                }
                now + hour
            }
        };
        let id = self.ids.next();
        Ok(Some(store::letter::gather(tx, id, person.user, due_at).await?))
    }
}

const fn concerns_people(kind: EventKind) -> bool {
    match kind {
        EventKind::ApiChanged
        | EventKind::DeploymentChanged
        | EventKind::PlanChanged
        | EventKind::SubscriptionChanged
        | EventKind::ApplicationChanged
        | EventKind::TenantChanged
        | EventKind::UserChanged
        | EventKind::CategoryChanged
        | EventKind::ReviewChanged
        | EventKind::SettingChanged => false,
        EventKind::VersionSubmitted
        | EventKind::VersionPublished
        | EventKind::VersionRejected
        | EventKind::VersionDeprecated
        | EventKind::VersionRetired
        | EventKind::SubscriptionRequested
        | EventKind::SubscriptionApproved
        | EventKind::SubscriptionRejected
        | EventKind::SubscriptionSuspended
        | EventKind::SubscriptionCancelled
        | EventKind::SubscriptionExpired
        | EventKind::KeyExpiring
        | EventKind::ApiFailing
        | EventKind::UserInvited
        | EventKind::UserLocked => true,
    }
}

/// What is said, and to whom; nothing when what it is about is gone.
type Told = Result<Option<(News, Audience)>, MarketError>;

/// What is said about an event.
async fn describe(tx: &mut Tx, event: &Event) -> Told {
    match event.kind {
        EventKind::SubscriptionRequested => describe_request(tx, event).await,
        EventKind::SubscriptionApproved => {
            describe_decision(tx, event, SubscriptionStatus::Active).await
        }
        EventKind::SubscriptionRejected => {
            describe_decision(tx, event, SubscriptionStatus::Rejected).await
        }
        EventKind::SubscriptionSuspended => {
            describe_decision(tx, event, SubscriptionStatus::Suspended).await
        }
        EventKind::SubscriptionCancelled => {
            describe_decision(tx, event, SubscriptionStatus::Cancelled).await
        }
        EventKind::SubscriptionExpired => {
            describe_decision(tx, event, SubscriptionStatus::Expired).await
        }
        EventKind::VersionSubmitted
        | EventKind::VersionPublished
        | EventKind::VersionRejected
        | EventKind::VersionDeprecated
        | EventKind::VersionRetired => describe_version(tx, event).await,
        EventKind::KeyExpiring => describe_key(tx, event).await,
        EventKind::ApiFailing => describe_failing(tx, event).await,
        EventKind::UserInvited | EventKind::UserLocked => describe_account(tx, event).await,
        EventKind::ApiChanged
        | EventKind::DeploymentChanged
        | EventKind::PlanChanged
        | EventKind::SubscriptionChanged
        | EventKind::ApplicationChanged
        | EventKind::TenantChanged
        | EventKind::UserChanged
        | EventKind::CategoryChanged
        | EventKind::ReviewChanged
        | EventKind::SettingChanged => Ok(None),
    }
}

async fn describe_request(tx: &mut Tx, event: &Event) -> Told {
    let Ok(id) = SubscriptionId::parse(&event.subject) else { return Ok(None) };
    let found = store::subscription::find(tx, Viewer::Installation, id).await?;
    let Some(subscription) = found else { return Ok(None) };
    let application =
        store::application::find(tx, Viewer::Installation, subscription.application).await?;
    let tenant = store::tenant::find(tx, subscription.consumer).await?;
    let plan = store::plan::find(tx, subscription.plan).await?;
    let release = find_release(tx, subscription.version).await?;
    let (Some(application), Some(tenant), Some(plan), Some(release)) =
        (application, tenant, plan, release)
    else {
        return Ok(None);
    };
    let audience = holders(
        tx,
        subscription.owner,
        Action::ApproveSubscription,
        Some(subscription.requested_by),
    )
    .await?;
    let news = News::AccessRequested {
        subscription: id,
        application: application.name,
        tenant: tenant.name,
        release,
        plan: plan.name,
    };
    Ok(Some((news, audience)))
}

async fn describe_decision(tx: &mut Tx, event: &Event, status: SubscriptionStatus) -> Told {
    let Ok(id) = SubscriptionId::parse(&event.subject) else { return Ok(None) };
    let found = store::subscription::find(tx, Viewer::Installation, id).await?;
    let Some(subscription) = found else { return Ok(None) };
    let is_own = subscription.decided_by == Some(subscription.requested_by);
    if is_own && status != SubscriptionStatus::Expired {
        return Ok(None);
    }
    let application =
        store::application::find(tx, Viewer::Installation, subscription.application).await?;
    let release = find_release(tx, subscription.version).await?;
    let (Some(application), Some(release)) = (application, release) else { return Ok(None) };
    let (name, application) = (application.name, application.id);
    let news = News::AccessDecided { application, name, release, status };
    Ok(Some((news, Audience::Person(subscription.requested_by))))
}

async fn describe_version(tx: &mut Tx, event: &Event) -> Told {
    let Ok(id) = VersionId::parse(&event.subject) else { return Ok(None) };
    let found = store::version::find(tx, Viewer::Installation, id).await?;
    let (Some(version), Some(release)) = (found, find_release(tx, id).await?) else {
        return Ok(None);
    };
    let subscribers = Audience::Subscribers(id);
    Ok(match event.kind {
        EventKind::VersionSubmitted => {
            let submitter = Some(version.submitted_by);
            let audience = holders(tx, version.tenant, Action::ApproveVersion, submitter).await?;
            Some((News::VersionSubmitted { release }, audience))
        }
        EventKind::VersionPublished | EventKind::VersionRejected => {
            let is_approved = event.kind == EventKind::VersionPublished;
            let news = News::VersionDecided { release, is_approved };
            Some((news, Audience::Person(version.submitted_by)))
        }
        EventKind::VersionDeprecated => {
            let successor = match version.successor {
                Some(id) => store::version::find(tx, Viewer::Installation, id).await?,
                None => None,
            };
            let (sunset_at, successor) = (version.sunset_at, successor.map(|found| found.number));
            Some((News::VersionDeprecated { release, sunset_at, successor }, subscribers))
        }
        EventKind::VersionRetired => Some((News::VersionRetired { release }, subscribers)),
        _ => None,
    })
}

async fn describe_key(tx: &mut Tx, event: &Event) -> Told {
    let Ok(id) = CredentialId::parse(&event.subject) else { return Ok(None) };
    let Some(key) = store::credential::find_by_id(tx, id).await? else { return Ok(None) };
    let application = store::application::find(tx, Viewer::Installation, key.application).await?;
    let is_still = key.status == CredentialStatus::Active && key.replaced_by.is_none();
    let (Some(application), Some(expires_at), true) = (application, key.expires_at, is_still)
    else {
        return Ok(None);
    };
    let (name, application) = (application.name, application.id);
    let news = News::KeyExpiring { application, name, key: key.name, expires_at };
    Ok(Some((news, Audience::Owners(application))))
}

async fn describe_failing(tx: &mut Tx, event: &Event) -> Told {
    let Ok(id) = ApiId::parse(&event.subject) else { return Ok(None) };
    let Some(api) = store::api::find_visible(tx, Viewer::Installation, id).await? else {
        return Ok(None);
    };
    let traffic = watch::recent_traffic(tx, id, event.at).await?;
    let audience = holders(tx, api.tenant, Action::ChangeDeployment, None).await?;
    let (calls, failures) = (traffic.calls, traffic.failures);
    Ok(Some((News::ErrorSpike { api: id, name: api.name, calls, failures }, audience)))
}

async fn describe_account(tx: &mut Tx, event: &Event) -> Told {
    let Ok(user) = UserId::parse(&event.subject) else { return Ok(None) };
    if event.kind == EventKind::UserLocked {
        let account = store::account::find_sign_in_by_id(tx, user).await?;
        let until = account.and_then(|account| account.locked_until);
        return Ok(Some((News::AccountLocked { until }, Audience::Person(user))));
    }
    // Accepting it marks the notice as read, and so has to come wholly before or after.
    if !store::account::hold_invited(tx, user).await? {
        return Ok(None);
    }
    let tenant = store::tenant::find(tx, event.tenant).await?;
    Ok(tenant.map(|tenant| (News::Invitation { tenant: tenant.name }, Audience::Invited(user))))
}

/// Those of a tenant who may perform an action, but one; where there is nobody else, the platform's administrators.
async fn holders(
    tx: &mut Tx,
    tenant: TenantId,
    action: Action,
    but: Option<UserId>,
) -> Result<Audience, MarketError> {
    let roles = match action.access() {
        Access::AnyOf(roles) => roles,
        Access::Public | Access::SignedIn => Roles::of(&Role::ALL),
    };
    let own = Audience::Holders(tenant, roles, but);
    if store::notice::list_recipients(tx, own, "", 1).await?.is_empty() {
        return Ok(Audience::HoldersAnywhere(Roles::of(&[Role::PlatformAdmin]), but));
    }
    Ok(own)
}

async fn find_release(tx: &mut Tx, id: VersionId) -> Result<Option<Release>, MarketError> {
    let Some(version) = store::version::find(tx, Viewer::Installation, id).await? else {
        return Ok(None);
    };
    let api = store::api::find_visible(tx, Viewer::Installation, version.api).await?;
    Ok(api.map(|api| Release { api: api.id, name: api.name, number: version.number }))
}

/// The next time that the clock shows this hour.
fn next_digest(now: Timestamp, hour: u8) -> Timestamp {
    const DAY: i64 = 24 * 3_600;
    let second = now.as_second();
    let today = second - second.rem_euclid(DAY) + i64::from(hour) * 3_600;
    let next = if today > second { today } else { today + DAY };
    Timestamp::from_second(next).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_due_at_its_hour_today_or_tomorrow() {
        let due = |now: &str| next_digest(now.parse().unwrap(), 6).to_string();
        assert_eq!(due("2026-01-31T05:59:59Z"), "2026-01-31T06:00:00Z");
        assert_eq!(due("2026-01-31T06:00:00Z"), "2026-02-01T06:00:00Z");
        assert_eq!(due("2026-01-31T23:10:00Z"), "2026-02-01T06:00:00Z");
    }
}
