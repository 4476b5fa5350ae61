//! What nobody does but people want to know: keys that expire soon, and APIs that fail more than usual. Each is said by
//! an event, written in the transaction that also remembers that it was said.

use jiff::{SignedDuration, Timestamp};
use model::{ApiId, EventKind, Traffic};
use store::{Tx, Viewer, usage::Grain};

use crate::{Market, MarketError};

/// How many days ahead it is said that a key expires, nearest first: who was away hears the latest only.
const DAYS_AHEAD: [i64; 3] = [1, 3, 14];
const KEYS: i64 = 200;
/// The most failing APIs that are looked into in one turn.
const APIS: i64 = 50;
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// An API is spoken of once in this time.
const SILENCE: SignedDuration = SignedDuration::from_hours(1);

impl Market {
    /// Says what has to be said at this time.
    pub(crate) async fn watch(&self) -> Result<(), MarketError> {
        for days in DAYS_AHEAD {
            while self.announce_expiring(days).await? {}
        }
        self.announce_failing().await
    }

    async fn announce_expiring(&self, days: i64) -> Result<bool, MarketError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let keys = store::credential::take_expiring(&mut tx, now, days, KEYS).await?;
        if keys.is_empty() {
            return Ok(false);
        }
        for (key, tenant) in keys {
            let kind = EventKind::KeyExpiring;
            store::event::announce(&mut tx, tenant, kind, &key.to_string(), now);
        }
        tx.commit().await?;
        self.note_commit();
        Ok(true)
    }

    async fn announce_failing(&self) -> Result<(), MarketError> {
        let now = self.clock.now();
        let mut tx = self.db.read(Viewer::Installation).await?;
        let suspects = store::usage::list_failing(
            &mut tx,
            now - WINDOW,
            now - SILENCE,
            Traffic::FAILURES_MIN,
            APIS,
        )
        .await?;
        let mut failing = Vec::new();
        for (api, tenant) in suspects {
            let recent = recent_traffic(&mut tx, api, now).await?;
            if recent.is_spike_over(usual_traffic(&mut tx, api, now).await?) {
                failing.push((api, tenant));
            }
        }
        drop(tx);
        for (api, tenant) in failing {
            let mut tx = self.db.begin(Viewer::Installation).await?;
            if !store::notice::raise_alarm(&mut tx, api, now, now - SILENCE).await? {
                continue;
            }
            let kind = EventKind::ApiFailing;
            store::event::announce(&mut tx, tenant, kind, &api.to_string(), now);
            tx.commit().await?;
            self.note_commit();
        }
        Ok(())
    }
}

/// The calls of an API in the ten minutes before a time.
pub(super) async fn recent_traffic(
    tx: &mut Tx,
    api: ApiId,
    at: Timestamp,
) -> Result<Traffic, MarketError> {
    Ok(store::usage::count_traffic(tx, api, Grain::Minute, at - WINDOW, at).await?)
}

/// The calls of an API in the day before the hour in which those ten minutes began.
async fn usual_traffic(tx: &mut Tx, api: ApiId, at: Timestamp) -> Result<Traffic, MarketError> {
    let began = (at - WINDOW).as_microsecond();
    let hour = began - began.rem_euclid(Grain::Hour.micros());
    let until = Timestamp::from_microsecond(hour).unwrap_or(at);
    let from = until - SignedDuration::from_hours(24);
    Ok(store::usage::count_traffic(tx, api, Grain::Hour, from, until).await?)
}
