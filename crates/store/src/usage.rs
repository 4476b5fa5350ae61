//! Usage, rolled up by minute and by hour.
//!
//! A batch of the journal and the position that was read up to are written in one transaction, so that each call
//! counts exactly once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{
    ApiId, ApplicationId, LatencySketch, Quota, QuotaPeriod, SubscriptionId, TenantId, Traffic,
    VersionId,
};
use sqlx::any::AnyRow;

use crate::{
    StoreError, Tx,
    row::{Columns, to_json},
};

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// A minute; kept for two days.
    Minute,
    /// An hour; kept for thirteen months.
    Hour,
}

impl Grain {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Length of a bucket in microseconds.
    pub const fn micros(self) -> i64 {
        match self {
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
        }
    }
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// How long it is.
    pub grain: Grain,
    /// Where it starts, in microseconds.
    pub start_micros: i64,
    /// The version that was called.
    pub version: VersionId,
    /// Who called.
    pub application: ApplicationId,
    /// Under which subscription.
    pub subscription: Option<SubscriptionId>,
    /// Index of the operation in the version's specification.
    pub operation: Option<u16>,
}

/// To whom a bucket belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parties {
    /// The API.
    pub api: ApiId,
    /// The tenant that owns it.
    pub owner: TenantId,
    /// The tenant that calls.
    pub consumer: TenantId,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Calls.
    pub calls: u64,
    /// Calls that were answered with a status of 400 or above.
    pub errors: u64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// Calls by status.
    pub status_codes: BTreeMap<u16, u64>,
    /// Durations.
    pub latency: LatencySketch,
}

impl Tally {
    /// Adds everything that another tally has counted.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        for (status, calls) in &other.status_codes {
            *self.status_codes.entry(*status).or_default() += calls;
        }
        self.latency.merge(&other.latency);
    }
}

/// A bucket that was read, with what was counted in it.
#[derive(Debug, Clone)]
pub struct Rollup {
    /// Where it starts.
    pub start: Timestamp,
    /// The version that was called.
    pub version: VersionId,
    /// Index of the operation in the version's specification; none when no operation matched.
    pub operation: Option<u16>,
    /// The application that called.
    pub application: ApplicationId,
    /// The tenant that called.
    pub consumer: TenantId,
    /// The API that was called.
    pub api: ApiId,
    /// What was counted.
    pub tally: Tally,
}

/// Whose usage is wanted.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// Of an API; of one consumer's tenant only, when one is given.
    Api(ApiId, Option<TenantId>),
    /// Of all APIs of a tenant.
    Owner(TenantId),
    /// Of an application.
    Application(ApplicationId),
}

/// How far a usage journal has been counted; none when it is new.
pub async fn find_position(tx: &mut Tx, stream: &str) -> Result<Option<(u64, u64)>, StoreError> {
    let row = tx
        .statement("usage::find_position", "SELECT * FROM usage_position WHERE stream = $1")
        .bind(stream.to_owned())
        .optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("usage::find_position", &row);
    Ok(Some((columns.count("segment")?, columns.count("byte_offset")?)))
}

/// Notes how far a usage journal has been counted.
pub async fn put_position(
    tx: &mut Tx,
    stream: &str,
    (segment, offset): (u64, u64),
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO usage_position (stream, segment, byte_offset) VALUES ($1, $2, $3)
        ON CONFLICT (stream) DO UPDATE SET segment = excluded.segment, byte_offset = excluded.byte_offset";
    tx.statement("usage::put_position", SQL)
        .bind(stream.to_owned())
        .bind(i64::try_from(segment).unwrap_or(i64::MAX))
        .bind(i64::try_from(offset).unwrap_or(i64::MAX))
        .execute()
        .await?;
    Ok(())
}

/// Moves on how far a usage journal has been counted, if it was counted up to `from`; says whether it was. Of two
/// that try at once only one succeeds.
pub async fn advance_position(
    tx: &mut Tx,
    stream: &str,
    from: (u64, u64),
    next: (u64, u64),
) -> Result<bool, StoreError> {
    const BEGIN: &str = "
        INSERT INTO usage_position (stream, segment, byte_offset) VALUES ($1, 0, 0)
        ON CONFLICT (stream) DO NOTHING";
    const SQL: &str = "
        UPDATE usage_position SET segment = $1, byte_offset = $2
        WHERE stream = $3 AND segment = $4 AND byte_offset = $5";
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    tx.statement("usage::advance_position", BEGIN).bind(stream.to_owned()).execute().await?;
    let moved = tx
        .statement("usage::advance_position", SQL)
        .bind(number(next.0))
        .bind(number(next.1))
        .bind(stream.to_owned())
        .bind(number(from.0))
        .bind(number(from.1))
        .execute()
        .await?;
    Ok(moved == 1)
}

