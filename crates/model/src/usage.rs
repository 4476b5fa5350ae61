//! What the gateway writes down of every call.

use jiff::Timestamp;

use crate::{
    ApiId, ApplicationId, CredentialId, DeploymentId, FailedCallId, SubscriptionId, TenantId,
    VersionId,
};

/// One call, as written to the usage journal. Holds no path, address, header or body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRecord {
    /// When the call arrived, in microseconds since the Unix epoch.
    pub at_micros: i64,
    /// Where it was routed to.
    pub deployment: DeploymentId,
    /// The version that ran there.
    pub version: VersionId,
    /// Who called.
    pub application: ApplicationId,
    /// With which credential.
    pub credential: CredentialId,
    /// Under which subscription; none when the call was refused for want of one.
    pub subscription: Option<SubscriptionId>,
    /// Index into the version's operations; none when no operation matched.
    pub operation: Option<u16>,
    /// The status that the client got.
    pub status: u16,
    /// Whose fault a failure was.
    pub fault: Fault,
    /// Whole duration in microseconds.
    pub duration_micros: u32,
    /// Part of it that was spent waiting for the upstream, in microseconds.
    pub upstream_micros: u32,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// The id of the request (a UUID), of calls that failed only.
    pub request: Option<[u8; 16]>,
}

/// The binary form of a record.
#[derive(Debug, Clone, Copy)]
pub struct UsageBytes {
    bytes: [u8; UsageRecord::LENGTH + 16],
    length: usize,
}

/// A call that failed lately. Holds no path, address, header or body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// Identifier.
    pub id: FailedCallId,
    /// The API that was called.
    pub api: ApiId,
    /// The tenant that owns it.
    pub owner: TenantId,
    /// The version that was called.
    pub version: VersionId,
    /// Index into the version's operations; none when no operation matched.
    pub operation: Option<u16>,
    /// Who called.
    pub application: ApplicationId,
    /// Its tenant.
    pub consumer: TenantId,
    /// What the answer said in `X-Request-Id`.
    pub request_id: String,
    /// The status that the client got; 499 when it went away before.
    pub status: u16,
    /// Whose fault it was.
    pub fault: Fault,
    /// How long it took, in microseconds.
    pub duration_micros: u32,
    /// When the call arrived.
    pub at: Timestamp,
}

/// Whose fault a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Nothing failed.
    None = 0,
    /// The caller's.
    Client = 1,
    /// Ours.
    Gateway = 2,
    /// The upstream's.
    Upstream = 3,
}

impl UsageRecord {
    /// Length of the binary form of a call that did not fail.
    pub const LENGTH: usize = 8 + 5 * 16 + 2 + 2 + 1 + 4 + 4 + 8 + 8;

    /// The binary form: little-endian fields in the order of the struct; no subscription is 0, no operation
    /// is 65,535. The request's id comes last, where there is one.
    pub fn to_bytes(&self) -> UsageBytes {
        let mut bytes = [0; Self::LENGTH + 16];
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(field.len());
            head.copy_from_slice(field);
            rest = tail;
        };
        put(&self.at_micros.to_le_bytes());
        put(&self.deployment.bits().to_le_bytes());
        put(&self.version.bits().to_le_bytes());
        put(&self.application.bits().to_le_bytes());
        put(&self.credential.bits().to_le_bytes());
        put(&self.subscription.map_or(0, SubscriptionId::bits).to_le_bytes());
        put(&self.operation.unwrap_or(u16::MAX).to_le_bytes());
        put(&self.status.to_le_bytes());
        put(&[self.fault as u8]);
        put(&self.duration_micros.to_le_bytes());
        put(&self.upstream_micros.to_le_bytes());
        put(&self.request_bytes.to_le_bytes());
        put(&self.response_bytes.to_le_bytes());
        let mut length = Self::LENGTH;
        if let Some(request) = &self.request {
            put(request);
            length += request.len();
        }
        UsageBytes { bytes, length }
    }

    /// Reads the binary form; `None` when the length or a field is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let record = Self {
            at_micros: i64::from_le_bytes(take(&mut rest)?),
            deployment: DeploymentId::from_bits(u128::from_le_bytes(take(&mut rest)?)),
            version: VersionId::from_bits(u128::from_le_bytes(take(&mut rest)?)),
            application: ApplicationId::from_bits(u128::from_le_bytes(take(&mut rest)?)),
            credential: CredentialId::from_bits(u128::from_le_bytes(take(&mut rest)?)),
            subscription: match u128::from_le_bytes(take(&mut rest)?) {
                0 => None,
                bits => Some(SubscriptionId::from_bits(bits)),
            },
            operation: Some(u16::from_le_bytes(take(&mut rest)?))
                .filter(|index| *index != u16::MAX),
            status: u16::from_le_bytes(take(&mut rest)?),
            fault: match take::<1>(&mut rest)? {
                [0] => Fault::None,
                [1] => Fault::Client,
                [2] => Fault::Gateway,
                [3] => Fault::Upstream,
                _ => return None,
            },
            duration_micros: u32::from_le_bytes(take(&mut rest)?),
            upstream_micros: u32::from_le_bytes(take(&mut rest)?),
            request_bytes: u64::from_le_bytes(take(&mut rest)?),
            response_bytes: u64::from_le_bytes(take(&mut rest)?),
            request: if rest.is_empty() { None } else { Some(take(&mut rest)?) },
        };
        rest.is_empty().then_some(record)
    }
}

impl UsageRecord {
    /// The request's id as the client saw it.
    pub fn request_id(&self) -> Option<String> {
        let hex = format!("{:032x}", u128::from_be_bytes(self.request?));
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        let parts = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)];
        Some(parts.join("-"))
    }
}

impl AsRef<[u8]> for UsageBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Fault {
    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }

    /// Reads the name in the contract.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Client, Self::Gateway, Self::Upstream]
            .into_iter()
            .find(|fault| fault.as_str() == text)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_written() {
        let record = UsageRecord {
            at_micros: 1_700_000_000_000_000,
            deployment: DeploymentId::from_bits(1),
            version: VersionId::from_bits(2),
            application: ApplicationId::from_bits(3),
            credential: CredentialId::from_bits(4),
            subscription: None,
            operation: Some(5),
            status: 429,
            fault: Fault::Client,
            duration_micros: 6,
            upstream_micros: 7,
            request_bytes: 8,
            response_bytes: 9,
            request: Some(0x01a2_0845_a43b_7b3b_9824_140a_d302_a566_u128.to_be_bytes()),
        };
        let id = record.request_id();
        assert_eq!(id.as_deref(), Some("01a20845-a43b-7b3b-9824-140ad302a566"));
        for record in [record, UsageRecord { request: None, ..record }] {
            let bytes = record.to_bytes();
            let bytes = bytes.as_ref();
            assert_eq!(UsageRecord::from_bytes(bytes), Some(record));
            assert_eq!(UsageRecord::from_bytes(&bytes[1..]), None);
            assert_eq!(UsageRecord::from_bytes(&[bytes, &[0]].concat()), None);
        }
    }
}
