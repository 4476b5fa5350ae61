//! What the gateway writes down of every call.

use crate::{ApplicationId, CredentialId, DeploymentId, SubscriptionId, VersionId};

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
    /// Length of the binary form.
    pub const LENGTH: usize = 8 + 5 * 16 + 2 + 2 + 1 + 4 + 4 + 8 + 8;

    /// The binary form: little-endian fields in the order of the struct; no subscription is 0, no operation
    /// is 65,535.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
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
        bytes
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
        };
        rest.is_empty().then_some(record)
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
        };
        let bytes = record.to_bytes();
        assert_eq!(UsageRecord::from_bytes(&bytes), Some(record));
        assert_eq!(UsageRecord::from_bytes(&bytes[1..]), None);
        assert_eq!(UsageRecord::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }
}
