//! Identifiers: one type per entity, prefixed, sortable by creation time, opaque to clients.
//!
//! An identifier is 48 bits of Unix milliseconds followed by 80 random bits, written as 26 characters of
//! Crockford's base 32 behind the entity's prefix, as in `api_01K9ZJ3M5Q8R7T2V4W6X8Y0Z1A`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DIGITS: usize = 26;

/// Why a text is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of the form {prefix}_ followed by 26 characters")]
pub struct IdParseError {
    prefix: &'static str,
}

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The prefix that every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an identifier from its 128 bits.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits of the identifier.
            pub const fn bits(self) -> u128 {
                self.0
            }

            /// Reads an identifier; fails when the prefix or a character is wrong.
            pub fn parse(text: &str) -> Result<Self, IdParseError> {
                parse_bits(text, $prefix).map(Self).ok_or(IdParseError { prefix: $prefix })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str($prefix)?;
                out.write_str("_")?;
                write_bits(self.0, out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "_[0-7][0-9A-HJKMNP-TV-Z]{25}$"),
                })
            }
        }
    )*};
}

typed_ids! {
    /// An organisation or department that shares the installation.
    TenantId = "ten";
    /// A person with an account.
    UserId = "usr";
    /// A signed-in session.
    SessionId = "ses";
    /// An API offered in the catalogue.
    ApiId = "api";
    /// One release of an API.
    VersionId = "ver";
    /// A place where a version runs.
    DeploymentId = "dep";
    /// One address in an upstream pool.
    TargetId = "tgt";
    /// Limits and quota under which an API may be called.
    PlanId = "pln";
    /// A consumer program.
    ApplicationId = "app";
    /// A secret that identifies an application.
    CredentialId = "crd";
    /// An application's right to call a version under a plan.
    SubscriptionId = "sub";
    /// A heading of the catalogue.
    CategoryId = "cat";
    /// One entry of the audit trail.
    AuditId = "aud";
    /// A gateway on another machine.
    NodeId = "nod";
    /// Something that a person is told.
    NoticeId = "ntc";
    /// An e-mail that is to be sent.
    LetterId = "ltr";
    /// A call that failed.
    FailedCallId = "flc";
    /// What a person says about an API.
    ApiReviewId = "rvw";
}

fn parse_bits(text: &str, prefix: &str) -> Option<u128> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('_')?.as_bytes();
    if digits.len() != DIGITS || digits.first().is_some_and(|first| *first > b'7') {
        return None;
    }
    digits.iter().try_fold(0_u128, |bits, digit| {
        let value = ALPHABET.iter().position(|letter| letter == digit)?;
        Some(bits << 5 | value as u128)
    })
}

fn write_bits(bits: u128, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0_u8; DIGITS];
    for (place, digit) in text.iter_mut().rev().enumerate() {
        *digit = ALPHABET[(bits >> (5 * place)) as usize & 31];
    }
    out.write_str(std::str::from_utf8(&text).unwrap_or_default())
}

/// Makes identifiers that sort by the time they were made.
///
/// Within one process they are strictly increasing even inside one millisecond, so that a page sorted by
/// identifier is a page sorted by creation.
#[derive(Clone)]
pub struct Ids {
    clock: crate::Clock,
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
    last: Arc<AtomicU64>,
}

impl Ids {
    /// An identifier source over a clock and a source of random bits.
    pub fn new(clock: crate::Clock, random: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self { clock, random, last: Arc::new(AtomicU64::new(0)) }
    }

    /// The next identifier of the wanted kind.
    pub fn next<T: From<NewId>>(&self) -> T {
        // 48 bits of milliseconds and 16 bits of sequence, never repeated and never going back.
        let floor = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0) << 16;
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(floor.max(last + 1)))
            .unwrap_or(floor);
        let head = floor.max(previous + 1);
        T::from(NewId(u128::from(head) << 64 | u128::from((self.random)())))
    }
}

/// Fresh bits from [`Ids::next`], turned into the identifier type that is wanted.
pub struct NewId(u128);

macro_rules! from_new_id {
    ($($name:ident)*) => {$(
        impl From<NewId> for $name {
            fn from(id: NewId) -> Self {
                Self(id.0)
            }
        }
    )*};
}
from_new_id! {
    TenantId UserId SessionId ApiId VersionId DeploymentId TargetId PlanId ApplicationId CredentialId
    SubscriptionId CategoryId AuditId NodeId NoticeId LetterId FailedCallId ApiReviewId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = ApiId::from_bits(0x0197_5555_0001_abcd_ef01_2345_6789_0000);
        assert_eq!(ApiId::parse(&id.to_string()), Ok(id));
        assert!(id.to_string().starts_with("api_"));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = ApiId::from_bits(7).to_string();
        assert!(PlanId::parse(&id).is_err());
        assert!(ApiId::parse("api_").is_err());
        assert!(ApiId::parse("api_8ZZZZZZZZZZZZZZZZZZZZZZZZZ").is_err());
        assert!(ApiId::parse("api_0000000000000000000000000U").is_err());
    }

    #[test]
    fn ids_increase_within_one_millisecond() {
        let clock = crate::Clock::fixed(jiff::Timestamp::from_second(1_700_000_000).unwrap());
        let ids = Ids::new(clock, Arc::new(|| 0));
        let made: Vec<ApiId> = (0..1_000).map(|_| ids.next()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
    }
}