/// Adds a tally to a bucket.
pub async fn add(
    tx: &mut Tx,
    parties: Parties,
    bucket: Bucket,
    tally: &Tally,
) -> Result<(), StoreError> {
    const FIND: &str = "
        SELECT * FROM usage_rollup
        WHERE grain = $1 AND start_at = $2 AND version_id = $3 AND application_id = $4 AND subscription_id = $5
          AND operation = $6";
    const PUT: &str = "
        INSERT INTO usage_rollup (grain, start_at, version_id, application_id, subscription_id, operation, api_id,
                                  owner_id, consumer_id, calls, errors, request_bytes, response_bytes, status_codes,
                                  latency)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT (grain, start_at, version_id, application_id, subscription_id, operation) DO UPDATE
        SET calls = excluded.calls, errors = excluded.errors, request_bytes = excluded.request_bytes,
            response_bytes = excluded.response_bytes, status_codes = excluded.status_codes,
            latency = excluded.latency";
    let subscription = bucket.subscription.map_or_else(String::new, |id| id.to_string());
    let operation = bucket.operation.map_or(-1, i64::from);
    let row = tx
        .statement("usage::add", FIND)
        .bind_text(bucket.grain.as_str())
        .bind(bucket.start_micros)
        .bind_text(bucket.version)
        .bind_text(bucket.application)
        .bind(subscription.clone())
        .bind(operation)
        .optional()
        .await?;
    let mut sum = row.as_ref().map(read_tally).transpose()?.unwrap_or_default();
    sum.merge(tally);
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    tx.statement("usage::add", PUT)
        .bind_text(bucket.grain.as_str())
        .bind(bucket.start_micros)
        .bind_text(bucket.version)
        .bind_text(bucket.application)
        .bind(subscription)
        .bind(operation)
        .bind_text(parties.api)
        .bind_text(parties.owner)
        .bind_text(parties.consumer)
        .bind(number(sum.calls))
        .bind(number(sum.errors))
        .bind(number(sum.request_bytes))
        .bind(number(sum.response_bytes))
        .bind(to_json("usage::add", &sum.status_codes)?)
        .bind(sum.latency.to_bytes())
        .execute()
        .await?;
    Ok(())
}

/// Lists buckets that start in a span of time, oldest first. The span bounds how many there are.
pub async fn list(
    tx: &mut Tx,
    scope: Scope,
    grain: Grain,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Rollup>, StoreError> {
    const SQL: &str = "
        SELECT * FROM usage_rollup
        WHERE grain = $1 AND start_at >= $2 AND start_at < $3
          AND ($4 = '' OR api_id = $4) AND ($5 = '' OR owner_id = $5) AND ($6 = '' OR consumer_id = $6)
          AND ($7 = '' OR application_id = $7)
        ORDER BY start_at LIMIT 200000";
    let none = String::new;
    let (api, owner, consumer, application) = match scope {
        Scope::Api(api, consumer) => {
            (api.to_string(), none(), consumer.map_or_else(none, |id| id.to_string()), none())
        }
        Scope::Owner(owner) => (none(), owner.to_string(), none(), none()),
        Scope::Application(application) => (none(), none(), none(), application.to_string()),
    };
    let rows = tx
        .statement("usage::list", SQL)
        .bind_text(grain.as_str())
        .bind(from.as_microsecond())
        .bind(until.as_microsecond())
        .bind(api)
        .bind(owner)
        .bind(consumer)
        .bind(application)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("usage::list", row);
            Ok(Rollup {
                start: columns.time("start_at")?,
                version: columns.parsed("version_id")?,
                operation: u16::try_from(columns.get::<i64>("operation")?).ok(),
                application: columns.parsed("application_id")?,
                consumer: columns.parsed("consumer_id")?,
                api: columns.parsed("api_id")?,
                tally: read_tally(row)?,
            })
        })
        .collect()
}

/// Counts the calls since a time of every subscription that has a quota and was used.
pub async fn count_by_subscription(
    tx: &mut Tx,
    since: Timestamp,
) -> Result<Vec<(SubscriptionId, QuotaPeriod, u64)>, StoreError> {
    const SQL: &str = "
        SELECT usage_rollup.subscription_id, plan.quota, CAST(SUM(usage_rollup.calls) AS BIGINT) AS calls
        FROM usage_rollup
        JOIN subscription ON subscription.id = usage_rollup.subscription_id
        JOIN plan ON plan.id = subscription.plan_id AND plan.quota IS NOT NULL
        WHERE usage_rollup.grain = 'hour' AND usage_rollup.start_at >= $1
        GROUP BY usage_rollup.subscription_id, plan.quota";
    let rows = tx
        .statement("usage::count_by_subscription", SQL)
        .bind(since.as_microsecond())
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("usage::count_by_subscription", row);
            let quota: Quota = columns.json("quota")?;
            Ok((columns.parsed("subscription_id")?, quota.period, columns.count("calls")?))
        })
        .collect()
}

