//! Single encrypted values, in memory or as a whole file.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use aws_lc_rs::{
    aead::{Aad, Nonce},
    rand,
};

use crate::{Key, SealedError, writer::sync_dir};

const MAGIC: &[u8; 8] = b"CADSEAL1";
const PURPOSE: &[u8] = b"caduceus sealed value 1";
const SALT: usize = 32;
const HEAD: usize = MAGIC.len() + SALT;

/// Encrypts `bytes`. The same bytes never give the same result twice.
pub fn seal(key: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealedError> {
    let mut salt = [0; SALT];
    if rand::fill(&mut salt).is_err() {
        return Err(SealedError::Random);
    }
    let mut sealed = Vec::with_capacity(HEAD + bytes.len() + 16);
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&salt);
    let mut content = bytes.to_vec();
    let key = key.derive(&salt, &[PURPOSE]).expect("the derived key has a lawful length");
    key.seal_in_place_append_tag(nonce(), Aad::from(MAGIC), &mut content)
        .expect("memory ends before the cipher's limit of 64 GiB");
    sealed.extend_from_slice(&content);
    Ok(sealed)
}

/// Decrypts what [`seal`] made; fails when it is damaged or was made under another key.
pub fn open(key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealedError> {
    let Some((salt, content)) =
        sealed.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(SALT))
    else {
        return Err(SealedError::Damaged);
    };
    let mut content = content.to_vec();
    let Ok(key) = key.derive(salt, &[PURPOSE]) else { return Err(SealedError::Damaged) };
    match key.open_in_place(nonce(), Aad::from(MAGIC), &mut content) {
        Ok(bytes) => {
            let length = bytes.len();
            content.truncate(length);
            Ok(content)
        }
        Err(_) => Err(SealedError::Damaged),
    }
}

/// Writes `bytes` encrypted to `path`, so that either the old or the new content is there whatever happens.
pub fn write_sealed(path: &Path, key: &Key, bytes: &[u8]) -> Result<(), SealedError> {
    let sealed = seal(key, bytes)?;
    replace(path, &sealed).map_err(|source| SealedError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Reads what [`write_sealed`] wrote; none when there is no such file.
pub fn read_sealed(path: &Path, key: &Key) -> Result<Option<Vec<u8>>, SealedError> {
    match fs::read(path) {
        Ok(sealed) => open(key, &sealed).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SealedError::Io { action: "read", path: path.to_owned(), source }),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => sync_dir(dir),
        _ => sync_dir(Path::new(".")),
    }
}

/// Each value has a key of its own, so that one nonce is enough.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_whole_and_under_its_key() {
        let key = Key::new([1; 32]);
        let sealed = seal(&key, b"quite secret").unwrap();
        assert_eq!(open(&key, &sealed).unwrap(), b"quite secret");
        assert!(open(&Key::new([2; 32]), &sealed).is_err());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(open(&key, &changed).is_err(), "byte {place}");
            assert!(open(&key, &sealed[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_sealed_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let key = Key::new([1; 32]);
        assert!(read_sealed(&path, &key).unwrap().is_none());
        write_sealed(&path, &key, b"one").unwrap();
        write_sealed(&path, &key, b"two").unwrap();
        assert_eq!(read_sealed(&path, &key).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
