//! The roster: who may call, in tables that are looked up by many workers and changed entry by entry.
//!
//! A look-up takes the lock of one shard among many for reading; whoever changes an entry holds it for that entry
//! alone. Rows are of fixed size and lie densely, so that a million keys and a million agreements take some 200 MiB.

mod shelf;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use jiff::Timestamp;
use model::{
    AgreementEntry, ApplicationId, CredentialDigest, CredentialEntry, CredentialId, PlanId,
    RosterDigest, RosterEntry, RosterPage, SubscriptionId, TenantId, VersionId,
};

use crate::stages::Caller;
use shelf::{Row, Shelf};

const SHARDS: usize = 256;
/// In place of an end when there is none.
const ENDLESS: i64 = i64::MAX;

/// Who may call.
///
/// Locks are taken in one order, whoever takes more than one: the head, a shard, the plans.
pub(crate) struct Roster {
    credentials: Vec<RwLock<Shelf<CredentialRow>>>,
    agreements: Vec<RwLock<Shelf<AgreementRow>>>,
    plans: Mutex<Plans>,
    hasher: ahash::RandomState,
    head: Mutex<Head>,
}

/// How far the roster has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    /// The sequence of changes; 0 before the roster was whole for the first time.
    pub(crate) epoch: u64,
    /// The last change.
    pub(crate) number: u64,
    /// Set while beginning anew: the sequence and the last change so far.
    pub(crate) renewal: Option<(u64, u64)>,
    pub(crate) digest: RosterDigest,
    pub(crate) credentials: usize,
    pub(crate) agreements: usize,
    /// Set when it is known not to be what it should be, until it was begun anew.
    pub(crate) is_distrusted: bool,
    /// Rows with another mark were not named since the last beginning.
    mark: u32,
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It follows on what is known.
    Followed,
    /// It is part of beginning anew, which goes on.
    Renewing,
    /// Beginning anew is done.
    Renewed,
    /// It belongs to something else than what is known; nothing was done.
    Misplaced,
}

/// Whom a credential identifies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownCredential {
    pub(crate) caller: Caller,
    pub(crate) expires_at: Option<Timestamp>,
}

/// An application's right to call a version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownAgreement {
    pub(crate) id: SubscriptionId,
    pub(crate) plan: PlanNumber,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A plan's place in the list of all that were heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlanNumber(u32);

impl PlanNumber {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

#[derive(Default)]
struct Plans {
    numbers: HashMap<PlanId, PlanNumber, ahash::RandomState>,
    ids: Vec<PlanId>,
}

struct CredentialRow {
    digest: CredentialDigest,
    id: CredentialId,
    application: ApplicationId,
    tenant: TenantId,
    expires_at: i64,
    mark: u32,
}

struct AgreementRow {
    application: ApplicationId,
    version: VersionId,
    id: SubscriptionId,
    expires_at: i64,
    plan: PlanNumber,
    mark: u32,
}

impl Row for CredentialRow {
    fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    fn is_marked(&self, mark: u32) -> bool {
        self.mark == mark
    }

    fn hash(&self, _: &ahash::RandomState) -> u64 {
        spread(&self.digest)
    }
}

impl Row for AgreementRow {
    fn is_same(&self, other: &Self) -> bool {
        (self.application, self.version) == (other.application, other.version)
    }

    fn is_marked(&self, mark: u32) -> bool {
        self.mark == mark
    }

