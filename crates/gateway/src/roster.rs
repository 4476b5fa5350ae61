//! The roster: who may call, in tables that are looked up by many workers and changed entry by entry.
//!
//! A look-up takes the lock of one shard among many for reading; whoever changes an entry holds it for that entry
//! alone. Rows are of fixed size and lie in the hash tables themselves, so that a look-up waits for memory as seldom as
//! possible; a million keys and a million agreements take some 250 MiB.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use hashbrown::{HashTable, hash_table::Entry};
use jiff::Timestamp;
use model::{
    AgreementEntry, ApplicationId, CredentialDigest, CredentialEntry, CredentialId, PlanId,
    RosterDigest, RosterEntry, RosterPage, SubscriptionId, TenantId, VersionId,
};

use crate::stages::Caller;

/// A million entries fill the tables of so many shards well.
const SHARDS: usize = 320;
/// In place of an end when there is none.
const ENDLESS: i64 = i64::MAX;

type Shard<R> = RwLock<HashTable<R>>;

/// Who may call.
///
/// Locks are taken in one order, whoever takes more than one: the head, a shard, the plans.
pub(crate) struct Roster {
    credentials: Vec<Shard<CredentialRow>>,
    agreements: Vec<Shard<AgreementRow>>,
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
        let rows = read(shard(&self.credentials, hash)?);
        let row = rows.find(hash, |row| row.digest == *digest)?;
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
        let rows = read(shard(&self.agreements, hash)?);
        let row =
            rows.find(hash, |row| row.application == application && row.version == version)?;
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
        for shard in &self.credentials {
            let entries = read(shard).iter().map(CredentialRow::entry).collect();
            take(entries)?;
        }
        for shard in &self.agreements {
            let entries = {
                let rows = read(shard);
                let plans = self.lock_plans();
                rows.iter().map(|row| row.entry(&plans)).collect()
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
                let hash = row.hash();
                let Some(shard) = shard(&self.credentials, hash) else { return };
                let is_it = |known: &CredentialRow| known.digest == entry.digest;
                let before = put(&mut write(shard), hash, row, is_it, CredentialRow::hash);
                head.credentials += usize::from(before.is_none());
                before.map(|row| row.entry())
            }
            RosterEntry::Agreement(entry) => {
                let row = AgreementRow::new(entry, self.plan_number(entry.plan), head.mark);
                let hash = row.hash(&self.hasher);
                let Some(shard) = shard(&self.agreements, hash) else { return };
                let is_it = |known: &AgreementRow| {
                    (known.application, known.version) == (entry.application, entry.version)
                };
                let rehash = |row: &AgreementRow| row.hash(&self.hasher);
                let before = put(&mut write(shard), hash, row, is_it, rehash);
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
                let Some(shard) = shard(&self.credentials, hash) else { return };
                let is_it = |row: &CredentialRow| row.digest == entry.digest && row.id == entry.id;
                let before = remove(&mut write(shard), hash, is_it).map(|row| row.entry());
                head.credentials -= usize::from(before.is_some());
                before
            }
            RosterEntry::Agreement(entry) => {
                let hash = self.hasher.hash_one((entry.application, entry.version));
                let Some(shard) = shard(&self.agreements, hash) else { return };
                let before = remove(&mut write(shard), hash, |row| row.id == entry.id);
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
        for shard in &self.credentials {
            let mut rows = write(shard);
            rows.retain(|row| row.mark == head.mark);
            rows.shrink_to_fit(CredentialRow::hash);
            head.credentials += rows.len();
            digest = rows.iter().fold(digest, |digest, row| digest.with(&row.entry()));
        }
        for shard in &self.agreements {
            let mut rows = write(shard);
            rows.retain(|row| row.mark == head.mark);
            rows.shrink_to_fit(|row| row.hash(&self.hasher));
            head.agreements += rows.len();
            let plans = self.lock_plans();
            digest = rows.iter().fold(digest, |digest, row| digest.with(&row.entry(&plans)));
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

    fn hash(&self) -> u64 {
        spread(&self.digest)
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

    fn hash(&self, hasher: &ahash::RandomState) -> u64 {
        hasher.hash_one((self.application, self.version))
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

/// Puts a row in the place of the one that is meant, which is given back, or in a new one.
fn put<R>(
    rows: &mut HashTable<R>,
    hash: u64,
    row: R,
    is_it: impl Fn(&R) -> bool,
    rehash: impl Fn(&R) -> u64,
) -> Option<R> {
    match rows.entry(hash, is_it, rehash) {
        Entry::Occupied(mut known) => Some(std::mem::replace(known.get_mut(), row)),
        Entry::Vacant(place) => {
            place.insert(row);
            None
        }
    }
}

fn remove<R>(rows: &mut HashTable<R>, hash: u64, is_it: impl Fn(&R) -> bool) -> Option<R> {
    Some(rows.find_entry(hash, is_it).ok()?.remove().0)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn end(micros: i64) -> Option<Timestamp> {
    if micros == ENDLESS { None } else { Timestamp::from_microsecond(micros).ok() }
}

#[cfg(test)]
mod tests;
