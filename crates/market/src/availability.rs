//! How an API does, for everybody who sees it: what share of calls it answers and how long that takes, but not how
//! often it is called, which concerns its owner alone.

use authz::Action;
use jiff::{SignedDuration, Timestamp};
use model::ApiId;
use store::usage::{Grain, Scope, Tally};

use crate::{Market, MarketError, Request, apis, viewer};
use store::Viewer;

/// How an API did in the last 24 hours.
#[derive(Debug, Clone)]
pub struct Availability {
    /// Where the time starts: at a full hour.
    pub start: Timestamp,
    /// Where it ends.
    pub end: Timestamp,
    /// All of it; none when there were too few calls to say.
    pub overall: Option<Standing>,
    /// The hours, oldest first, the last one not over yet: the share of calls that were answered, of hours with enough calls to say.
    pub hours: Vec<(Timestamp, Option<f64>)>,
}

/// How calls went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The share of calls that were answered with a status below 500, from 0 to 1.
    pub answered: f64,
    /// Half of the calls took less, in microseconds.
    pub p50_micros: f64,
    /// 95 of 100 calls took less, in microseconds.
    pub p95_micros: f64,
}

/// With fewer calls nothing is said: of so few, one that fails would look like an outage.
const CALLS_OF_DAY: u64 = 20;
/// The same for an hour.
const CALLS_OF_HOUR: u64 = 5;
const HOURS: u8 = 24;

impl Market {
    /// How an API that the caller may see did in the last 24 hours.
    pub async fn read_availability(
        &self,
        request: &Request,
        api: ApiId,
    ) -> Result<Availability, MarketError> {
        self.require(request, Action::ReadApiAvailability).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let api = apis::find_visible(&mut tx, request, api).await?.id;
        // How an API does over all its consumers is for everybody who sees it; who they are is not.
        tx.view_as(Viewer::Installation).await?;
        let end = self.clock.now();
        let hour = Grain::Hour.micros();
        let last = end.as_microsecond() - end.as_microsecond().rem_euclid(hour);
        let first = last - i64::from(HOURS - 1) * hour;
        let start = Timestamp::from_microsecond(first)
            .unwrap_or(end - SignedDuration::from_hours(HOURS.into()));
        let rollups =
            store::usage::list(&mut tx, Scope::Api(api, None), Grain::Hour, start, end).await?;
        let mut all = Tally::default();
        let mut hours = vec![Tally::default(); usize::from(HOURS)];
        for rollup in &rollups {
            all.merge(&rollup.tally);
            let place = (rollup.start.as_microsecond() - first).div_euclid(hour);
            if let Some(tally) = usize::try_from(place).ok().and_then(|place| hours.get_mut(place))
            {
                tally.merge(&rollup.tally);
            }
        }
        let hours = (0_i64..).zip(&hours).filter_map(|(place, tally)| {
            let start = Timestamp::from_microsecond(first + place * hour).ok()?;
            Some((start, (tally.calls >= CALLS_OF_HOUR).then(|| answered(tally))))
        });
        let hours = hours.collect();
        Ok(Availability { start, end, overall: Standing::of(&all), hours })
    }
}

impl Standing {
    fn of(tally: &Tally) -> Option<Self> {
        let quantile = |share| tally.latency.quantile_micros(share).unwrap_or(0.0);
        (tally.calls >= CALLS_OF_DAY).then(|| Self {
            answered: answered(tally),
            p50_micros: quantile(0.5),
            p95_micros: quantile(0.95),
        })
    }
}

/// The share of calls that were answered with a status below 500.
#[expect(clippy::cast_precision_loss, reason = "numbers of calls of a day")]
fn answered(tally: &Tally) -> f64 {
    let failures: u64 = tally.status_codes.range(500..).map(|(_, calls)| calls).sum();
    1.0 - failures as f64 / tally.calls.max(1) as f64
}
