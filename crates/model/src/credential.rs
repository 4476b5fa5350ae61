//! Credentials of applications, and the form of an API key.
//!
//! A key is `cad_` + 43 base-62 characters (256 random bits) + 6 base-62 characters of CRC-32 over all before
//! them. The checksum lets the gateway and secret scanners refuse a mistyped key without a look-up; it is no
//! security measure. Only a keyed hash of the key is stored.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ApplicationId, CredentialId, Name, Roles, TenantId, UserId};

/// What identifies an application; the secret itself is not in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Identifier.
    pub id: CredentialId,
    /// The application it identifies.
    pub application: ApplicationId,
    /// The tenant of the application.
    pub tenant: TenantId,
    /// What people call it.
    pub name: Name,
    /// What kind it is.
    pub kind: CredentialKind,
    /// The first characters of the secret, to recognise it by.
    pub prefix: String,
    /// The last four characters of the secret.
    pub last_four: String,
    /// Whether it is accepted.
    pub status: CredentialStatus,
    /// When it stops being accepted.
    pub expires_at: Option<Timestamp>,
    /// When it was last seen, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// The credential that replaced it.
    pub replaced_by: Option<CredentialId>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

impl Credential {
    /// Whether it is accepted at `now`.
    pub fn is_accepted(&self, now: Timestamp) -> bool {
        self.status == CredentialStatus::Active && self.expires_at.is_none_or(|end| now < end)
    }
}

/// What kind of secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialKind {
    /// A key for calls through the gateway.
    ApiKey,
    /// A client id and secret for the token endpoint of the control API.
    OauthClient {
        /// What the program may do there.
        roles: Roles,
    },
}

/// Whether a credential is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialStatus {
    /// Accepted until it expires.
    Active,
    /// Never accepted again.
    Revoked,
}

/// A keyed hash (HMAC-SHA-256) of a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CredentialDigest(pub [u8; 32]);

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("CredentialDigest")
    }
}

const MARK: &str = "cad_";
const SECRET_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
const KEY_LENGTH: usize = MARK.len() + SECRET_DIGITS + CHECK_DIGITS;
const SHOWN: usize = MARK.len() + 6;
const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed API key. It has no `Display`, and `Debug` shows only the prefix.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a text is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// The text has another length, mark or alphabet.
    #[error("an API key is cad_ followed by 49 letters and digits")]
    Form,
    /// The checksum does not match, as after a typing mistake.
    #[error("the checksum of the API key does not match: it was mistyped or cut")]
    Checksum,
}

impl ApiKey {
    /// How many bytes a key has.
    pub const LENGTH: usize = KEY_LENGTH;

    /// Makes a key of 256 random bits.
    pub fn from_random(bits: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(KEY_LENGTH);
        text.push_str(MARK);
        push_base_62(&mut text, bits, SECRET_DIGITS);
        let check = crc32(text.as_bytes()).to_be_bytes();
        push_base_62(&mut text, &check, CHECK_DIGITS);
        Self(text)
    }

    /// Reads a key; fails when its form or checksum is wrong. Compares no secret.
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        Self::check(text).map(|()| Self(text.to_owned()))
    }

    /// Checks form and checksum of a key without keeping it.
    pub fn check(text: &str) -> Result<(), ApiKeyError> {
        let well_formed = text.len() == KEY_LENGTH
            && text.starts_with(MARK)
            && text.bytes().skip(MARK.len()).all(|byte| byte.is_ascii_alphanumeric());
        if !well_formed {
            return Err(ApiKeyError::Form);
        }
        let (body, check) = text.split_at(KEY_LENGTH - CHECK_DIGITS);
        let mut rest = crc32(body.as_bytes());
        let matches = check.bytes().rev().all(|digit| {
            let expected = BASE_62[(rest % 62) as usize];
            rest /= 62;
            digit == expected
        });
        if matches { Ok(()) } else { Err(ApiKeyError::Checksum) }
    }

    /// The first characters, which may be shown.
    pub fn prefix(&self) -> &str {
        &self.0[..SHOWN]
    }

    /// The last four characters, which may be shown.
    pub fn last_four(&self) -> &str {
        &self.0[KEY_LENGTH - 4..]
    }

    /// The whole key. Shown once to its owner, otherwise only hashed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ApiKey({}…)", self.prefix())
    }
}

/// Appends `bytes`, read as one big-endian number, as exactly `digits` base-62 digits.
fn push_base_62(text: &mut String, bytes: &[u8], digits: usize) {
    let mut number = bytes.to_vec();
    let mut reversed = Vec::with_capacity(digits);
    for _ in 0..digits {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        reversed.push(BASE_62[rest as usize]);
    }
    text.extend(reversed.iter().rev().map(|digit| char::from(*digit)));
}

/// CRC-32 as in IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        CRC_TABLE[index as usize] ^ (crc >> 8)
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the index stays below 256")]
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_key_reads_back_and_hides_itself() {
        let key = ApiKey::from_random(&[0xa5; 32]);
        assert_eq!(key.expose().len(), KEY_LENGTH);
        assert_eq!(ApiKey::parse(key.expose()), Ok(key.clone()));
        assert!(!format!("{key:?}").contains(key.last_four()));
        assert_ne!(ApiKey::from_random(&[0xff; 32]), ApiKey::from_random(&[0xfe; 32]));
    }

    #[test]
    fn every_single_typing_mistake_is_noticed() {
        let key = ApiKey::from_random(&[7; 32]).expose().to_owned();
        for place in MARK.len()..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[place] = if wrong[place] == b'x' { b'y' } else { b'x' };
            assert_eq!(
                ApiKey::check(std::str::from_utf8(&wrong).unwrap()),
                Err(ApiKeyError::Checksum)
            );
        }
        assert_eq!(ApiKey::check("cad_é"), Err(ApiKeyError::Form));
    }
}
