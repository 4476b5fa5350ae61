//! TLS towards clients: the certificates of a folder, chosen by server name, and loaded anew when they change.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::UNIX_EPOCH,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The most certificates in a folder.
const CERTIFICATES_MAX: usize = 1_000;

/// The certificates of a folder.
///
/// Each is either a pair of files `NAME.crt` and `NAME.key`, or a folder `NAME` with `fullchain.pem` and
/// `privkey.pem`, all in PEM form. Which one a client gets is decided by the server name it asks for and the names in
/// the certificates; who asks for none, or for an unknown one, gets the one called `default`, or else the first in
/// alphabetical order.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    provider: Arc<CryptoProvider>,
    loaded: ArcSwap<Loaded>,
    /// What the files looked like when they were last read, whether or not they could be used.
    seen: Mutex<Vec<Trace>>,
}

/// Why the certificates of a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no certificate in the folder.
    #[error(
        "there is no certificate in {0}; expected NAME.crt with NAME.key, or NAME/fullchain.pem with NAME/privkey.pem"
    )]
    None(PathBuf),
    /// There are too many.
    #[error("there are more than {CERTIFICATES_MAX} certificates in {0}")]
    TooMany(PathBuf),
    /// A file is not what it should be.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptography in use offers none of the versions of TLS.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Until when a certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The name of its file or folder.
    pub name: String,
    /// When it expires.
    pub not_after: Timestamp,
}

#[derive(Debug)]
struct Loaded {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    status: Vec<CertificateStatus>,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    name: String,
    certificate: PathBuf,
    key: PathBuf,
}

/// What tells that a file has changed: its length, and when it was written, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trace(PathBuf, u64, u128);

impl Certificates {
    /// Loads the certificates of `folder`.
    ///
    /// Fails when there is none, or one of them cannot be used.
    pub fn load(folder: &Path) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pairs = find(folder)?;
        let loaded = Loaded::read(&pairs, &provider)?;
        Ok(Self {
            folder: folder.to_owned(),
            provider,
            loaded: ArcSwap::from_pointee(loaded),
            seen: Mutex::new(traces(&pairs)),
        })
    }

    /// Loads the certificates anew when their files have changed; says whether they had. Connections that are open
    /// stay as they are.
    ///
    /// Fails, once for each change, when they cannot be used; the ones before stay in use.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = find(&self.folder)?;
        let now = traces(&pairs);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.loaded.store(Arc::new(Loaded::read(&pairs, &self.provider)?));
        Ok(true)
    }

    /// Until when each certificate is valid.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.loaded.load().status.clone()
    }

    /// How a listener speaks TLS with these certificates: versions 1.2 and 1.3, forward secrecy always, and the
    /// protocols of `alpn` in order of preference (RFC 7301).
    ///
    /// Fails only when the cryptography in use offers neither version.
    pub fn server_config(
        self: Arc<Self>,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(CertificateError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(CertificateError::Setup)?;
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let found = hello.server_name().and_then(|name| loaded.find(name));
        Some(Arc::clone(found.unwrap_or(&loaded.default)))
    }
}

impl Loaded {
    fn read(pairs: &[Pair], provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let (mut by_name, mut status, mut default) = (HashMap::new(), Vec::new(), None);
        for pair in pairs {
            let (key, names, not_after) = pair.read(provider)?;
            for name in names {
                by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            if pair.name == "default" || default.is_none() {
                default = Some(key);
            }
            status.push(CertificateStatus { name: pair.name.clone(), not_after });
        }
        let folder = || pairs.first().map(|pair| pair.certificate.clone()).unwrap_or_default();
        let default = default.ok_or_else(|| CertificateError::None(folder()))?;
        Ok(Self { by_name, default, status })
    }

    /// The certificate for a name, or for all names beside it (RFC 9525, 6.3).
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl Pair {
    /// Reads the certificate with its key, its names, and until when it is valid.
    fn read(
        &self,
        provider: &CryptoProvider,
    ) -> Result<(Arc<CertifiedKey>, Vec<String>, Timestamp), CertificateError> {
        let unusable = |path: &Path, reason: String| CertificateError::Unusable {
            path: path.to_owned(),
            reason,
        };
        let text = read(&self.certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(&self.certificate, error.to_string()))?;
        let Some(first) = chain.first() else {
            return Err(unusable(&self.certificate, "it holds no certificate".to_owned()));
        };
        let (names, not_after) =
            names(first).map_err(|reason| unusable(&self.certificate, reason))?;
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| unusable(&self.key, error.to_string()))?;
        // That the key belongs to the certificate is checked as well.
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| unusable(&self.key, error.to_string()))?;
        Ok((Arc::new(certified), names, not_after))
    }
}

