//! What a plain YAML scalar means under the core schema of YAML 1.2, and how its numbers are
//! spelled in JSON.

use std::borrow::Cow;

/// The type of a plain scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Number,
    String,
}

pub(crate) fn classify_plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "true" | "True" | "TRUE" => Plain::Bool(true),
        "false" | "False" | "FALSE" => Plain::Bool(false),
        _ if is_number(text) => Plain::Number,
        _ => Plain::String,
    }
}

/// The JSON spelling of a number of either syntax; `None` for infinity and what is not a number.
pub(crate) fn json_number(text: &str) -> Option<Cow<'_, str>> {
    let radix = [("0x", 16), ("0o", 8)];
    for (prefix, radix) in radix {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u128::from_str_radix(digits, radix).ok().map(|n| Cow::Owned(n.to_string()));
        }
    }
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned.to_ascii_lowercase().contains(['i', 'n']) {
        return None;
    }
    let digits = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (whole, rest) = unsigned.split_at(digits);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    // `1.` and `1.e5` have no digit after the point.
    let rest = match rest.strip_prefix('.') {
        Some(after) if !after.starts_with(|c: char| c.is_ascii_digit()) => after,
        _ => rest,
    };
    let spelled = format!("{sign}{whole}{rest}");
    Some(if spelled == text { Cow::Borrowed(text) } else { Cow::Owned(spelled) })
}

fn is_number(text: &str) -> bool {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return false;
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return is_all(digits, |b| matches!(b, b'0'..=b'7'));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return is_all(digits, |b| b.is_ascii_hexdigit());
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || is_decimal(unsigned)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let is_digits = |text: &str| is_all(text, |b| b.is_ascii_digit());
    let mantissa_is_fine = match mantissa.split_once('.') {
        None => is_digits(mantissa),
        Some(("", fraction)) => is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && (fraction.is_empty() || is_digits(fraction)),
    };
    mantissa_is_fine
        && exponent.is_none_or(|text| is_digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}

fn is_all(text: &str, accepts: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(accepts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for text in
            ["0", "-12", "+3", "007", "0x1F", "0o17", "1.5", ".5", "1.", "1e3", ".inf", ".NaN"]
        {
            assert_eq!(classify_plain(text), Plain::Number, "{text}");
        }
        for text in
            ["yes", "no", "1_000", "1:30", "0b1", "2024-01-01", "1.2.3", "-", ".", "e5", "nan"]
        {
            assert_eq!(classify_plain(text), Plain::String, "{text}");
        }
        assert_eq!(classify_plain("True"), Plain::Bool(true));
        assert_eq!(classify_plain("~"), Plain::Null);
    }

    #[test]
    fn numbers_keep_their_spelling_where_json_allows_it() {
        let spelled = |text| json_number(text).map(Cow::into_owned);
        for text in ["0", "-1", "1.50", "1E+05", "12345678901234567890123"] {
            assert_eq!(spelled(text).as_deref(), Some(text));
        }
        for (text, json) in [
            ("+1", "1"),
            (".5", "0.5"),
            ("1.", "1"),
            ("007", "7"),
            ("0x1F", "31"),
            ("-.5e1", "-0.5e1"),
        ] {
            assert_eq!(spelled(text).as_deref(), Some(json), "{text}");
        }
        assert_eq!(spelled("-.inf"), None);
        assert_eq!(spelled(".nan"), None);
    }
}
