//! What gateways are told: those in this process and those on other machines ask the same question.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::{QuotaPeriod, QuotaUse, Standing, Update};

use store::Viewer;

use crate::{Market, MarketError, compile::Published};

/// How long a commit of another replica may go unnoticed.
const TICK: Duration = Duration::from_millis(500);
/// How often the use of quotas is summed up.
const QUOTA: SignedDuration = SignedDuration::from_secs(30);

/// What was last summed up of the use of quotas.
pub(crate) struct QuotaSums {
    summed_at: Timestamp,
    told: QuotaUse,
}

impl Market {
    /// What a gateway that has come this far is to be told; nothing when there is nothing new.
    ///
    /// The structure comes before the page of the roster that was read after it, so that with the last page the gateway
    /// knows everything that the structure's events brought.
    pub async fn look(&self, standing: &Standing) -> Result<Update, MarketError> {
        let Some(Published { structure, reached }) = self.published.borrow().clone() else {
            return Ok(Update::default());
        };
        let mut tx = self.db.read_steady(Viewer::Installation).await?;
        let head = store::roster::head(&mut tx).await?;
        // Numbers that were never given out are from before the database was restored.
        let is_foreign = standing.epoch != head.epoch
            || standing.roster > head.number
            || standing.roster < head.floor
            || standing.reached > store::event::last_number(&mut tx).await?;
        let wants_structure = match standing.structure {
            None => true,
            Some(known) if known == structure.number => is_foreign && standing.renewal.is_none(),
            Some(known) => is_foreign || known < structure.number,
        };
        let mut update =
            Update { structure: wants_structure.then_some(structure), ..Update::default() };
        let (after, renews) = match standing.renewal {
            Some((epoch, after)) if epoch == head.epoch && after <= head.number => (after, true),
            _ if is_foreign => (0, true),
            _ => (standing.roster, false),
        };
        if renews || after < head.number {
            update.roster = Some(store::roster::page(&mut tx, &head, after, renews).await?);
        }
        drop(tx);
        let is_last = update.roster.as_ref().is_none_or(|page| page.digest.is_some());
        if is_last && (is_foreign || reached > standing.reached) {
            update.reached = Some(reached);
        }
        update.quota = self.quota_use().await?.filter(|quota| standing.quota_at != Some(quota.at));
        Ok(update)
    }

    /// As [`Market::look`], but waits for news. Without any, the gateway hears after `patience` that it knows
    /// everything, with the digest of the roster to compare.
    pub async fn follow(
        &self,
        standing: &Standing,
        patience: Duration,
    ) -> Result<Update, MarketError> {
        let mut published = self.published.subscribe();
        let mut commits = self.committed.subscribe();
        let end = tokio::time::Instant::now() + patience;
        loop {
            published.mark_unchanged();
            commits.mark_unchanged();
            let mut update = self.look(standing).await?;
            if !update.is_empty() {
                return Ok(update);
            }
            if tokio::time::Instant::now() >= end {
                let is_ready = published.borrow().is_some();
                update.reached = is_ready.then_some(standing.reached);
                if is_ready {
                    let mut tx = self.db.read_steady(Viewer::Installation).await?;
                    let head = store::roster::head(&mut tx).await?;
                    let page = store::roster::page(&mut tx, &head, standing.roster, false).await?;
                    update.roster = Some(page).filter(|page| page.epoch == standing.epoch);
                }
                return Ok(update);
            }
            let news = async {
                tokio::select! {
                    changed = published.changed() => changed.is_ok(),
                    changed = commits.changed() => changed.is_ok(),
                }
            };
            // A tick without news is as good a reason to look: another process may have committed.
            let until = end.min(tokio::time::Instant::now() + TICK);
            drop(tokio::time::timeout_at(until, news).await);
        }
    }

    /// How far quotas are used, summed up now and then. The same sums keep their time, and are not told again.
    async fn quota_use(&self) -> Result<Option<QuotaUse>, MarketError> {
        let now = self.clock.now();
        let mut sums = self.quota_sums.lock().await;
        if let Some(sums) = &*sums
            && now.duration_since(sums.summed_at) < QUOTA
        {
            return Ok(Some(sums.told.clone()).filter(|told| !told.used.is_empty()));
        }
        let fresh = self.sum_quota_use(now).await?;
        let told = match sums.take() {
            Some(known) if known.told.used == fresh.used => known.told,
            _ => fresh,
        };
        let told = &sums.insert(QuotaSums { summed_at: now, told }).told;
        Ok(Some(told.clone()).filter(|told| !told.used.is_empty()))
    }

    async fn sum_quota_use(&self, at: Timestamp) -> Result<QuotaUse, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        let mut used = Vec::new();
        for wanted in [QuotaPeriod::Day, QuotaPeriod::Month] {
            let (start, _) = wanted.bounds(at);
            let sums = store::usage::count_by_subscription(&mut tx, start).await?;
            used.extend(sums.into_iter().filter(|(_, period, _)| *period == wanted));
        }
        Ok(QuotaUse { at, used })
    }
}
