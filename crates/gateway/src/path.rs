//! The one form in which a path is routed, matched and forwarded.
//!
//! A path that an upstream could read differently from the gateway would pass checks made for another. So whatever
//! has two readings is refused, and percent-encoded letters are written plainly.

use std::borrow::Cow;

/// The path has more than one reading, or is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AmbiguousPath;

/// Brings `path` into its one form (RFC 3986, 6.2.2); fails when it has dot segments, empty segments, encoded
/// slashes, backslashes, controls, escapes that are none, or characters encoded longer than they are.
pub(crate) fn normalize(path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    let plain = path.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'\\');
    if !plain || !path.starts_with('/') {
        return Err(AmbiguousPath);
    }
    let path = if path.contains('%') { Cow::Owned(decode(path)?) } else { Cow::Borrowed(path) };
    if path.contains("//") || (path.contains("/.") && path.split('/').any(is_dots)) {
        return Err(AmbiguousPath);
    }
    Ok(path)
}

/// Whether some servers read the segment as `.` or `..`; parameters behind `;`, which may be encoded, do not help.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().and_then(|name| name.split("%3B").next());
    matches!(name, Some("." | ".."))
}

/// Decodes escapes of unreserved characters, writes the others in upper case, and refuses dangerous ones.
fn decode(path: &str) -> Result<String, AmbiguousPath> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let digits = escape.get(1..3).ok_or(AmbiguousPath)?;
        let byte = escaped(escape).ok_or(AmbiguousPath)?;
        match byte {
            b'/' | b'\\' | 0x00..0x20 | 0x7f => return Err(AmbiguousPath),
            // What UTF-8 writes in fewer bytes; some servers read dots and slashes in it (RFC 3629, 3 and 10).
            0xc0 | 0xc1 => return Err(AmbiguousPath),
            0xe0 | 0xf0 => {
                let least = if byte == 0xe0 { 0xa0 } else { 0x90 };
                if escape.get(3..).and_then(escaped).is_some_and(|next| next < least) {
                    return Err(AmbiguousPath);
                }
                decoded.push('%');
                decoded.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
            }
            b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
            }
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// The byte that an escape at the start stands for.
fn escaped(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if are_digits { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_with_two_readings_are_refused() {
        for bad in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/é",
            "/a b",
            "/a/..;x/b",
            "/a%+1",
            "/a/..%3b/x",
            "/a/%2e%2e%3Bx",
            "/%c0%ae%c0%ae/x",
            "/a%c1%9cb",
            "/%e0%80%ae/x",
            "/%f0%80%80%ae/x",
        ] {
            assert_eq!(normalize(bad), Err(AmbiguousPath), "{bad}");
        }
    }

    #[test]
    fn other_paths_have_one_form() {
        for (path, form) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/a.b/..c/.d", "/a.b/..c/.d"),
            ("/%61%2d%7E", "/a-~"),
            ("/caf%c3%a9%20x%3b", "/caf%C3%A9%20x%3B"),
            ("/%252e%252e", "/%252e%252e"),
            ("/%e0%a0%80%f0%90%80%80", "/%E0%A0%80%F0%90%80%80"),
            ("/a..%3bx", "/a..%3Bx"),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(form));
        }
    }

    proptest! {
        #[test]
        fn the_form_is_stable(path in "/[a-z%0-9./;A-F]{0,20}") {
            if let Ok(once) = normalize(&path) {
                let twice = normalize(&once).map(Cow::into_owned);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }
    }
}
