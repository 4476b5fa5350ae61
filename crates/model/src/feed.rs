//! What a gateway is told: the structure when it changed, pages of the roster, and how far that brings it.
//!
//! Entries of the roster are numbered by their last change. Whoever knows all up to a number asks for what came
//! after; whoever knows nothing, or too little, begins anew at 0 and forgets at the end what was not named.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{QuotaPeriod, RosterDigest, RosterEntry, Structure, SubscriptionId, roster::take};

/// How far a gateway has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Standing {
    /// The sequence of roster changes that the numbers belong to; 0 when it knows none.
    pub epoch: u64,
    /// It knows the roster up to this change.
    pub roster: u64,
    /// It is beginning anew with the roster of this sequence, and has come up to this change.
    pub renewal: Option<(u64, u64)>,
    /// Number of its structure.
    pub structure: Option<u64>,
    /// It knows everything up to this event.
    pub reached: u64,
    /// When the use of quotas that it knows was summed up.
    pub quota_at: Option<Timestamp>,
}

/// What a gateway is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// A new structure.
    pub structure: Option<Arc<Structure>>,
    /// Changes of the roster.
    pub roster: Option<RosterPage>,
    /// How far quotas are used.
    pub quota: Option<QuotaUse>,
    /// With this it knows everything up to this event.
    pub reached: Option<u64>,
}

/// A piece of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RosterPage {
    /// The sequence that the numbers belong to.
    pub epoch: u64,
    /// Whether it is part of beginning anew.
    pub renews: bool,
    /// The change after which it begins.
    pub after: u64,
    /// Entries that are no more; to be applied first.
    pub removed: Vec<RosterEntry>,
    /// Entries that are new or changed.
    pub present: Vec<RosterEntry>,
    /// The last change in it.
    pub to: u64,
    /// The digest of the whole roster, when nothing comes after `to`.
    pub digest: Option<RosterDigest>,
}

/// Calls already counted against quotas, over all gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaUse {
    /// When they were summed up.
    pub at: Timestamp,
    /// Calls of a subscription in the period that contains `at`.
    pub used: Vec<(SubscriptionId, QuotaPeriod, u64)>,
}

/// Why bytes are not an update.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// They end early, or a part has another form.
    #[error("the update has another form")]
    Form,
    /// The structure is not one.
    #[error("the structure has another form")]
    Structure(#[from] serde_json::Error),
}

const STRUCTURE: u8 = 1;
const ROSTER: u8 = 2;
const QUOTA: u8 = 3;
const REACHED: u8 = 4;

const RENEWS: u8 = 1;
const WHOLE: u8 = 2;

impl Update {
    /// Whether it says nothing new.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The binary form: parts, each a kind, its length in four bytes and its content.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FeedError> {
        let mut bytes = Vec::new();
        if let Some(structure) = &self.structure {
            part(&mut bytes, STRUCTURE, &serde_json::to_vec(structure.as_ref())?)?;
        }
        if let Some(page) = &self.roster {
            part(&mut bytes, ROSTER, &page.to_bytes())?;
        }
        if let Some(quota) = &self.quota {
            part(&mut bytes, QUOTA, &quota.to_bytes())?;
        }
        if let Some(reached) = self.reached {
            part(&mut bytes, REACHED, &reached.to_le_bytes())?;
        }
        Ok(bytes)
    }

    /// Reads the binary form.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, FeedError> {
        let mut update = Self::default();
        while !bytes.is_empty() {
            let [kind] = take(&mut bytes).ok_or(FeedError::Form)?;
            let length = u32::from_le_bytes(take(&mut bytes).ok_or(FeedError::Form)?);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let (content, rest) = bytes.split_at_checked(length).ok_or(FeedError::Form)?;
            bytes = rest;
            match kind {
                STRUCTURE => update.structure = Some(Arc::new(serde_json::from_slice(content)?)),
                ROSTER => {
                    let page = RosterPage::from_bytes(content).ok_or(FeedError::Form)?;
                    update.roster = Some(page);
                }
                QUOTA => {
                    let quota = QuotaUse::from_bytes(content).ok_or(FeedError::Form)?;
                    update.quota = Some(quota);
                }
                REACHED => {
                    let number = content.try_into().map_err(|_length| FeedError::Form)?;
                    update.reached = Some(u64::from_le_bytes(number));
                }
                _ => return Err(FeedError::Form),
            }
        }
        Ok(update)
    }
}

