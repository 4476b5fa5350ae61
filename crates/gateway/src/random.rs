//! Random identifiers of calls, cheap enough to make for each.

use aws_lc_rs::rand;
use http::HeaderValue;
use jiff::Timestamp;

const POOL: usize = 4_096;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Random bytes, fetched from the system's generator many at a time.
pub(crate) struct RandomPool {
    bytes: [u8; POOL],
    used: usize,
}

impl RandomPool {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; POOL], used: POOL }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > POOL {
            rand::fill(&mut self.bytes)
                .expect("the system's random generator does not fail once seeded");
            self.used = 0;
        }
        let taken = self.bytes.get(self.used..).and_then(<[u8]>::first_chunk).copied();
        self.used += N;
        taken.unwrap_or([0; N])
    }

    /// A new UUID, version 7 (RFC 9562).
    pub(crate) fn request_id(&mut self, now: Timestamp) -> HeaderValue {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let [_, _, a, b, c, d, e, f] = millis.to_be_bytes();
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9] = self.take();
        let version = 0x70 | (r0 & 0x0f);
        let variant = 0x80 | (r2 & 0x3f);
        let uuid = [a, b, c, d, e, f, version, r1, variant, r3, r4, r5, r6, r7, r8, r9];
        let mut text = [0; 36];
        let mut places = text.iter_mut();
        for (at, byte) in uuid.into_iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                places.next().into_iter().for_each(|place| *place = b'-');
            }
            hex(byte, &mut places);
        }
        header(&text)
    }

    /// A new trace (W3C Trace Context, version 00, not sampled).
    pub(crate) fn traceparent(&mut self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let random: [u8; 24] = self.take();
        let (trace, span) = random.split_at(16);
        let mut places = text.iter_mut().skip(3);
        trace.iter().for_each(|byte| hex(*byte, &mut places));
        places.next();
        // An identifier of only zeros would be invalid.
        span.iter().enumerate().for_each(|(at, byte)| hex(byte | u8::from(at == 0), &mut places));
        header(&text)
    }
}

fn hex<'text>(byte: u8, places: &mut impl Iterator<Item = &'text mut u8>) {
    for nibble in [byte >> 4, byte & 0x0f] {
        if let (Some(place), Some(digit)) = (places.next(), HEX.get(usize::from(nibble))) {
            *place = *digit;
        }
    }
}

fn header(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("hexadecimal digits and hyphens are lawful in a header")
}

/// Whether `text` is a UUID in the usual form.
pub(crate) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether `text` is a `traceparent` that may be passed on.
pub(crate) fn is_traceparent(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'-');
    let mut part = |length: usize| {
        let part = parts.next().unwrap_or_default();
        let lower_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        (part.len() == length && part.iter().all(lower_hex)).then_some(part)
    };
    let (Some(version), Some(trace), Some(span), Some(_flags)) =
        (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let zero = |part: &[u8]| part.iter().all(|digit| *digit == b'0');
    version != b"ff" && (version != b"00" || text.len() == 55) && !zero(trace) && !zero(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_identifiers_are_well_formed_and_differ() {
        let mut pool = RandomPool::new();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| pool.request_id(now)).collect();
        assert_eq!(ids.len(), 1_000);
        for id in &ids {
            assert!(is_uuid(id.as_bytes()), "{id:?}");
            assert!(id.to_str().unwrap().starts_with("018bcfe5-6800-7"), "{id:?}");
        }
        assert!(is_traceparent(pool.traceparent().as_bytes()));
    }

    #[test]
    fn malformed_traces_are_not_passed_on() {
        assert!(is_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(is_traceparent(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }
}
