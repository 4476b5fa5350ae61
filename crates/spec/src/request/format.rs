//! The formats of OpenAPI and JSON Schema that are asserted. Others are annotations.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::number::{self, Decimal};

/// What a string has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TextFormat {
    Date,
    DateTime,
    Time,
    Uuid,
    Email,
    Ipv4,
    Ipv6,
    Uri,
    Byte,
}

/// What a number has to fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NumberFormat {
    Int32,
    Int64,
    Float,
    Double,
}

impl TextFormat {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "date" => Self::Date,
            "date-time" => Self::DateTime,
            "time" => Self::Time,
            "uuid" => Self::Uuid,
            "email" => Self::Email,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "uri" => Self::Uri,
            "byte" => Self::Byte,
            _ => return None,
        })
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Date => "must be a date such as 2026-01-31",
            Self::DateTime => "must be a date and time with offset such as 2026-01-31T12:00:00Z",
            Self::Time => "must be a time with offset such as 12:00:00Z",
            Self::Uuid => "must be a UUID",
            Self::Email => "must be an e-mail address",
            Self::Ipv4 => "must be an IPv4 address",
            Self::Ipv6 => "must be an IPv6 address",
            Self::Uri => "must be an absolute URI",
            Self::Byte => "must be Base64 with padding",
        }
    }

    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Date => is_date(text.as_bytes()),
            Self::DateTime => is_date_time(text.as_bytes()),
            Self::Time => is_time(text.as_bytes()),
            Self::Uuid => is_uuid(text.as_bytes()),
            Self::Email => is_email(text),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Uri => is_uri(text),
            Self::Byte => is_base64(text.as_bytes()),
        }
    }
}

impl NumberFormat {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float" => Self::Float,
            "double" => Self::Double,
            _ => return None,
        })
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Int32 => "must be an integer of 32 bits",
            Self::Int64 => "must be an integer of 64 bits",
            Self::Float => "must be in the range of a 32-bit floating-point number",
            Self::Double => "must be in the range of a 64-bit floating-point number",
        }
    }

    /// Whether a number of JSON fits, whatever its spelling.
    pub(super) fn accepts(self, text: &str) -> bool {
        let within = |low: &str, high: &str| {
            Decimal::of(text).is_integer()
                && number::compare(text, low).is_ge()
                && number::compare(text, high).is_le()
        };
        match self {
            Self::Int32 => within("-2147483648", "2147483647"),
            Self::Int64 => within("-9223372036854775808", "9223372036854775807"),
            Self::Float => text.parse::<f32>().is_ok_and(f32::is_finite),
            Self::Double => text.parse::<f64>().is_ok_and(f64::is_finite),
        }
    }
}

/// The number that some digits are.
fn digits(bytes: &[u8]) -> Option<u32> {
    bytes
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

fn is_date(bytes: &[u8]) -> bool {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = bytes else { return false };
    let parts = (digits(&[*y1, *y2, *y3, *y4]), digits(&[*m1, *m2]), digits(&[*d1, *d2]));
    let (Some(year), Some(month), Some(day)) = parts else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day)
}

fn is_date_time(bytes: &[u8]) -> bool {
    match bytes.split_at_checked(10) {
        Some((date, [b'T' | b't' | b' ', time @ ..])) => is_date(date) && is_time(time),
        _ => false,
    }
}

/// `full-time` of RFC 3339; a leap second only where it is midnight in UTC.
fn is_time(bytes: &[u8]) -> bool {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = bytes else { return false };
    let parts = (digits(&[*h1, *h2]), digits(&[*m1, *m2]), digits(&[*s1, *s2]));
    let (Some(hour), Some(minute), Some(second)) = parts else { return false };
    let rest = match rest {
        [b'.', fraction @ ..] => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 {
                return false;
            }
            &fraction[length..]
        }
        rest => rest,
    };
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (Some(hours), Some(minutes)) = (digits(&[*h1, *h2]), digits(&[*m1, *m2])) else {
                return false;
            };
            if hours > 23 || minutes > 59 {
                return false;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'+' { 1_440 - offset } else { offset }
        }
        _ => return false,
    };
    let is_last_minute = (hour * 60 + minute + offset) % 1_440 == 1_439;
    hour < 24 && minute < 60 && (second < 60 || second == 60 && is_last_minute)
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The addresses that mail servers take: a local part without blanks or quotes, and a host name.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_local =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || !c.is_ascii())
    };
    (1..=64).contains(&local.len())
        && local.chars().all(is_local)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.len() <= 253
        && domain.split('.').all(is_label)
}

