//! What the gateway was told last, and whether that is too long ago.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use model::{QuotaUse, Update};

use crate::{keeper::Note, settings::WhenTooOld, worker::Shared};

/// How often it is noted on disk that there is nothing new.
const NOTE: Duration = Duration::from_secs(10);

/// The least time between two beginnings anew.
const DISTRUST: Duration = Duration::from_secs(60);

/// What the gateway was told last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// It knows everything up to this event.
    pub(crate) reached: u64,
    /// When it was told so last.
    pub(crate) at: Option<Timestamp>,
    pub(crate) quota: Option<Arc<QuotaUse>>,
    /// The newest structure, when it contradicts itself.
    pub(crate) refused_structure: Option<u64>,
    noted_at: Option<Timestamp>,
    distrusted_at: Option<Timestamp>,
}

impl Told {
    pub(crate) fn from_note(note: Note) -> Self {
        Self { reached: note.reached, at: Some(note.at), quota: note.quota, ..Self::default() }
    }
}

impl Shared {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how far an update brings it.
    pub(crate) fn note(&self, update: &Update) {
        let now = self.clock.now();
        let mut told = self.told();
        let mut is_due = false;
        if let Some(quota) = &update.quota {
            told.quota = Some(Arc::new(quota.clone()));
            is_due = true;
        }
        if let Some(reached) = update.reached {
            is_due |= told.reached != reached;
            told.reached = reached;
            told.at = Some(now);
        }
        is_due |= told.noted_at.is_none_or(|at| seconds(at, now) >= NOTE);
        if let Some(at) = told.at.filter(|_| is_due) {
            told.noted_at = Some(now);
            let (reached, quota) = (told.reached, told.quota.clone());
            self.outbox.keep_note(Note { reached, at, quota });
        }
    }

    /// Whether the roster may be begun anew; if so, not again soon.
    pub(crate) fn may_distrust(&self) -> bool {
        let now = self.clock.now();
        let mut told = self.told();
        let may = told.distrusted_at.is_none_or(|at| seconds(at, now) >= DISTRUST);
        if may {
            told.distrusted_at = Some(now);
        }
        may
    }

    /// Whether it is too long ago that it heard any news.
    pub(crate) fn is_too_old(&self) -> bool {
        let now = self.clock.now();
        self.settings
            .max_age
            .is_some_and(|limit| self.told().at.is_none_or(|at| seconds(at, now) > limit))
    }

    /// Decides whether calls are answered: from a state that is whole, and not too old if that matters.
    pub(crate) fn judge_age(&self) {
        // One after the other: what was judged of an earlier state must not come after what is judged of a later one.
        let _one_at_a_time = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = self.callers.roster.head().epoch != 0;
        let refuses = self.settings.when_too_old == WhenTooOld::Refuse && self.is_too_old();
        let before = self.is_serving.swap(is_whole && !refuses, Ordering::Relaxed);
        if before && refuses {
            tracing::error!(
                "the state is too old to be served; calls are refused until news comes"
            );
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
