//! The key of a journal, and the keys derived from it.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
};
use zeroize::Zeroizing;

/// A secret of 256 bits. Overwritten when dropped, and never shown.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key that encrypts whatever carries `salt`, for one `purpose`.
    pub(crate) fn derive(
        &self,
        salt: &[u8],
        purpose: &[&[u8]],
    ) -> Result<LessSafeKey, Unspecified> {
        let secret = Salt::new(HKDF_SHA256, salt).extract(self.0.as_slice());
        let key = secret.expand(purpose, &AES_256_GCM)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key")
    }
}