/// A scheme, a colon, and only what RFC 3986 allows.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => {
                let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
                is_hex(bytes.next()) && is_hex(bytes.next())
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
        };
        if !is_fine {
            return false;
        }
    }
    is_scheme && rest.matches('#').count() <= 1
}

fn is_base64(bytes: &[u8]) -> bool {
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    bytes.len().is_multiple_of(4)
        && padding <= 2
        && bytes[..bytes.len() - padding].iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, good: &[&str], bad: &[&str]) {
        let format = TextFormat::parse(format).unwrap();
        for text in good {
            assert!(format.accepts(text), "{format:?} {text}");
        }
        for text in bad {
            assert!(!format.accepts(text), "{format:?} {text}");
        }
    }

    #[test]
    fn dates_and_times_exist() {
        check(
            "date",
            &["2024-02-29", "2000-02-29", "1999-12-31"],
            &[
                "2023-02-29",
                "1900-02-29",
                "2024-13-01",
                "2024-00-01",
                "2024-1-1",
                "",
                "2024-04-31",
                "２０24-01-01",
            ],
        );
        check(
            "date-time",
            &[
                "2024-02-29T23:59:59Z",
                "1985-04-12t23:20:50.52z",
                "1990-12-31T23:59:60Z",
                "1990-12-31T15:59:60-08:00",
                "1937-01-01T12:00:27.87+00:20",
            ],
            &[
                "2024-02-29",
                "2024-02-29T24:00:00Z",
                "2024-02-29T12:00:00",
                "2024-02-29T12:00Z",
                "1990-12-31T22:59:60Z",
                "2024-02-29T12:00:00+24:00",
                "2024-02-29T12:00:00.Z",
                "2024-02-30T12:00:00Z",
            ],
        );
    }

    #[test]
    fn names_and_addresses_are_well_formed() {
        check(
            "uuid",
            &["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
            &["", "2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638g"],
        );
        check(
            "email",
            &["a@b", "a.b+c@clinic.example"],
            &["", "@b", "a@", "a b@c", ".a@b", "a..b@c", "a@-b", "a@b..c"],
        );
        check("ipv4", &["0.0.0.0", "127.0.0.1"], &["1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4 "]);
        check(
            "ipv6",
            &["::", "::1", "fe80::1", "::ffff:1.2.3.4"],
            &["", ":", "1.2.3.4", "fe80::1%eth0", "g::"],
        );
        check(
            "uri",
            &["https://a.example/b?c=d#e", "urn:oid:1.2", "mailto:a@b"],
            &["", "/a", "a", "1a:b", "http://a b", "http://a/%zz", "http://ä", "http://a#b#c"],
        );
        check(
            "byte",
            &["", "TQ==", "TWE=", "TWFu", "+/+/"],
            &["T", "TQ", "TQ=", "TQ===", "T=Q=", "T-_=", "TWFu\n"],
        );
    }

    #[test]
    fn numbers_fit_their_bits_whatever_their_spelling() {
        let accepts = |name, text| NumberFormat::parse(name).unwrap().accepts(text);
        for (name, text) in [
            ("int32", "2147483647"),
            ("int32", "-2147483648"),
            ("int32", "2.147e3"),
            ("int64", "9223372036854775807"),
            ("float", "3.4e38"),
            ("double", "1.7e308"),
            ("double", "1e-400"),
        ] {
            assert!(accepts(name, text), "{name} {text}");
        }
        for (name, text) in [
            ("int32", "2147483648"),
            ("int32", "1.5"),
            ("int64", "9223372036854775808"),
            ("int64", "1e400"),
            ("float", "3.5e38"),
            ("double", "1e400"),
            ("double", "-1e99999999999999999999"),
        ] {
            assert!(!accepts(name, text), "{name} {text}");
        }
    }
}
