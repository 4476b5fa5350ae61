//! Notices: what people are told of what concerns them, in which words, and how it reaches them.
//!
//! A notice names things and people's programs by their names and never quotes what somebody wrote: comments may hold
//! anything. It holds no health data, no secret and no token.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiId, ApplicationId, LetterId, Name, NoticeId, SubscriptionId, SubscriptionStatus, UserId,
};

/// What one person is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Identifier.
    pub id: NoticeId,
    /// The person.
    pub user: UserId,
    /// What has happened.
    pub news: News,
    /// When it happened.
    pub at: Timestamp,
    /// When the person read it in the inbox.
    pub read_at: Option<Timestamp>,
}

/// What has happened, with what is needed to say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum News {
    /// The person was invited.
    Invitation {
        /// Name of the tenant.
        tenant: Name,
    },
    /// A subscription waits for a decision.
    AccessRequested {
        /// The subscription.
        subscription: SubscriptionId,
        /// Name of the application.
        application: Name,
        /// Name of the tenant that asks.
        tenant: Name,
        /// What is asked for.
        release: Release,
        /// Name of the plan.
        plan: Name,
    },
    /// A subscription was decided about.
    AccessDecided {
        /// The application.
        application: ApplicationId,
        /// Its name.
        name: Name,
        /// What was asked for.
        release: Release,
        /// What has become of it.
        status: SubscriptionStatus,
    },
    /// A version waits for a reviewer.
    VersionSubmitted {
        /// The version.
        release: Release,
    },
    /// A reviewer decided about a version.
    VersionDecided {
        /// The version.
        release: Release,
        /// Whether it may be called now.
        is_approved: bool,
    },
    /// A key expires soon.
    KeyExpiring {
        /// The application.
        application: ApplicationId,
        /// Its name.
        name: Name,
        /// Name of the key.
        key: Name,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// The end of a version was announced.
    VersionDeprecated {
        /// The version.
        release: Release,
        /// When it stops answering.
        sunset_at: Option<Timestamp>,
        /// The version that replaces it.
        successor: Option<semver::Version>,
    },
    /// A version has ended.
    VersionRetired {
        /// The version.
        release: Release,
    },
    /// An API fails well above what is usual for it.
    ErrorSpike {
        /// The API.
        api: ApiId,
        /// Its name.
        name: Name,
        /// Calls in the last minutes.
        calls: u64,
        /// Those that failed by the API's or the gateway's fault.
        failures: u64,
    },
    /// The account was locked after wrong passwords.
    AccountLocked {
        /// Until when.
        until: Option<Timestamp>,
    },
}

/// A version, with the name of its API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The API.
    pub api: ApiId,
    /// Its name.
    pub name: Name,
    /// The version.
    pub number: semver::Version,
}

/// A kind of notice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// One was invited.
    Invitation,
    /// A subscription waits for one's decision.
    AccessRequested,
    /// A subscription that one asked for was decided about, or has ended.
    AccessDecided,
    /// A version waits for one's review.
    VersionSubmitted,
    /// A version that one submitted was decided about.
    VersionDecided,
    /// A key of one's application expires soon.
    KeyExpiring,
    /// The end of a version that one's application calls was announced.
    VersionDeprecated,
    /// A version that one's application calls has ended.
    VersionRetired,
    /// One's API fails well above what is usual for it.
    ErrorSpike,
    /// One's account was locked.
    AccountLocked,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Invitation,
        Self::AccessRequested,
        Self::AccessDecided,
        Self::VersionSubmitted,
        Self::VersionDecided,
        Self::KeyExpiring,
        Self::VersionDeprecated,
        Self::VersionRetired,
        Self::ErrorSpike,
        Self::AccountLocked,
    ];

    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::AccessRequested => "access_requested",
            Self::AccessDecided => "access_decided",
            Self::VersionSubmitted => "version_submitted",
            Self::VersionDecided => "version_decided",
            Self::KeyExpiring => "key_expiring",
            Self::VersionDeprecated => "version_deprecated",
            Self::VersionRetired => "version_retired",
            Self::ErrorSpike => "error_spike",
            Self::AccountLocked => "account_locked",
        }
    }

    /// The subject of an e-mail about one notice. It travels in the open, and so it names nothing and nobody.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Invitation => "You are invited",
            Self::AccessRequested => "A request for access waits for you",
            Self::AccessDecided => "News of your request for access",
            Self::VersionSubmitted => "A version waits for your review",
            Self::VersionDecided => "Your version was reviewed",
            Self::KeyExpiring => "A key expires soon",
            Self::VersionDeprecated => "A version that you use will end",
            Self::VersionRetired => "A version that you use has ended",
            Self::ErrorSpike => "One of your APIs fails more than usual",
            Self::AccountLocked => "Your account was locked for a while",
        }
    }
}

