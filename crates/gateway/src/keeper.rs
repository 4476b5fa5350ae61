//! The last good state on disk: the structure in one sealed file, the roster as an encrypted log that is written anew
//! when most of it is history, and a note of how far both had come.
//!
//! Whatever is killed when, a start finds an earlier state that was whole or the later one. A disk that cannot be
//! written stops no call: it is tried again, and then the roster is written whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use journal::{JournalError, Position, SealedError, Writer};
use model::{QuotaUse, RosterDigest, RosterPage, Structure};
use tokio::sync::Notify;

use crate::roster::{Head, Roster};

const READ_BYTES: usize = 4 << 20;
/// So many entries fit into a frame.
const PIECE: usize = 16 << 10;
/// More than this waits for no disk; the roster is written whole instead.
const BACKLOG_BYTES: usize = 16 << 20;
/// A log below this is not worth writing anew.
const LOG_BYTES: u64 = 16 << 20;
/// About as many bytes as an entry takes.
const ENTRY_BYTES: u64 = 90;

/// What is still to be kept.
#[derive(Default)]
pub(crate) struct Outbox {
    inner: Mutex<Work>,
    pub(crate) changed: Notify,
}

/// What is to be kept.
#[derive(Default)]
pub(crate) struct Work {
    structure: Option<Arc<Structure>>,
    pages: Vec<RosterPage>,
    bytes: usize,
    whole_roster: bool,
    note: Option<Note>,
}

/// How far the state had come.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    pub(crate) reached: u64,
    pub(crate) at: Timestamp,
    pub(crate) quota: Option<Arc<QuotaUse>>,
}

/// Keeps the state of one gateway.
pub(crate) struct Keeper {
    dir: PathBuf,
    key: journal::Key,
    generation: u64,
    log: Option<Log>,
}

struct Log {
    writer: Writer,
    bytes: u64,
}