fn part(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) -> Result<(), FeedError> {
    let length = u32::try_from(content.len()).map_err(|_too_long| FeedError::Form)?;
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(content);
    Ok(())
}

impl RosterPage {
    /// The binary form: fields in the order of the struct, numbers little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let flags = (if self.renews { RENEWS } else { 0 })
            | (if self.digest.is_some() { WHOLE } else { 0 });
        let mut bytes = Vec::with_capacity(64 + 90 * (self.removed.len() + self.present.len()));
        bytes.push(flags);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.after.to_le_bytes());
        bytes.extend_from_slice(&self.to.to_le_bytes());
        bytes.extend_from_slice(&self.digest.unwrap_or_default().0.to_le_bytes());
        bytes.extend_from_slice(&(self.removed.len() as u64).to_le_bytes());
        for entry in self.removed.iter().chain(&self.present) {
            entry.write(&mut bytes);
        }
        bytes
    }

    /// Reads the binary form.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let [flags] = take(&mut bytes)?;
        let mut page = Self {
            epoch: u64::from_le_bytes(take(&mut bytes)?),
            renews: flags & RENEWS != 0,
            after: u64::from_le_bytes(take(&mut bytes)?),
            to: u64::from_le_bytes(take(&mut bytes)?),
            ..Self::default()
        };
        let digest = RosterDigest(u128::from_le_bytes(take(&mut bytes)?));
        page.digest = (flags & WHOLE != 0).then_some(digest);
        let removed = u64::from_le_bytes(take(&mut bytes)?);
        for _ in 0..removed {
            page.removed.push(RosterEntry::read(&mut bytes)?);
        }
        while !bytes.is_empty() {
            page.present.push(RosterEntry::read(&mut bytes)?);
        }
        Some(page)
    }
}

impl QuotaUse {
    /// The binary form: the time in microseconds, then identifier, period and number of each, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 25 * self.used.len());
        bytes.extend_from_slice(&self.at.as_microsecond().to_le_bytes());
        for (subscription, period, calls) in &self.used {
            bytes.extend_from_slice(&subscription.bits().to_le_bytes());
            bytes.push(u8::from(*period == QuotaPeriod::Month));
            bytes.extend_from_slice(&calls.to_le_bytes());
        }
        bytes
    }

    /// Reads the binary form.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let at = Timestamp::from_microsecond(i64::from_le_bytes(take(&mut bytes)?)).ok()?;
        let mut used = Vec::new();
        while !bytes.is_empty() {
            let subscription = SubscriptionId::from_bits(u128::from_le_bytes(take(&mut bytes)?));
            let period = match take(&mut bytes)? {
                [0] => QuotaPeriod::Day,
                [1] => QuotaPeriod::Month,
                _ => return None,
            };
            used.push((subscription, period, u64::from_le_bytes(take(&mut bytes)?)));
        }
        Some(Self { at, used })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgreementEntry, ApplicationId, PlanId, VersionId};

    #[test]
    fn an_update_reads_back_as_written_and_only_whole() {
        let entry = |number| {
            RosterEntry::Agreement(AgreementEntry {
                id: SubscriptionId::from_bits(number),
                application: ApplicationId::from_bits(2),
                version: VersionId::from_bits(3),
                plan: PlanId::from_bits(4),
                expires_at: None,
            })
        };
        let at = Timestamp::from_microsecond(9).unwrap();
        let update = Update {
            structure: Some(Arc::new(Structure {
                number: 7,
                compiled_at: at,
                deployments: Vec::new(),
                plans: Vec::new(),
                inactive_tenants: Vec::new(),
            })),
            roster: Some(RosterPage {
                epoch: 5,
                renews: true,
                after: 1,
                removed: vec![entry(1)],
                present: vec![entry(2), entry(3)],
                to: 9,
                digest: Some(RosterDigest(u128::MAX - 4)),
            }),
            quota: Some(QuotaUse {
                at,
                used: vec![(SubscriptionId::from_bits(1), QuotaPeriod::Month, 77)],
            }),
            reached: Some(12),
        };
        let bytes = update.to_bytes().unwrap();
        assert_eq!(Update::from_bytes(&bytes).unwrap(), update);
        let whole = (0..bytes.len()).filter(|end| Update::from_bytes(&bytes[..*end]).is_ok());
        // Between two parts it is an update as well, a smaller one.
        assert_eq!(whole.count(), 4);
    }
}
