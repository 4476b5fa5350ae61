//! One-time codes that change with time (RFC 6238), six digits every thirty seconds, as authenticator apps make them.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::secrets;

/// How long a code holds, in seconds.
const STEP: u64 = 30;
const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;
/// Clocks may differ by this many steps.
const DRIFT: u64 = 1;
const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What codes are made of: 160 random bits (RFC 4226, 4, R6).
pub(crate) struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    /// A fresh one.
    pub(crate) fn random() -> Self {
        Self(Zeroizing::new(secrets::random::<20>().to_vec()))
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As people type it: base32 (RFC 4648).
    pub(crate) fn to_base_32(&self) -> String {
        base_32(&self.0)
    }

    /// As authenticator apps read it.
    pub(crate) fn uri(&self, issuer: &str, account: &str) -> String {
        let (issuer, account) = (encoded(issuer), encoded(account));
        let secret = self.to_base_32();
        format!("otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}")
    }

    /// The step whose code this is, at about this time; none for a wrong one.
    pub(crate) fn step_of(&self, code: &str, now: Timestamp) -> Option<u64> {
        let step = u64::try_from(now.as_second()).ok()? / STEP;
        let given: u32 = Some(code).filter(|code| code.len() == DIGITS)?.parse().ok()?;
        let near = step.saturating_sub(DRIFT)..=step + DRIFT;
        // All are compared, however early one fits.
        near.fold(None, |found, step| if self.code(step) == given { Some(step) } else { found })
    }

    fn code(&self, step: u64) -> u32 {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        // Dynamic truncation (RFC 4226, 5.3).
        let offset = usize::from(tag.as_ref().last().copied().unwrap_or(0) & 0xf);
        let four = tag.as_ref().get(offset..).and_then(|rest| rest.first_chunk::<4>());
        let four = four.copied().unwrap_or_default();
        (u32::from_be_bytes(four) & 0x7fff_ffff) % MODULUS
    }
}

/// Base32 without padding (RFC 4648, 6).
pub(crate) fn base_32(bytes: &[u8]) -> String {
    let mut text = String::new();
    for five in bytes.chunks(5) {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let bits = bits << (8 * (5 - five.len()));
        for place in 0..(five.len() * 8).div_ceil(5) {
            let index = usize::try_from(bits >> (35 - 5 * place) & 31).unwrap_or(0);
            text.push(char::from(BASE_32.get(index).copied().unwrap_or(b'A')));
        }
    }
    text
}

/// Percent-encoded (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> TotpSecret {
        TotpSecret::of(b"12345678901234567890".to_vec())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, with six of its eight digits.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let step = u64::try_from(second / 30).unwrap();
            assert_eq!(secret().step_of(code, at(second)), Some(step), "{second}");
        }
    }

    #[test]
    fn clocks_may_differ_by_one_step_and_no_more() {
        let around = |seconds: i64| secret().step_of("287082", at(59 + seconds));
        assert_eq!([around(-30), around(0), around(30)], [Some(1); 3]);
        assert_eq!([around(-60), around(61)], [None; 2]);
        for wrong in ["", "28708", "0287082", "+28708", "28 082", "２８７０８２", "287083"] {
            assert_eq!(secret().step_of(wrong, at(59)), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_written_as_apps_read_them() {
        assert_eq!(secret().to_base_32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            ["f", "fo", "foo", "foob"].map(|text| base_32(text.as_bytes())),
            ["MY", "MZXQ", "MZXW6", "MZXW6YQ"]
        );
        let uri = secret().uri("North Clinic", "a+b@c.example");
        let start = "otpauth://totp/North%20Clinic:a%2Bb%40c.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert_eq!(uri, format!("{start}&issuer=North%20Clinic"));
    }
}