    fn hash(&self, hasher: &ahash::RandomState) -> u64 {
        hasher.hash_one((self.application, self.version))
    }
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            credentials: (0..SHARDS).map(|_| RwLock::default()).collect(),
            agreements: (0..SHARDS).map(|_| RwLock::default()).collect(),
            plans: Mutex::default(),
            hasher: ahash::RandomState::new(),
            head: Mutex::default(),
        }
    }

    /// Whom the credential with this digest identifies.
    pub(crate) fn credential(&self, digest: &CredentialDigest) -> Option<KnownCredential> {
        let hash = spread(digest);
        let shelf = read(shard(&self.credentials, hash)?);
        let row = shelf.find(hash, |row| row.digest == *digest)?;
        let caller =
            Caller { application: row.application, credential: row.id, tenant: row.tenant };
        Some(KnownCredential { caller, expires_at: end(row.expires_at) })
    }

    /// The right of an application to call a version.
    pub(crate) fn agreement(
        &self,
        application: ApplicationId,
        version: VersionId,
    ) -> Option<KnownAgreement> {
        let hash = self.hasher.hash_one((application, version));
        let shelf = read(shard(&self.agreements, hash)?);
        let row =
            shelf.find(hash, |row| row.application == application && row.version == version)?;
        Some(KnownAgreement { id: row.id, plan: row.plan, expires_at: end(row.expires_at) })
    }

    /// The number of a plan, which it keeps as long as the process lives.
    pub(crate) fn plan_number(&self, id: PlanId) -> PlanNumber {
        let mut plans = self.lock_plans();
        if let Some(number) = plans.numbers.get(&id) {
            return *number;
        }
        let number = PlanNumber(u32::try_from(plans.ids.len()).unwrap_or(u32::MAX));
        plans.ids.push(id);
        plans.numbers.insert(id, number);
        number
    }

    /// How far it has come.
    pub(crate) fn head(&self) -> Head {
        *self.lock_head()
    }

    /// Begins anew at the next opportunity, because it is not what it should be.
    pub(crate) fn distrust(&self) {
        let mut head = self.lock_head();
        head.renewal = None;
        head.is_distrusted = true;
    }

    /// Takes a page that was sent.
    pub(crate) fn apply(&self, page: &RosterPage) -> Applied {
        let mut head = self.lock_head();
        if page.renews {
            if page.after == 0 {
                head.mark = head.mark.wrapping_add(1);
            } else if head.renewal != Some((page.epoch, page.after)) {
                return Applied::Misplaced;
            }
        } else if page.epoch != head.epoch || page.after > head.number || page.to < head.number {
            return Applied::Misplaced;
        }
        self.change(&mut head, page);
        if !page.renews {
            head.number = page.to;
            return Applied::Followed;
        }
        if page.digest.is_none() {
            head.renewal = Some((page.epoch, page.to));
            return Applied::Renewing;
        }
        self.sweep(&mut head);
        head.epoch = page.epoch;
        head.number = page.to;
        head.renewal = None;
        head.is_distrusted = false;
        Applied::Renewed
    }

    /// Takes a page that was kept on disk.
    pub(crate) fn restore(&self, page: &RosterPage) {
        let mut head = self.lock_head();
        self.change(&mut head, page);
        head.epoch = page.epoch;
        head.number = page.to;
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut head = self.lock_head();
        head.mark = head.mark.wrapping_add(1);
        self.sweep(&mut head);
        *head = Head { mark: head.mark, ..Head::default() };
    }

    /// Hands out all entries, a shard at a time.
    pub(crate) fn for_each_shard<E>(
        &self,
        mut take: impl FnMut(Vec<RosterEntry>) -> Result<(), E>,
    ) -> Result<(), E> {
        for shelf in &self.credentials {
            let entries = read(shelf).rows().iter().map(CredentialRow::entry).collect();
            take(entries)?;
        }
        for shelf in &self.agreements {
            let entries = {
                let shelf = read(shelf);
                let plans = self.lock_plans();
                shelf.rows().iter().map(|row| row.entry(&plans)).collect()
            };
            take(entries)?;
        }
        Ok(())
    }

    fn lock_plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, head: &mut Head, page: &RosterPage) {
        for entry in &page.removed {
            self.remove(head, entry);
        }
        for entry in &page.present {
            self.put(head, entry);
        }
    }

    fn put(&self, head: &mut Head, entry: &RosterEntry) {
        let before = match entry {
            RosterEntry::Credential(entry) => {
                let row = CredentialRow::new(entry, head.mark);
                let hash = row.hash(&self.hasher);
                let Some(shelf) = shard(&self.credentials, hash) else { return };
                let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
                let before = shelf.put(hash, row, &self.hasher);
                head.credentials += usize::from(before.is_none());
                before.map(|row| row.entry())
            }
            RosterEntry::Agreement(entry) => {
                let row = AgreementRow::new(entry, self.plan_number(entry.plan), head.mark);
                let hash = row.hash(&self.hasher);
                let Some(shelf) = shard(&self.agreements, hash) else { return };
                let before = {
                    let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
                    shelf.put(hash, row, &self.hasher)
                };
                head.agreements += usize::from(before.is_none());
                let plans = self.lock_plans();
                before.map(|row| row.entry(&plans))
            }
        };
        if let Some(before) = before {
            head.digest = head.digest.without(&before);
        }
        head.digest = head.digest.with(entry);
    }

    /// Removes an entry, unless another one stands in its place.
    fn remove(&self, head: &mut Head, entry: &RosterEntry) {
        let before = match entry {
            RosterEntry::Credential(entry) => {
                let hash = spread(&entry.digest);
                let Some(shelf) = shard(&self.credentials, hash) else { return };
                let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
                let before = shelf
                    .remove(hash, &self.hasher, |row| {
                        row.digest == entry.digest && row.id == entry.id
                    })
                    .map(|row| row.entry());
                head.credentials -= usize::from(before.is_some());
                before
            }
            RosterEntry::Agreement(entry) => {
                let hash = self.hasher.hash_one((entry.application, entry.version));
                let Some(shelf) = shard(&self.agreements, hash) else { return };
                let before = {
                    let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
                    shelf.remove(hash, &self.hasher, |row| row.id == entry.id)
                };
                head.agreements -= usize::from(before.is_some());
                let plans = self.lock_plans();
                before.map(|row| row.entry(&plans))
            }
        };
        if let Some(before) = before {
            head.digest = head.digest.without(&before);
        }
    }

    /// Removes what was not named since the last beginning, and counts the rest.
    fn sweep(&self, head: &mut Head) {
        let mut digest = RosterDigest::default();
        (head.credentials, head.agreements) = (0, 0);
        for shelf in &self.credentials {
            let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
            shelf.keep_marked(head.mark, &self.hasher);
            head.credentials += shelf.rows().len();
            digest = shelf.rows().iter().fold(digest, |digest, row| digest.with(&row.entry()));
        }
        for shelf in &self.agreements {
            let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
            shelf.keep_marked(head.mark, &self.hasher);
            head.agreements += shelf.rows().len();
            let plans = self.lock_plans();
            let rows = shelf.rows().iter();
            digest = rows.fold(digest, |digest, row| digest.with(&row.entry(&plans)));
        }
        head.digest = digest;
    }
}