/// What was found on disk.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) structure: Option<Structure>,
    pub(crate) note: Option<Note>,
}

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the log of the roster failed")]
    Log(#[from] JournalError),
    #[error("a sealed file failed")]
    Sealed(#[from] SealedError),
    #[error("it has no JSON form")]
    Json(#[from] serde_json::Error),
    #[error("it has another form")]
    Form,
    #[error("it is not whole")]
    Partial,
}

impl Outbox {
    pub(crate) fn keep_structure(&self, structure: Arc<Structure>) {
        self.add(|work| work.structure = Some(structure));
    }

    pub(crate) fn keep_note(&self, note: Note) {
        self.add(|work| work.note = Some(note));
    }

    pub(crate) fn keep_page(&self, page: &RosterPage) {
        self.add(|work| {
            let bytes = page.to_bytes().len();
            if work.whole_roster || work.bytes + bytes > BACKLOG_BYTES {
                work.want_whole_roster();
            } else {
                work.bytes += bytes;
                work.pages.push(page.clone());
            }
        });
    }

    pub(crate) fn keep_roster(&self) {
        self.add(Work::want_whole_roster);
    }

    fn add(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    pub(crate) fn take(&self) -> Work {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts back what could not be kept, unless something newer has come.
    fn give_back(&self, rest: Work) {
        let mut work = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if work.structure.is_none() {
            work.structure = rest.structure;
        }
        if work.note.is_none() {
            work.note = rest.note;
        }
        if rest.whole_roster {
            work.want_whole_roster();
        }
    }
}

impl Work {
    fn want_whole_roster(&mut self) {
        self.whole_roster = true;
        self.pages = Vec::new();
        self.bytes = 0;
    }
}

impl Keeper {
    pub(crate) fn new(dir: &Path, key: &journal::Key) -> Self {
        Self { dir: dir.to_owned(), key: key.clone(), generation: 0, log: None }
    }

    /// Reads the state into `roster` and what it returns. What is damaged, of another form or under another key is set
    /// aside, and the gateway waits for the next one; a state of which one half is missing is not served.
    ///
    /// Fails when the operating system does not let it be read.
    pub(crate) fn load(&mut self, roster: &Roster) -> Result<Found, KeepError> {
        self.load_roster(roster)?;
        let structure = self.load_structure()?;
        let note = match journal::read_sealed(&self.dir.join("standing"), &self.key) {
            Ok(bytes) => bytes.as_deref().and_then(Note::from_bytes),
            Err(error @ SealedError::Io { .. }) => return Err(error.into()),
            // Without it the state is only believed to be older than it is.
            Err(SealedError::Damaged | SealedError::Random) => None,
        };
        Ok(Found { structure, note })
    }

    fn load_structure(&self) -> Result<Option<Structure>, KeepError> {
        let path = self.structure_path();
        let read = match journal::read_sealed(&path, &self.key) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(KeepError::Json),
            Err(error @ SealedError::Io { .. }) => return Err(error.into()),
            Err(error @ (SealedError::Damaged | SealedError::Random)) => Err(error.into()),
        };
        match read {
            Ok(structure) => Ok(Some(structure)),
            Err(error) => {
                set_aside(&path, &error);
                Ok(None)
            }
        }
    }

    /// Sets the structure aside because it cannot be used.
    pub(crate) fn refuse_structure(&self, error: &(dyn std::error::Error + 'static)) {
        set_aside(&self.structure_path(), error);
    }

    fn structure_path(&self) -> PathBuf {
        self.dir.join("structure")
    }

    fn load_roster(&mut self, roster: &Roster) -> Result<(), KeepError> {
        let Some(generation) = self.generations()?.last().copied() else { return Ok(()) };
        self.generation = generation;
        let dir = self.generation_dir(generation);
        match self.read_log(&dir, roster) {
            Ok(Some(bytes)) => {
                self.log = Some(Log { writer: Writer::open(&dir, &self.key)?, bytes });
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error @ KeepError::Log(JournalError::Io { .. })) => Err(error),
            Err(error) => {
                roster.clear();
                set_aside(&dir, &error);
                Ok(())
            }
        }
    }

    /// Reads a log; tells its size unless its end is unreadable, so that it cannot be gone on with.
    fn read_log(&self, dir: &Path, roster: &Roster) -> Result<Option<u64>, KeepError> {
        let mut place = Position::default();
        let mut is_whole = false;
        let mut bytes = 0;
        loop {
            let batch = match journal::read(dir, &self.key, place, READ_BYTES) {
                Ok(batch) => batch,
                // A machine that lost power may have kept an unfinished end; what is before it is whole.
                Err(error @ JournalError::Damaged { .. }) if is_whole => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the end of the roster's log is unreadable; an earlier state is served"
                    );
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            if batch.next == place {
                return if is_whole { Ok(Some(bytes)) } else { Err(KeepError::Partial) };
            }
            place = batch.next;
            for record in batch.records() {
                let page = RosterPage::from_bytes(record).ok_or(KeepError::Form)?;
                is_whole |= page.digest.is_some();
                bytes += record.len() as u64;
                roster.restore(&page);
            }
        }
    }

    /// Keeps what there is to keep; says whether nothing is left to be tried again.
    pub(crate) fn keep(&mut self, outbox: &Outbox, roster: &Roster) -> Result<(), KeepError> {
        let mut rest = outbox.take();
        let mut outcome = self.keep_roster(&mut rest, roster);
        if let Some(structure) = &rest.structure {
            match self.keep_structure(structure) {
                Ok(()) => rest.structure = None,
                Err(error) => outcome = Err(error),
            }
        }
        if let Some(note) = &rest.note {
            let path = self.dir.join("standing");
            match journal::write_sealed(&path, &self.key, &note.to_bytes()) {
                Ok(()) => rest.note = None,
                Err(error) => outcome = Err(error.into()),
            }
        }
        outbox.give_back(rest);
        outcome
    }

    fn keep_structure(&self, structure: &Structure) -> Result<(), KeepError> {
        let bytes = serde_json::to_vec(structure)?;
        Ok(journal::write_sealed(&self.structure_path(), &self.key, &bytes)?)
    }

    fn keep_roster(&mut self, work: &mut Work, roster: &Roster) -> Result<(), KeepError> {
        let pages = std::mem::take(&mut work.pages);
        if pages.is_empty() && !work.whole_roster {
            return Ok(());
        }
        // Until it has been done.
        let is_whole = std::mem::replace(&mut work.whole_roster, true);
        if is_whole || !self.append(&pages, &roster.head())? {
            self.rewrite(roster)?;
        }
        work.whole_roster = false;
        Ok(())
    }

    /// Appends pages to the log; says whether that was possible and worth while. Whatever fails, the log is given up
    /// and another one begun, so that a log never has a gap.
    fn append(&mut self, pages: &[RosterPage], head: &Head) -> Result<bool, KeepError> {
        let Some(mut log) = self.log.take() else { return Ok(false) };
        if pages.iter().any(|page| page.removed.len() + page.present.len() > 2 * PIECE) {
            return Ok(false);
        }
        for page in pages {
            log.bytes += put(&mut log.writer, page)?;
        }
        log.writer.sync()?;
        let live = ENTRY_BYTES * (head.credentials + head.agreements) as u64;
        if log.bytes > LOG_BYTES.max(2 * live) {
            return Ok(false);
        }
        self.log = Some(log);
        Ok(true)
    }

    /// Writes the whole roster into a new log, beside the old one, and then takes its place.
    ///
    /// Entries may change meanwhile: what was read too early is in a page that comes after.
    fn rewrite(&mut self, roster: &Roster) -> Result<(), KeepError> {
        let head = roster.head();
        let generation = self.generation + 1;
        let (dir, unfinished) =
            (self.generation_dir(generation), self.dir.join("roster").join("unfinished"));
        remove(&unfinished)?;
        let mut log = Log { writer: Writer::open(&unfinished, &self.key)?, bytes: 0 };
        let page = |present, digest| RosterPage {
            epoch: head.epoch,
            to: head.number,
            present,
            digest,
            ..RosterPage::default()
        };
        roster.for_each_shard(|entries| {
            for piece in entries.chunks(PIECE) {
                log.bytes += put(&mut log.writer, &page(piece.to_vec(), None))?;
            }
            Ok::<(), KeepError>(())
        })?;
        log.bytes += put(&mut log.writer, &page(Vec::new(), Some(RosterDigest::default())))?;
        log.writer.sync()?;
        let failed =
            |source| KeepError::Io { action: "put in its place", path: dir.clone(), source };
        // The writer keeps its file open under either name; later segments need the new one.
        drop(log.writer);
        fs::rename(&unfinished, &dir).map_err(failed)?;
        fs::File::open(self.dir.join("roster")).and_then(|dir| dir.sync_all()).map_err(failed)?;
        let before = std::mem::replace(&mut self.generation, generation);
        self.log = Some(Log { writer: Writer::open(&dir, &self.key)?, bytes: log.bytes });
        for old in self.generations()?.into_iter().filter(|old| *old <= before) {
            remove(&self.generation_dir(old))?;
        }
        Ok(())
    }

    fn generation_dir(&self, generation: u64) -> PathBuf {
        self.dir.join("roster").join(generation.to_string())
    }

    /// The logs there are, oldest first.
    fn generations(&self) -> Result<Vec<u64>, KeepError> {
        let path = self.dir.join("roster");
        let failed = |source| KeepError::Io { action: "list", path: path.clone(), source };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl Note {
    /// The binary form: the number, the time in microseconds, and the use of quotas if any.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.reached.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.at.as_microsecond().to_le_bytes());
        if let Some(quota) = &self.quota {
            bytes.extend_from_slice(&quota.to_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (reached, rest) = bytes.split_first_chunk()?;
        let (at, quota) = rest.split_first_chunk()?;
        let quota = if quota.is_empty() { None } else { Some(QuotaUse::from_bytes(quota)?) };
        Some(Self {
            reached: u64::from_le_bytes(*reached),
            at: Timestamp::from_microsecond(i64::from_le_bytes(*at)).ok()?,
            quota: quota.map(Arc::new),
        })
    }
}

/// Writes a page as one frame, so that it is read whole or not at all. One that is too large is left to the whole roster.
fn put(writer: &mut Writer, page: &RosterPage) -> Result<u64, KeepError> {
    let bytes = page.to_bytes();
    writer.push(&bytes).map_err(|_full| KeepError::Form)?;
    writer.commit()?;
    Ok(bytes.len() as u64)
}

fn remove(dir: &Path) -> Result<(), KeepError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KeepError::Io { action: "remove", path: dir.to_owned(), source }),
    }
}

fn set_aside(path: &Path, error: &(dyn std::error::Error + 'static)) {
    let aside = path.with_extension("unreadable");
    let kept = remove(&aside).is_ok() && fs::rename(path, &aside).is_ok();
    tracing::error!(
        error,
        path = %path.display(),
        aside = %aside.display(),
        kept,
        "the last state cannot be served; no call is answered until another one has come"
    );
}
