//! The roster: who may call. One entry per credential and per agreement, in a binary form of fixed length, because
//! there may be a million of each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ApplicationId, CredentialDigest, CredentialId, PlanId, SubscriptionId, TenantId, VersionId,
};

/// An active subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementEntry {
    /// Identifier.
    pub id: SubscriptionId,
    /// Who may call.
    pub application: ApplicationId,
    /// What may be called.
    pub version: VersionId,
    /// Under which limits and quota.
    pub plan: PlanId,
    /// When the right ends.
    pub expires_at: Option<Timestamp>,
}

/// A credential that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialEntry {
    /// Identifier.
    pub id: CredentialId,
    /// Keyed hash of the secret.
    pub digest: CredentialDigest,
    /// The application it identifies.
    pub application: ApplicationId,
    /// The tenant of the application.
    pub tenant: TenantId,
    /// When it stops being accepted.
    pub expires_at: Option<Timestamp>,
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterEntry {
    /// A credential.
    Credential(CredentialEntry),
    /// An agreement.
    Agreement(AgreementEntry),
}

/// A sum over all entries, whatever their order, by which two rosters are compared.
///
/// It finds entries that went missing by mistake. It is no protection against forgery, which the channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RosterDigest(pub u128);

const CREDENTIAL: u8 = 1;
const AGREEMENT: u8 = 2;
/// In place of an end when there is none.
const ENDLESS: i64 = i64::MAX;

impl RosterEntry {
    /// When it ends by itself.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Credential(entry) => entry.expires_at,
            Self::Agreement(entry) => entry.expires_at,
        }
    }

    /// The text of its identifier.
    pub fn subject(&self) -> String {
        match self {
            Self::Credential(entry) => entry.id.to_string(),
            Self::Agreement(entry) => entry.id.to_string(),
        }
    }

    /// Appends the binary form: a kind and little-endian fields in the order of the struct.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let expires_at = self.expires_at().map_or(ENDLESS, Timestamp::as_microsecond);
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        match self {
            Self::Credential(entry) => {
                put(&[CREDENTIAL]);
                put(&entry.id.bits().to_le_bytes());
                put(&entry.digest.0);
                put(&entry.application.bits().to_le_bytes());
                put(&entry.tenant.bits().to_le_bytes());
            }
            Self::Agreement(entry) => {
                put(&[AGREEMENT]);
                put(&entry.id.bits().to_le_bytes());
                put(&entry.application.bits().to_le_bytes());
                put(&entry.version.bits().to_le_bytes());
                put(&entry.plan.bits().to_le_bytes());
            }
        }
        put(&expires_at.to_le_bytes());
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        self.write(&mut bytes);
        bytes
    }

    /// Takes an entry off the front of `bytes`; `None` when there is no whole one.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let [kind] = take(bytes)?;
        let id = take_bits(bytes)?;
        match kind {
            CREDENTIAL => Some(Self::Credential(CredentialEntry {
                id: CredentialId::from_bits(id),
                digest: CredentialDigest(take(bytes)?),
                application: ApplicationId::from_bits(take_bits(bytes)?),
                tenant: TenantId::from_bits(take_bits(bytes)?),
                expires_at: take_end(bytes)?,
            })),
            AGREEMENT => Some(Self::Agreement(AgreementEntry {
                id: SubscriptionId::from_bits(id),
                application: ApplicationId::from_bits(take_bits(bytes)?),
                version: VersionId::from_bits(take_bits(bytes)?),
                plan: PlanId::from_bits(take_bits(bytes)?),
                expires_at: take_end(bytes)?,
            })),
            _ => None,
        }
    }

    /// Reads the binary form of one entry.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        Self::read(&mut bytes).filter(|_| bytes.is_empty())
    }

    /// What it adds to the digest of a roster.
    fn weight(&self) -> u128 {
        // FNV-1a with 128 bits, and a last round that spreads its high bits.
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = self
            .to_bytes()
            .iter()
            .fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
        (hash ^ (hash >> 61)).wrapping_mul(BASIS)
    }
}

impl RosterDigest {
    /// The digest with one entry more.
    #[must_use]
    pub fn with(self, entry: &RosterEntry) -> Self {
        Self(self.0.wrapping_add(entry.weight()))
    }

    /// The digest with one entry less.
    #[must_use]
    pub fn without(self, entry: &RosterEntry) -> Self {
        Self(self.0.wrapping_sub(entry.weight()))
    }

    /// The sum of two digests over different entries.
    #[must_use]
    pub const fn merged(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

fn take_bits(bytes: &mut &[u8]) -> Option<u128> {
    take(bytes).map(u128::from_le_bytes)
}

fn take_end(bytes: &mut &[u8]) -> Option<Option<Timestamp>> {
    match i64::from_le_bytes(take(bytes)?) {
        ENDLESS => Some(None),
        micros => Timestamp::from_microsecond(micros).ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> [RosterEntry; 2] {
        [
            RosterEntry::Credential(CredentialEntry {
                id: CredentialId::from_bits(1),
                digest: CredentialDigest([2; 32]),
                application: ApplicationId::from_bits(3),
                tenant: TenantId::from_bits(4),
                expires_at: Some(Timestamp::from_microsecond(5).unwrap()),
            }),
            RosterEntry::Agreement(AgreementEntry {
                id: SubscriptionId::from_bits(1),
                application: ApplicationId::from_bits(3),
                version: VersionId::from_bits(6),
                plan: PlanId::from_bits(7),
                expires_at: None,
            }),
        ]
    }

    #[test]
    fn an_entry_reads_back_as_written_and_only_whole() {
        for entry in entries() {
            let bytes = entry.to_bytes();
            assert_eq!(RosterEntry::from_bytes(&bytes), Some(entry));
            for end in 0..bytes.len() {
                assert_eq!(RosterEntry::from_bytes(&bytes[..end]), None);
            }
        }
    }

    #[test]
    fn the_digest_is_of_the_set_and_not_of_the_order() {
        let [first, second] = entries();
        let empty = RosterDigest::default();
        assert_eq!(empty.with(&first).with(&second), empty.with(&second).with(&first));
        assert_eq!(empty.with(&first).with(&second).without(&first), empty.with(&second));
        assert_ne!(empty.with(&first), empty.with(&second));
    }
}
