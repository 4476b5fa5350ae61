//! The installation's secrets, all derived from one master key, and fresh random ones.

use aws_lc_rs::{
    constant_time, digest, hkdf, hmac,
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use journal::Key;
use model::CredentialDigest;
use zeroize::Zeroizing;

use crate::MarketError;

/// Keys for each purpose.
#[derive(Clone)]
pub struct Secrets {
    credential: Zeroizing<[u8; 32]>,
    fingerprint: Zeroizing<[u8; 32]>,
    sealing: Key,
    gateway_state: Key,
    usage: Key,
    check: Zeroizing<[u8; 32]>,
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Secrets {
    /// Derives the keys for each purpose from the master key (HKDF-SHA-256, RFC 5869).
    pub fn derive(master: &Zeroizing<[u8; 32]>) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"caduceus").extract(master.as_slice());
        let key_for = |purpose: &str| {
            let mut key = Zeroizing::new([0; 32]);
            secret
                .expand(&[purpose.as_bytes()], KeyLength)
                .and_then(|material| material.fill(key.as_mut_slice()))
                .expect("32 bytes are within the bounds of HKDF");
            key
        };
        Self {
            credential: key_for("credential digests 1"),
            fingerprint: key_for("request fingerprints 1"),
            sealing: Key::new(*key_for("sealed columns 1")),
            gateway_state: Key::new(*key_for("gateway state 1")),
            usage: Key::new(*key_for("usage journal 1")),
            check: key_for("master key check 1"),
        }
    }

    /// The key that turns API keys into digests.
    pub fn credential_key(&self) -> [u8; 32] {
        *self.credential
    }

    /// The key of the gateway's snapshot on disk.
    pub fn gateway_state_key(&self) -> Key {
        self.gateway_state.clone()
    }

    /// What the master key is recognised by; says nothing about it or the keys that are derived from it.
    pub(crate) fn master_key_check(&self) -> String {
        hex(self.check.as_slice())
    }

    /// The key of the usage journals.
    pub fn usage_key(&self) -> Key {
        self.usage.clone()
    }

    /// The keyed hash under which a secret is stored.
    pub fn digest(&self, secret: &str) -> CredentialDigest {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.credential.as_slice());
        let tag = hmac::sign(&key, secret.as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(tag.as_ref());
        CredentialDigest(digest)
    }

    /// The keyed hash by which a request is known again. A request may hold a password, which an unkeyed hash would
    /// give away to whoever reads the database and tries enough of them.
    pub(crate) fn fingerprint(&self, request: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.fingerprint.as_slice());
        hex(hmac::sign(&key, request.as_bytes()).as_ref())
    }

    /// Whether `secret` is the one with this digest, in constant time.
    pub fn matches(&self, secret: &str, digest: CredentialDigest) -> bool {
        constant_time::verify_slices_are_equal(&self.digest(secret).0, &digest.0).is_ok()
    }

    pub(crate) fn seal(&self, bytes: &[u8]) -> Result<Vec<u8>, MarketError> {
        journal::seal(&self.sealing, bytes)
            .map_err(|error| MarketError::internal("a value could not be sealed")(error.into()))
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, MarketError> {
        journal::open(&self.sealing, sealed).map_err(|error| {
            MarketError::internal("a sealed value could not be opened; is it the right master key?")(
                error.into(),
            )
        })
    }
}

/// Fresh random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A one-time token of 256 random bits.
pub(crate) fn one_time_token() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    hex(context.finish().as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fresh P-256 key pair: PKCS #8 of the private half, uncompressed point of the public half.
pub(crate) fn signing_pair() -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), MarketError> {
    let fail = |_| MarketError::Internal("no signing key could be made", None);
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(fail)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).map_err(
        |error| MarketError::internal("no signing key could be made")(error.to_string().into()),
    )?;
    Ok((Zeroizing::new(pkcs8.as_ref().to_vec()), pair.public_key().as_ref().to_vec()))
}