impl News {
    /// Which kind it is.
    pub const fn kind(&self) -> NoticeKind {
        match self {
            Self::Invitation { .. } => NoticeKind::Invitation,
            Self::AccessRequested { .. } => NoticeKind::AccessRequested,
            Self::AccessDecided { .. } => NoticeKind::AccessDecided,
            Self::VersionSubmitted { .. } => NoticeKind::VersionSubmitted,
            Self::VersionDecided { .. } => NoticeKind::VersionDecided,
            Self::KeyExpiring { .. } => NoticeKind::KeyExpiring,
            Self::VersionDeprecated { .. } => NoticeKind::VersionDeprecated,
            Self::VersionRetired { .. } => NoticeKind::VersionRetired,
            Self::ErrorSpike { .. } => NoticeKind::ErrorSpike,
            Self::AccountLocked { .. } => NoticeKind::AccountLocked,
        }
    }

    /// What has happened, in one or two plain sentences.
    pub fn text(&self) -> String {
        match self {
            Self::Invitation { tenant } => format!("You are invited to work for {tenant}."),
            Self::AccessRequested { application, tenant, release, plan, .. } => format!(
                "{application} of {tenant} asks to call {release} under the plan {plan}. The request waits for a \
                 decision."
            ),
            Self::AccessDecided { name, release, status, .. } => {
                let outcome = match status {
                    SubscriptionStatus::Active => "may call it now",
                    SubscriptionStatus::Rejected => "may not call it: the request was rejected",
                    SubscriptionStatus::Suspended => "may not call it for now: access is suspended",
                    SubscriptionStatus::Cancelled => "may not call it any more: access was ended",
                    SubscriptionStatus::Expired => "may not call it any more: access has expired",
                    SubscriptionStatus::Pending => "has to wait for a decision",
                };
                format!("About {release}: {name} {outcome}.")
            }
            Self::VersionSubmitted { release } => {
                format!("{release} was submitted and waits for a review.")
            }
            Self::VersionDecided { release, is_approved: true } => {
                format!("{release} was approved and is in the catalogue.")
            }
            Self::VersionDecided { release, is_approved: false } => {
                format!("{release} was rejected. The reviewer's reasons are with the version.")
            }
            Self::KeyExpiring { name, key, expires_at, .. } => format!(
                "The key \u{201c}{key}\u{201d} of {name} expires on {}. Rotate it before then, or calls with it are \
                 refused.",
                moment(*expires_at)
            ),
            Self::VersionDeprecated { release, sunset_at, successor } => {
                let end = match sunset_at {
                    Some(at) => format!("stops answering on {}", moment(*at)),
                    None => "will stop answering at a time that is not set yet".to_owned(),
                };
                let next = successor
                    .as_ref()
                    .map_or_else(String::new, |number| format!(" Version {number} replaces it."));
                format!("{release} is deprecated and {end}.{next}")
            }
            Self::VersionRetired { release } => {
                format!("{release} has ended: calls are answered with 410.")
            }
            Self::ErrorSpike { name, calls, failures, .. } => format!(
                "{failures} of {calls} calls of {name} failed on the side of the server within ten minutes, well \
                 above what is usual for it."
            ),
            Self::AccountLocked { until } => {
                let end = until
                    .map_or_else(|| "for a while".to_owned(), |at| format!("until {}", moment(at)));
                format!(
                    "Your account was locked {end}, because a wrong password was given too often. If that was not \
                     you, choose another password and tell your administrator."
                )
            }
        }
    }

    /// The place in the portal where the person can act, beginning with a slash.
    pub fn place(&self) -> String {
        match self {
            Self::Invitation { .. } => "/invitation".to_owned(),
            Self::AccessRequested { subscription, .. } => {
                format!("/approvals/agreements/{subscription}")
            }
            Self::AccessDecided { application, .. } | Self::KeyExpiring { application, .. } => {
                format!("/applications/{application}")
            }
            Self::VersionSubmitted { release } => {
                // Build metadata begins with a plus, which some readers of addresses take for a space.
                let number = release.number.to_string().replace('+', "%2B");
                format!("/approvals/versions/{}/{number}", release.api)
            }
            Self::VersionDecided { release, .. }
            | Self::VersionDeprecated { release, .. }
            | Self::VersionRetired { release } => format!("/apis/{}/versions", release.api),
            Self::ErrorSpike { api, .. } => format!("/apis/{api}"),
            Self::AccountLocked { .. } => "/account".to_owned(),
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.name, self.number)
    }
}

fn moment(at: Timestamp) -> String {
    at.strftime("%-d %B %Y at %H:%M UTC").to_string()
}

/// When a person is sent an e-mail about a kind of notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mailing {
    /// At once.
    #[default]
    Immediately,
    /// Once a day, together with others.
    Daily,
    /// Never; the inbox has it all the same.
    Off,
}

/// What a person wants to be sent, by kind; what is not named is sent at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NoticeSettings(BTreeMap<NoticeKind, Mailing>);

impl NoticeSettings {
    /// When an e-mail about this kind is sent. Whoever is invited has no account to decide with yet.
    pub fn mailing(&self, kind: NoticeKind) -> Mailing {
        self.0.get(&kind).copied().unwrap_or_default()
    }
}

