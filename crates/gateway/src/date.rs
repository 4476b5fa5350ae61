//! The date of answers, written anew once a second.

use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822};

use crate::headers;

/// The `Date` field of answers that come without one (RFC 9110, 6.6.1).
#[derive(Debug, Default)]
pub(crate) struct DateField {
    second: i64,
    text: String,
}

impl DateField {
    /// Appends the field.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, now: Timestamp) {
        headers::write_field(out, "date", self.at(now).as_bytes());
    }

    /// The value of the field; none beyond the year 9999.
    pub(crate) fn value(&mut self, now: Timestamp) -> Option<HeaderValue> {
        HeaderValue::from_str(self.at(now)).ok().filter(|value| !value.is_empty())
    }

    fn at(&mut self, now: Timestamp) -> &str {
        if self.second != now.as_second() || self.text.is_empty() {
            let printed = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
            // Years beyond 9999 have no such date.
            self.text = printed.unwrap_or_default();
            self.second = now.as_second();
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_follows_the_clock() {
        let mut date = DateField::default();
        for (second, text) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(date.at(Timestamp::from_second(second).unwrap()), text);
        }
    }
}
