//! The usage journal of one worker, written in groups.
//!
//! A call leaves its record here and gets a ticket; its answer is held back until the record has been written. The
//! writer is a task of its own that is woken by the first record and runs after everything that is ready now, so
//! that one system call serves all the calls of one turn.

use std::{
    cell::RefCell,
    future::poll_fn,
    path::Path,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use journal::{JournalError, Writer};
use model::UsageRecord;

use crate::{metrics::Metrics, worker::Epoch};

/// After a failure the journal is left alone for this long, in nanoseconds.
const PAUSE: u64 = 1_000_000_000;

/// The usage of one worker.
pub(crate) struct UsageLog {
    inner: RefCell<Inner>,
    metrics: Arc<Metrics>,
    epoch: Epoch,
}

struct Inner {
    writer: Writer,
    /// The last ticket that was given out, and the last one that was written.
    given: u64,
    written: u64,
    waiting: Vec<Waker>,
    flusher: Option<Waker>,
    /// Until when the journal is left alone; set while it fails.
    paused_until: Option<u64>,
}

impl UsageLog {
    pub(crate) fn open(
        dir: &Path,
        key: &journal::Key,
        metrics: Arc<Metrics>,
        epoch: Epoch,
    ) -> Result<Self, JournalError> {
        let inner = Inner {
            writer: Writer::open(dir, key)?,
            given: 0,
            written: 0,
            waiting: Vec::new(),
            flusher: None,
            paused_until: None,
        };
        Ok(Self { inner: RefCell::new(inner), metrics, epoch })
    }

    /// Takes a record; the ticket says when it has been written.
    pub(crate) fn record(&self, record: &UsageRecord) -> u64 {
        let mut inner = self.inner.borrow_mut();
        if inner.writer.push(record.to_bytes().as_ref()).is_err() {
            self.metrics.usage_lost.inc();
        }
        inner.given += 1;
        if let Some(flusher) = inner.flusher.take() {
            flusher.wake();
        }
        inner.given
    }

    /// Whether the record of `ticket` has been written, or given up on.
    pub(crate) fn poll_written(&self, ticket: u64, context: &Context<'_>) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        if ticket <= inner.written {
            return Poll::Ready(());
        }
        inner.waiting.push(context.waker().clone());
        Poll::Pending
    }

    /// Writes whatever comes, for as long as the worker lives.
    pub(crate) async fn keep_writing(&self) {
        poll_fn(|context| {
            self.write(self.epoch.now());
            self.inner.borrow_mut().flusher = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Writes what there is and makes it durable.
    pub(crate) fn finish(&self) {
        self.write(u64::MAX);
        let synced = self.inner.borrow_mut().writer.sync();
        if let Err(error) = synced {
            tracing::error!(error = &error as &dyn std::error::Error, "usage may not be durable");
        }
    }

    /// Tries again what could not be written, once the pause is over.
    pub(crate) fn retry(&self, now: u64) {
        if self.inner.borrow().paused_until.is_some() {
            self.write(now);
        }
    }

    fn write(&self, now: u64) {
        let mut inner = self.inner.borrow_mut();
        if inner.paused_until.is_none_or(|until| until <= now) {
            let outcome = inner.writer.commit();
            self.note(&mut inner, outcome, now);
        }
        // A journal that cannot be written does not stop the calls.
        inner.written = inner.given;
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// Logs the beginning and the end of each episode in which the journal cannot be written.
    fn note(&self, inner: &mut Inner, outcome: Result<(), JournalError>, now: u64) {
        match outcome {
            Ok(()) => {
                if inner.paused_until.take().is_some() {
                    tracing::info!("usage is written again");
                }
            }
            Err(error) => {
                self.metrics.journal_failures.inc();
                if inner.paused_until.replace(now.saturating_add(PAUSE)).is_none() {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "usage cannot be written; calls are served on and their usage is kept in memory \
                         while there is room"
                    );
                }
            }
        }
    }
}