impl FromIterator<(NoticeKind, Mailing)> for NoticeSettings {
    fn from_iter<I: IntoIterator<Item = (NoticeKind, Mailing)>>(mailings: I) -> Self {
        Self(mailings.into_iter().collect())
    }
}

/// An e-mail that is to be sent: about one notice, or about all that were gathered for one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Identifier; the e-mail's `Message-ID` is made of it, so that one that was sent twice can be known by it.
    pub id: LetterId,
    /// Who is written to.
    pub user: UserId,
    /// Since when it has been tried.
    pub tried_since: Timestamp,
    /// How often it was tried, with this time.
    pub attempts: i64,
}

impl Letter {
    /// For how long it is tried.
    pub const PATIENCE_HOURS: i64 = 48;
    const FIRST_PAUSE_SECONDS: i64 = 30;
    const LONGEST_PAUSE_SECONDS: i64 = 2 * 3_600;

    /// How long to wait after an attempt before the next one: twice as long each time, two hours at most.
    pub fn pause_seconds(attempts: i64) -> i64 {
        let doublings = u32::try_from(attempts.clamp(1, 20) - 1).unwrap_or(0);
        (Self::FIRST_PAUSE_SECONDS << doublings).min(Self::LONGEST_PAUSE_SECONDS)
    }

    /// Whether it has been tried for so long that it is given up.
    pub fn is_hopeless(&self, now: Timestamp) -> bool {
        now.duration_since(self.tried_since).as_hours() >= Self::PATIENCE_HOURS
    }
}

/// Calls in a span of time, and how many of them failed on the side of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Calls.
    pub calls: u64,
    /// Those that were answered with a status of 500 or above.
    pub failures: u64,
}

impl Traffic {
    /// Fewer failures are no spike.
    pub const FAILURES_MIN: u64 = 20;
    /// One in so many calls.
    const SHARE_MIN: u64 = 20;
    const TIMES_USUAL: u64 = 4;

    /// Whether these failures are well above the usual: at least 20 of them, at least every twentieth call, and four
    /// times the share of `usual`.
    pub const fn is_spike_over(self, usual: Self) -> bool {
        let is_many = self.failures >= Self::FAILURES_MIN
            && self.failures.saturating_mul(Self::SHARE_MIN) >= self.calls;
        // failures / calls >= 4 * usual.failures / usual.calls, without dividing.
        let share = self.failures as u128 * usual.calls as u128;
        let usual_share = usual.failures as u128 * self.calls as u128;
        is_many && share >= usual_share.saturating_mul(Self::TIMES_USUAL as u128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release {
            api: ApiId::from_bits(1),
            name: Name::parse("Lab results").unwrap(),
            number: semver::Version::parse("1.2.0-rc.1+build.7").unwrap(),
        }
    }

    #[test]
    fn every_kind_is_known_by_its_name_and_reads_back() {
        for kind in NoticeKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.as_str()));
        }
        let news = News::VersionRetired { release: release() };
        let json = serde_json::to_value(&news).unwrap();
        assert_eq!(json["kind"], "version_retired");
        assert_eq!(serde_json::from_value::<News>(json).unwrap(), news);
    }

    #[test]
    fn the_place_of_a_version_survives_its_build_metadata() {
        let place = News::VersionSubmitted { release: release() }.place();
        assert!(place.ends_with("/1.2.0-rc.1%2Bbuild.7"), "{place}");
    }

    #[test]
    fn a_deprecation_says_when_and_by_what() {
        let news = News::VersionDeprecated {
            release: release(),
            sunset_at: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            successor: Some(semver::Version::new(2, 0, 0)),
        };
        let text = news.text();
        assert!(text.contains("1 March 2026 at 12:00 UTC") && text.contains("2.0.0"), "{text}");
    }

    #[test]
    fn pauses_grow_and_patience_ends() {
        let pauses: Vec<_> = (1..=12).map(Letter::pause_seconds).collect();
        assert_eq!(pauses[..4], [30, 60, 120, 240]);
        assert!(pauses.is_sorted());
        assert_eq!(Letter::pause_seconds(i64::MAX), 7_200);
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let letter = Letter {
            id: LetterId::from_bits(1),
            user: UserId::from_bits(2),
            tried_since: begun,
            attempts: 1,
        };
        assert!(!letter.is_hopeless(begun + jiff::SignedDuration::from_hours(47)));
        assert!(letter.is_hopeless(begun + jiff::SignedDuration::from_hours(48)));
    }

    #[test]
    fn a_spike_is_many_failures_and_many_more_than_usual() {
        let quiet = Traffic { calls: 10_000, failures: 10 };
        let spike = |calls, failures| Traffic { calls, failures }.is_spike_over(quiet);
        assert!(spike(100, 50));
        assert!(!spike(100, 19), "too few");
        assert!(!spike(1_000, 40), "a small share");
        assert!(spike(400, 20));
        assert!(Traffic { calls: 30, failures: 30 }.is_spike_over(Traffic::default()));
        let bad = Traffic { calls: 1_000, failures: 300 };
        assert!(!Traffic { calls: 100, failures: 60 }.is_spike_over(bad), "it is always so");
    }
}
