//! Random identifiers of calls, cheap enough to make for each.

use aws_lc_rs::rand;
use http::HeaderValue;
use jiff::Timestamp;

const POOL: usize = 4_096;

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
        let digits: [u8; 32] = hex(&uuid);
        let (one, rest) = digits.split_at(8);
        let (two, rest) = rest.split_at(4);
        let (three, rest) = rest.split_at(4);
        let (four, five) = rest.split_at(4);
        let mut text = [0; 36];
        join(&mut text, &[one, b"-", two, b"-", three, b"-", four, b"-", five]);
        HeaderValue::from_bytes(&text)
            .expect("hexadecimal digits and hyphens are lawful in a header")
    }

    /// A new identifier of a trace.
    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        u128::from_be_bytes(self.take()).max(1).to_be_bytes()
    }

    /// A new identifier of a span.
    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        u64::from_be_bytes(self.take()).max(1).to_be_bytes()
    }

    /// A new trace (W3C Trace Context, version 00, not sampled).
    pub(crate) fn traceparent(&mut self) -> [u8; 55] {
        let mut random: [u8; 24] = self.take();
        // An identifier of only zeros would be invalid.
        random.iter_mut().step_by(16).for_each(|byte| *byte |= 1);
        let digits: [u8; 48] = hex(&random);
        let (trace, span) = digits.split_at(32);
        let mut text = [0; 55];
        join(&mut text, &[b"00-", trace, b"-", span, b"-00"]);
        text
    }
}

/// The digits of `bytes`, two for each.
pub(crate) fn hex<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut digits = [0; N];
    for ([high, low], byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        (*high, *low) = (digit(byte >> 4), digit(byte & 0x0f));
    }
    digits
}

/// The bytes that lower-case `digits` stand for.
pub(crate) fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, []) = digits.as_chunks() else { return None };
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// A `traceparent` (W3C Trace Context, version 00).
pub(crate) fn write_traceparent(trace: &[u8; 16], span: &[u8; 8], is_sampled: bool) -> [u8; 55] {
    let (trace, span): ([u8; 32], [u8; 16]) = (hex(trace), hex(span));
    let mut text = [0; 55];
    join(&mut text, &[b"00-", &trace, b"-", &span, if is_sampled { b"-01" } else { b"-00" }]);
    text
}

fn join(text: &mut [u8], parts: &[&[u8]]) {
    let mut rest = text;
    for part in parts {
        let (place, tail) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = tail;
    }
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
        assert!(is_traceparent(&pool.traceparent()));
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