fn names(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, Timestamp), String> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let alternative = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let not_after = parsed.validity().not_after.timestamp();
    let not_after = Timestamp::from_second(not_after).map_err(|error| error.to_string())?;
    Ok((names.collect(), not_after))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

/// The certificates in a folder, in alphabetical order.
fn find(folder: &Path) -> Result<Vec<Pair>, CertificateError> {
    let failed = |source| CertificateError::Read { path: folder.to_owned(), source };
    let mut pairs = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned) else {
            continue;
        };
        if path.extension().is_some_and(|extension| extension == "crt") {
            pairs.push(Pair { name, key: path.with_extension("key"), certificate: path });
        } else if path.join("fullchain.pem").exists() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            pairs.push(Pair {
                name: name.unwrap_or_default(),
                certificate: path.join("fullchain.pem"),
                key: path.join("privkey.pem"),
            });
        }
        if pairs.len() > CERTIFICATES_MAX {
            return Err(CertificateError::TooMany(folder.to_owned()));
        }
    }
    if pairs.is_empty() {
        return Err(CertificateError::None(folder.to_owned()));
    }
    pairs.sort();
    Ok(pairs)
}

fn traces(pairs: &[Pair]) -> Vec<Trace> {
    let files = pairs.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    files
        .map(|path| {
            let known = fs::metadata(path).ok();
            let length = known.as_ref().map_or(0, fs::Metadata::len);
            let written =
                known.and_then(|known| known.modified().ok()?.duration_since(UNIX_EPOCH).ok());
            Trace(path.clone(), length, written.map_or(0, |written| written.as_nanos()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate for `names` under `name`.
    fn write(folder: &Path, name: &str, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn the_server_name_decides_which_certificate_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a", &["a.example", "*.wild.example"]);
        write(folder.path(), "default", &["b.example"]);
        let certificates = Certificates::load(folder.path()).unwrap();
        let loaded = certificates.loaded.load();
        let known = |name: &str| loaded.find(name).map(|key| Arc::ptr_eq(key, &loaded.default));
        assert_eq!(known("A.example"), Some(false));
        assert_eq!(known("x.wild.example"), Some(false));
        assert_eq!(known("b.example"), Some(true));
        assert_eq!(known("wild.example"), None);
        assert_eq!(known("x.y.wild.example"), None);
    }

    #[test]
    fn changed_files_are_loaded_and_bad_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a", &["a.example"]);
        let certificates = Certificates::load(folder.path()).unwrap();
        assert!(!certificates.reload().unwrap());
        fs::write(folder.path().join("b.crt"), "nonsense").unwrap();
        assert!(matches!(certificates.reload(), Err(CertificateError::Unusable { .. })));
        // Once is enough.
        assert!(!certificates.reload().unwrap());
        assert_eq!(certificates.status().len(), 1);
        write(folder.path(), "b", &["b.example"]);
        assert!(certificates.reload().unwrap());
        assert_eq!(certificates.status().len(), 2);
        assert!(certificates.loaded.load().find("b.example").is_some());
    }

    #[test]
    fn a_key_must_belong_to_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Certificates::load(folder.path()), Err(CertificateError::None(_))));
        write(folder.path(), "a", &["a.example"]);
        write(folder.path(), "b", &["b.example"]);
        fs::copy(folder.path().join("b.key"), folder.path().join("a.key")).unwrap();
        let error = Certificates::load(folder.path()).unwrap_err();
        assert!(
            matches!(&error, CertificateError::Unusable { path, .. } if path.ends_with("a.key")),
            "{error}"
        );
    }
}
