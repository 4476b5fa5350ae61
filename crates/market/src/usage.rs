//! Counting usage: from the gateway's journals into the database, each call exactly once.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use journal::Position;
use model::{ApplicationId, CredentialId, FailedCall, Fault, Ids, UsageRecord, VersionId};
use store::{
    Tx, Viewer,
    usage::{Bucket, Grain, Parties, Tally},
};

use crate::{Market, MarketError};

/// The most of a journal that is counted in one transaction.
const BATCH_BYTES: usize = 512 * 1024;
/// Of a batch the newest failures are kept, so that a storm of them costs no more than this.
const FAILURES_PER_BATCH: usize = 50;

impl Market {
    /// Counts what the journals below `folder` hold and was not counted yet. `node` names the machine they are of.
    /// Returns whether there may be more.
    pub(crate) async fn count_usage(&self, node: &str, folder: &Path) -> Result<bool, MarketError> {
        let mut is_more = false;
        for (stream, journal) in journals(node, folder)? {
            is_more |= self.count_journal(&stream, &journal).await?;
        }
        Ok(is_more)
    }

    async fn count_journal(&self, stream: &str, folder: &Path) -> Result<bool, MarketError> {
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let from = store::usage::find_position(&mut tx, stream).await?;
        let from =
            from.map_or_else(Position::default, |(segment, offset)| Position { segment, offset });
        let key = self.secrets.usage_key();
        let path = folder.to_owned();
        let batch =
            tokio::task::spawn_blocking(move || journal::read(&path, &key, from, BATCH_BYTES))
                .await
                .map_err(|error| MarketError::internal("reading usage failed")(error.into()))?
                .map_err(|error| {
                    MarketError::internal("a usage journal could not be read")(error.into())
                })?;
        if batch.next == from {
            return Ok(false);
        }
        let sums = count(&mut tx, &self.ids, batch.records()).await?;
        let next = batch.next;
        store::usage::put_position(&mut tx, stream, (next.segment, next.offset)).await?;
        tx.commit().await?;
        sums.report();
        journal::prune(folder, next).map_err(|error| {
            MarketError::internal("old usage could not be pruned")(error.into())
        })?;
        Ok(true)
    }
}

/// Counts records into the database.
pub(crate) async fn count<'records>(
    tx: &mut Tx,
    ids: &Ids,
    records: impl Iterator<Item = &'records [u8]>,
) -> Result<Sums, MarketError> {
    let mut sums = Sums::default();
    for bytes in records {
        match UsageRecord::from_bytes(bytes) {
            Some(record) => sums.add(&record),
            None => sums.unreadable += 1,
        }
    }
    sums.store(tx, ids).await?;
    Ok(sums)
}

#[derive(Default)]
pub(crate) struct Sums {
    buckets: BTreeMap<Bucket, Tally>,
    last_used: HashMap<CredentialId, i64>,
    failures: VecDeque<UsageRecord>,
    unreadable: u64,
    orphaned: u64,
}

impl Sums {
    /// Says what could not be counted.
    pub(crate) fn report(&self) {
        if self.unreadable > 0 || self.orphaned > 0 {
            tracing::warn!(
                usage.unreadable = self.unreadable,
                usage.orphaned = self.orphaned,
                "usage records were left out: unreadable, or of APIs or applications that were removed"
            );
        }
    }

    fn add(&mut self, record: &UsageRecord) {
        for grain in [Grain::Minute, Grain::Hour] {
            let bucket = Bucket {
                grain,
                start_micros: record.at_micros - record.at_micros.rem_euclid(grain.micros()),
                version: record.version,
                application: record.application,
                subscription: record.subscription,
                operation: record.operation,
            };
            let tally = self.buckets.entry(bucket).or_default();
            tally.calls += 1;
            tally.errors += u64::from(record.status >= 400);
            tally.request_bytes += record.request_bytes;
            tally.response_bytes += record.response_bytes;
            *tally.status_codes.entry(record.status).or_default() += 1;
            tally.latency.record(u64::from(record.duration_micros));
        }
        if record.request.is_some() {
            if self.failures.len() >= FAILURES_PER_BATCH {
                self.failures.pop_front();
            }
            self.failures.push_back(*record);
        }
        let last = self.last_used.entry(record.credential).or_insert(record.at_micros);
        *last = (*last).max(record.at_micros);
    }

    async fn store(&mut self, tx: &mut Tx, ids: &Ids) -> Result<(), MarketError> {
        let mut known: HashMap<(VersionId, ApplicationId), Option<Parties>> = HashMap::new();
        for (bucket, tally) in &self.buckets {
            let pair = (bucket.version, bucket.application);
            let parties = match known.get(&pair) {
                Some(parties) => *parties,
                None => {
                    let parties = find_parties(tx, pair).await?;
                    known.insert(pair, parties);
                    parties
                }
            };
            match parties {
                Some(parties) => store::usage::add(tx, parties, *bucket, tally).await?,
                None if bucket.grain == Grain::Hour => self.orphaned += tally.calls,
                None => {}
            }
        }
        for record in &self.failures {
            let parties = known.get(&(record.version, record.application)).copied().flatten();
            let at = Timestamp::from_microsecond(record.at_micros);
            let (Some(parties), Some(request_id), Ok(at)) = (parties, record.request_id(), at)
            else {
                continue;
            };
            let call = FailedCall {
                id: ids.next(),
                api: parties.api,
                owner: parties.owner,
                version: record.version,
                operation: record.operation,
                application: record.application,
                consumer: parties.consumer,
                request_id,
                status: record.status,
                fault: whose(record),
                duration_micros: record.duration_micros,
                at,
            };
            store::failed_call::insert(tx, &call).await?;
        }
        for (credential, micros) in &self.last_used {
            if let Ok(at) = Timestamp::from_microsecond(*micros) {
                store::credential::note_use(tx, *credential, at).await?;
            }
        }
        Ok(())
    }
}

/// Whose fault a failure was. What a target answered is passed on without blame: then its status says it.
const fn whose(record: &UsageRecord) -> Fault {
    match record.fault {
        Fault::None if record.status >= 500 => Fault::Upstream,
        Fault::None => Fault::Client,
        fault => fault,
    }
}

async fn find_parties(
    tx: &mut Tx,
    (version, application): (VersionId, ApplicationId),
) -> Result<Option<Parties>, MarketError> {
    let owner = store::version::find_owner(tx, version).await?;
    let consumer = store::application::find_tenant(tx, application).await?;
    Ok(owner.zip(consumer).map(|((api, owner), consumer)| Parties { api, owner, consumer }))
}

/// The journals below a folder, one per worker of the gateway, with the names of their streams.
fn journals(node: &str, folder: &Path) -> Result<Vec<(String, PathBuf)>, MarketError> {
    let fail = |error: std::io::Error| {
        MarketError::internal("the usage folder could not be read")(error.into())
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if let Some(name) =
            path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_dir())
        {
            found.push((format!("{node}/{name}"), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}
