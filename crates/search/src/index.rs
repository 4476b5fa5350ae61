//! The index on disk: opening, applying changes, and the number of the last event.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError,
    directory::MmapDirectory, indexer::IndexWriterOptions,
};

use crate::{
    entry::Change,
    fields::{Fields, schema, tokenizers},
};

/// The index of the catalogue.
///
/// Idle it has no thread and holds little memory: the writer lives as long as a call of
/// [`CatalogueIndex::apply`], and the reader only reloads after one.
pub struct CatalogueIndex {
    pub(crate) index: Index,
    pub(crate) reader: IndexReader,
    pub(crate) fields: Fields,
    position: AtomicU64,
    writing: Mutex<()>,
}

/// Why the index could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The folder could not be read, made or emptied.
    #[error("the folder {0} of the search index could not be used")]
    Folder(PathBuf, #[source] io::Error),
    /// The index could not be read or written.
    #[error("the search index failed")]
    Index(#[from] TantivyError),
}

/// Raised when the layout changes, so that indexes of an older one are built anew.
pub(crate) const LAYOUT: &str = "2";

/// Memory of the writer: the least that is allowed.
const WRITER_BYTES: usize = 15_000_000;

/// Blocks of stored text kept unpacked.
const CACHED_BLOCKS: usize = 4;

impl CatalogueIndex {
    /// Opens the index in a folder, or makes one. What is damaged or of another layout is wiped,
    /// and the position is 0 again.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used, or not even an empty index can be made in it.
    pub fn open(dir: &Path) -> Result<Self, SearchError> {
        let in_folder = |error| SearchError::Folder(dir.to_owned(), error);
        fs::create_dir_all(dir).map_err(in_folder)?;
        if let Ok(opened) = Self::open_existing(dir) {
            return Ok(opened);
        }
        wipe(dir).map_err(in_folder)?;
        let (schema, _) = schema();
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let index = Index::builder()
            .schema(schema)
            .settings(settings)
            .tokenizers(tokenizers())
            .create_in_dir(dir)?;
        Self::start(index, 0)
    }

    /// Number of the last event whose changes are in the index.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Applies changes in their order and notes the event they end with, all or nothing.
    ///
    /// # Errors
    ///
    /// When the index cannot be written; it then stays as it was.
    pub fn apply(&self, changes: &[Change], position: u64) -> Result<(), SearchError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = self.writer()?;
        for change in changes {
            match change {
                Change::Put(entry) => {
                    writer.delete_term(self.fields.api_term(entry.api));
                    writer.add_document(self.fields.document(entry))?;
                }
                Change::Remove(api) => {
                    writer.delete_term(self.fields.api_term(*api));
                }
            }
        }
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&format!("{LAYOUT}:{position}"));
        commit.commit()?;
        self.position.store(position, Ordering::Release);
        // Merges that the commit started end here, and with them the threads of the writer. The
        // changes are there even if a merge fails.
        let merged = writer.wait_merging_threads();
        self.reader.reload()?;
        Ok(merged?)
    }

    /// A writer with few threads: each would leave memory behind in the allocator.
    fn writer(&self) -> Result<IndexWriter<TantivyDocument>, TantivyError> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        self.index.writer_with_options(options)
    }

    fn open_existing(dir: &Path) -> Result<Self, TantivyError> {
        let mut index = Index::open(MmapDirectory::open(dir)?)?;
        index.set_tokenizers(tokenizers());
        if index.schema() != schema().0 {
            return Err(TantivyError::SchemaError("another layout".to_owned()));
        }
        remove_leftovers(dir, &index)?;
        if has_stub(dir)? || !index.validate_checksum()?.is_empty() {
            return Err(TantivyError::SystemError("damaged files".to_owned()));
        }
        let payload = index.load_metas()?.payload.unwrap_or_default();
        let position = payload.split_once(':').filter(|(layout, _)| *layout == LAYOUT);
        let position = position
            .and_then(|(_, number)| number.parse().ok())
            .ok_or_else(|| TantivyError::SchemaError("an index without a position".to_owned()))?;
        let opened = Self::start(index, position);
        opened.map_err(|error| match error {
            SearchError::Index(error) => error,
            SearchError::Folder(_, error) => error.into(),
        })
    }

    fn start(index: Index, position: u64) -> Result<Self, SearchError> {
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(CACHED_BLOCKS)
            .try_into()?;
        let (_, fields) = schema();
        let position = AtomicU64::new(position);
        Ok(Self { index, reader, fields, position, writing: Mutex::new(()) })
    }
}

/// Whether a file of a segment is too short to end in a checksum, which tantivy takes for granted.
fn has_stub(dir: &Path) -> io::Result<bool> {
    const FOOTER: u64 = 8;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if is_segment_file(&entry.file_name().to_string_lossy()) && entry.metadata()?.len() < FOOTER
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the files of an index. Others that lie in the folder by mistake stay.
/// Removes files of segments that the index does not know: a process that was killed in the middle of a commit leaves
/// them behind, and the next commit would refuse to write a file of the same name.
fn remove_leftovers(dir: &Path, index: &Index) -> Result<(), TantivyError> {
    let known = index.load_metas()?.list_segment_files();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_segment_file(&name.to_string_lossy()) && !known.contains(Path::new(&name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn wipe(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && is_index_file(&name.to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The files of segments, `meta.json`, `.managed.json`, locks, and what a crash left half written.
fn is_index_file(name: &str) -> bool {
    is_segment_file(name)
        || matches!(name, "meta.json" | ".managed.json")
        || name.starts_with(".tantivy-") && name.ends_with(".lock")
        || name.starts_with(".tmp")
}

/// 32 hexadecimal digits and an extension.
fn is_segment_file(name: &str) -> bool {
    name.split_once('.')
        .is_some_and(|(id, _)| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
