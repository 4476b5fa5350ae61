//! The data folder: one process at a time, its master key, its name.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// A data folder that this process holds. Dropping it lets others in.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Something in it cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it was tried with.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the data folder {0} is in use by another caduceus")]
    InUse(PathBuf),
    /// The master key is not 64 hexadecimal digits.
    #[error("the master key in {0} must be 64 hexadecimal digits")]
    MalformedKey(PathBuf),
    /// The master key is missing though there is data under it.
    #[error(
        "the master key {0} is missing, but there is data that was made under one: put it back"
    )]
    MissingKey(PathBuf),
}

impl DataDir {
    /// Opens a data folder, or makes one that only its owner can read.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(fail("create the data folder", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fail("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(fail("lock", &lock_path)(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The URL of the embedded database.
    pub fn sqlite_url(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.path.join("caduceus.db").display())
    }

    /// Where the catalogue's index lives.
    pub fn index(&self) -> PathBuf {
        self.path.join("search")
    }

    /// Where the gateway keeps its snapshot and usage.
    pub fn gateway(&self) -> PathBuf {
        self.path.join("gateway")
    }

    /// Reads the master key; makes one when the folder is new and no file was named.
    pub fn master_key(&self, named: Option<&Path>) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        let path = named.map_or_else(|| self.path.join("master.key"), Path::to_owned);
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => parse_key(text.trim()).ok_or(DataDirError::MalformedKey(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                if self.path.join("caduceus.db").exists() || self.gateway().exists() {
                    return Err(DataDirError::MissingKey(path));
                }
                make_key(&path)
            }
            Err(source) => Err(DataDirError::Io { action: "read the master key", path, source }),
        }
    }

    /// Reads a master key; makes none.
    pub fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|source| DataDirError::Io {
            action: "read the master key",
            path: path.to_owned(),
            source,
        })?;
        parse_key(text.trim()).ok_or_else(|| DataDirError::MalformedKey(path.to_owned()))
    }

    /// A name of this folder that no other folder has.
    pub fn node(&self) -> Result<String, DataDirError> {
        let path = self.path.join("node");
        match fs::read_to_string(&path) {
            Ok(name) => Ok(name.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = hex(&random::<8>());
                write_private(&path, &name)?;
                Ok(name)
            }
            Err(source) => Err(DataDirError::Io { action: "read", path, source }),
        }
    }

    /// Reads a file of the folder; none when it is not there.
    pub fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataDirError::Io { action: "read", path, source }),
        }
    }

    /// Writes a file of the folder that only its owner can read, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<(), DataDirError> {
        write_private(&self.path.join(name), text)
    }
}

fn make_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
    let key = Zeroizing::new(random::<32>());
    write_private(path, &Zeroizing::new(format!("{}\n", hex(key.as_slice()))))?;
    Ok(key)
}

fn write_private(path: &Path, text: &str) -> Result<(), DataDirError> {
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| DataDirError::Io { action: "write", path: path.to_owned(), source })
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let key = first.master_key(None).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        let mode = fs::metadata(path.join("master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(first);
        let again = DataDir::open(&path).unwrap();
        assert_eq!(*again.master_key(None).unwrap(), *key);
        assert_eq!(again.node().unwrap(), again.node().unwrap());
    }

    #[test]
    fn a_lost_key_is_not_silently_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.master_key(None).unwrap();
        data.write("caduceus.db", "").unwrap();
        fs::remove_file(dir.path().join("master.key")).unwrap();
        assert!(matches!(data.master_key(None), Err(DataDirError::MissingKey(_))));
    }
}