/// Counts the calls under a subscription since a time.
pub async fn count_under(
    tx: &mut Tx,
    subscription: SubscriptionId,
    since: Timestamp,
) -> Result<u64, StoreError> {
    const SQL: &str = "
        SELECT CAST(COALESCE(SUM(calls), 0) AS BIGINT) FROM usage_rollup
        WHERE subscription_id = $1 AND grain = 'hour' AND start_at >= $2";
    let calls = tx
        .statement("usage::count_under", SQL)
        .bind_text(subscription)
        .bind(since.as_microsecond())
        .number()
        .await?;
    Ok(calls.unsigned_abs())
}

/// Lists the APIs of which at least so many calls failed by anybody's fault since a time, most failures first, with the
/// tenants that own them. Those with an alarm after `silent_since` are left out.
pub async fn list_failing(
    tx: &mut Tx,
    since: Timestamp,
    silent_since: Timestamp,
    errors: u64,
    limit: i64,
) -> Result<Vec<(ApiId, TenantId)>, StoreError> {
    const SQL: &str = "
        SELECT api_id, owner_id, CAST(SUM(errors) AS BIGINT) AS failed FROM usage_rollup
        WHERE grain = 'minute' AND start_at >= $1 AND errors > 0
          AND api_id NOT IN (SELECT api_id FROM alarm WHERE at > $2)
        GROUP BY api_id, owner_id HAVING SUM(errors) >= $3 ORDER BY failed DESC, api_id LIMIT $4";
    let rows = tx
        .statement("usage::list_failing", SQL)
        .bind(since.as_microsecond())
        .bind(silent_since.as_microsecond())
        .bind(i64::try_from(errors).unwrap_or(i64::MAX))
        .bind(limit)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("usage::list_failing", row);
            Ok((columns.parsed("api_id")?, columns.parsed("owner_id")?))
        })
        .collect()
}

/// Counts the calls of an API in a span of time, and those that failed on the side of the server.
pub async fn count_traffic(
    tx: &mut Tx,
    api: ApiId,
    grain: Grain,
    from: Timestamp,
    until: Timestamp,
) -> Result<Traffic, StoreError> {
    const CALLS: &str = "
        SELECT CAST(SUM(calls) AS BIGINT) FROM usage_rollup
        WHERE api_id = $1 AND grain = $2 AND start_at >= $3 AND start_at < $4";
    const FAILED: &str = "
        SELECT status_codes FROM usage_rollup
        WHERE api_id = $1 AND grain = $2 AND start_at >= $3 AND start_at < $4 AND errors > 0 LIMIT 200000";
    let (from, until) = (from.as_microsecond(), until.as_microsecond());
    let calls = tx
        .statement("usage::count_traffic", CALLS)
        .bind_text(api)
        .bind_text(grain.as_str())
        .bind(from)
        .bind(until)
        .number()
        .await?;
    let rows = tx
        .statement("usage::count_traffic", FAILED)
        .bind_text(api)
        .bind_text(grain.as_str())
        .bind(from)
        .bind(until)
        .all()
        .await?;
    let mut failures = 0;
    for row in &rows {
        let columns = Columns::of("usage::count_traffic", row);
        let codes: BTreeMap<u16, u64> = columns.json("status_codes")?;
        failures += codes.range(500..).map(|(_, calls)| calls).sum::<u64>();
    }
    Ok(Traffic { calls: calls.unsigned_abs(), failures })
}

/// Forgets buckets of a grain that started before a time.
pub async fn prune(tx: &mut Tx, grain: Grain, before: Timestamp) -> Result<(), StoreError> {
    tx.statement("usage::prune", "DELETE FROM usage_rollup WHERE grain = $1 AND start_at < $2")
        .bind_text(grain.as_str())
        .bind(before.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

fn read_tally(row: &AnyRow) -> Result<Tally, StoreError> {
    let columns = Columns::of("usage::read_tally", row);
    let latency: Vec<u8> = columns.get("latency")?;
    Ok(Tally {
        calls: columns.count("calls")?,
        errors: columns.count("errors")?,
        request_bytes: columns.count("request_bytes")?,
        response_bytes: columns.count("response_bytes")?,
        status_codes: columns.json("status_codes")?,
        latency: LatencySketch::from_bytes(&latency)
            .ok_or_else(|| columns.corrupt("latency", "not a sketch"))?,
    })
}
