//! The requests and answers of the feed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use journal::Position;
use market::UsageBatch;
use model::{NodeId, Standing};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

pub(crate) const ENROL: &str = "/feed/v1/enrol";
pub(crate) const RENEW: &str = "/feed/v1/renew";
pub(crate) const FOLLOW: &str = "/feed/v1/follow";
pub(crate) const USAGE: &str = "/feed/v1/usage";

/// The largest request: a batch of usage with its frame.
pub(crate) const REQUEST_MAX: usize = 6 << 20;
/// The largest answer: a structure of many routes and a page of the roster.
pub(crate) const ANSWER_MAX: usize = 512 << 20;

/// Bytes, as base 64 in JSON.
pub(crate) struct Octets(pub(crate) Zeroizing<Vec<u8>>);

impl Octets {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self::new).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnrolRequest {
    pub(crate) secret: String,
    pub(crate) csr: Octets,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnrolAnswer {
    pub(crate) node: NodeId,
    pub(crate) certificate: Octets,
    pub(crate) expires_at: Timestamp,
    pub(crate) credential_key: Octets,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RenewRequest {
    pub(crate) csr: Octets,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenewAnswer {
    pub(crate) certificate: Octets,
    pub(crate) expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FollowRequest {
    pub(crate) standing: Standing,
    pub(crate) version: String,
}

/// Where the next batch of usage has to begin.
#[derive(Serialize, Deserialize)]
pub(crate) struct UsageAnswer {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// The binary form of a batch: numbers little-endian, then each record behind its length in four bytes.
pub(crate) fn write_batch(batch: &UsageBatch) -> Vec<u8> {
    let mut bytes = batch.journal.to_le_bytes().to_vec();
    for place in [batch.from, batch.next] {
        bytes.extend_from_slice(&place.segment.to_le_bytes());
        bytes.extend_from_slice(&place.offset.to_le_bytes());
    }
    for record in &batch.records {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

pub(crate) fn read_batch(mut bytes: &[u8]) -> Option<UsageBatch> {
    let journal = u32::from_le_bytes(take(&mut bytes)?);
    let mut place = || {
        let segment = u64::from_le_bytes(take(&mut bytes)?);
        Some(Position { segment, offset: u64::from_le_bytes(take(&mut bytes)?) })
    };
    let (from, next) = (place()?, place()?);
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32::from_le_bytes(take(&mut bytes)?)).ok()?;
        let (record, rest) = bytes.split_at_checked(length)?;
        records.push(record.to_vec());
        bytes = rest;
    }
    Some(UsageBatch { journal, from, next, records })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_as_written_and_only_whole() {
        let from = Position { segment: 1, offset: 2 };
        let next = Position { segment: 3, offset: 4 };
        let batch = UsageBatch { journal: 7, from, next, records: vec![vec![1, 2], vec![]] };
        let bytes = write_batch(&batch);
        let again = read_batch(&bytes).unwrap();
        assert_eq!((again.journal, again.from, again.next), (7, from, next));
        assert_eq!(again.records, batch.records);
        assert!(read_batch(&bytes[..bytes.len() - 1]).is_none());
    }
}