impl CredentialRow {
    fn new(entry: &CredentialEntry, mark: u32) -> Self {
        Self {
            digest: entry.digest,
            id: entry.id,
            application: entry.application,
            tenant: entry.tenant,
            expires_at: entry.expires_at.map_or(ENDLESS, Timestamp::as_microsecond),
            mark,
        }
    }

    fn entry(&self) -> RosterEntry {
        RosterEntry::Credential(CredentialEntry {
            id: self.id,
            digest: self.digest,
            application: self.application,
            tenant: self.tenant,
            expires_at: end(self.expires_at),
        })
    }
}

impl AgreementRow {
    fn new(entry: &AgreementEntry, plan: PlanNumber, mark: u32) -> Self {
        Self {
            application: entry.application,
            version: entry.version,
            id: entry.id,
            expires_at: entry.expires_at.map_or(ENDLESS, Timestamp::as_microsecond),
            plan,
            mark,
        }
    }

    fn entry(&self, plans: &Plans) -> RosterEntry {
        RosterEntry::Agreement(AgreementEntry {
            id: self.id,
            application: self.application,
            version: self.version,
            plan: plans.ids.get(self.plan.index()).copied().expect("a row has a known plan"),
            expires_at: end(self.expires_at),
        })
    }
}

/// A keyed hash is as good as random in any of its parts.
fn spread(digest: &CredentialDigest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The shard of a hash, by bits that the tables within do not begin with.
fn shard<T>(shards: &[T], hash: u64) -> Option<&T> {
    usize::try_from(hash >> 40).ok().and_then(|place| shards.get(place % SHARDS))
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn end(micros: i64) -> Option<Timestamp> {
    if micros == ENDLESS { None } else { Timestamp::from_microsecond(micros).ok() }
}

#[cfg(test)]
mod tests;
