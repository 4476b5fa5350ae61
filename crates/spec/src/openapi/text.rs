//! What strings have to look like: URLs, email addresses, media types, runtime expressions,
//! status codes, component names, and the braces in templates.

use crate::openapi::shape::{KeyFormat, Text};

/// Why a string is not in its format, in plain words; `None` if it is.
pub(crate) fn text_problem(format: Text, text: &str) -> Option<&'static str> {
    let is_fine = match format {
        Text::Any => true,
        Text::Url => is_uri_reference(text),
        Text::AbsoluteUrl => is_uri_reference(text) && scheme(text).is_some(),
        // Braces that do not fit are reported with the variables.
        Text::ServerUrl => {
            template_names(text).is_err() || is_uri_reference(&replace_templates(text, "x"))
        }
        Text::Email => is_email(text),
        Text::MediaTypes => text.split(',').all(|part| is_media_type(part.trim())),
        Text::Anchor => is_anchor(text),
    };
    if is_fine {
        return None;
    }
    Some(match format {
        Text::Any | Text::Url | Text::ServerUrl => "must be a URL",
        Text::AbsoluteUrl => "must be a URL that starts with a scheme",
        Text::Email => "must be an email address",
        Text::MediaTypes => "must be media types, separated by commas",
        Text::Anchor => "must start with a letter or _ and go on with letters, digits, -, _ and .",
    })
}

/// Why a key is not in its format, with the rule that says so; `None` if it is.
pub(crate) fn key_problem(format: KeyFormat, key: &str) -> Option<(&'static str, &'static str)> {
    match format {
        KeyFormat::Any => None,
        KeyFormat::ComponentName => (!is_component_name(key))
            .then_some(("component-name", "may only have letters, digits, \".\", \"-\" and \"_\"")),
        KeyFormat::Path => {
            (!key.starts_with('/')).then_some(("path-slash", "must start with \"/\""))
        }
        KeyFormat::StatusCode => (key != "default" && !is_status_code(key))
            .then_some(("status-code", "must be \"default\", a code like 200 or a range like 2XX")),
        KeyFormat::MediaType => {
            (!is_media_type(key)).then_some(("media-type", "must be a media type like text/plain"))
        }
        KeyFormat::Expression => (!is_callback_expression(key))
            .then_some(("runtime-expression", "is not a valid expression")),
    }
}

/// The names in braces of a template, in order, or the reason why it is not one.
pub(crate) fn template_names(template: &str) -> Result<Vec<&str>, &'static str> {
    let mut names = Vec::new();
    let mut rest = template;
    loop {
        let Some(at) = rest.find(['{', '}']) else { return Ok(names) };
        if rest.as_bytes()[at] == b'}' {
            return Err("a \"}\" has no \"{\" before it");
        }
        let inner = &rest[at + 1..];
        let Some(end) = inner.find(['{', '}']) else { return Err("a \"{\" is never closed") };
        if inner.as_bytes()[end] == b'{' {
            return Err("a \"{\" stands inside another one");
        }
        if end == 0 {
            return Err("a template expression has no name");
        }
        names.push(&inner[..end]);
        rest = &inner[end + 1..];
    }
}

/// The template with all names made equal, so that templates that match the same are equal.
pub(crate) fn without_template_names(template: &str) -> String {
    replace_templates(template, "{}")
}

/// `$url`, `$method`, `$statusCode`, or a part of request or response.
pub(crate) fn is_runtime_expression(text: &str) -> bool {
    if matches!(text, "$url" | "$method" | "$statusCode") {
        return true;
    }
    let source = text.strip_prefix("$request.").or_else(|| text.strip_prefix("$response."));
    let Some(source) = source else { return false };
    if let Some(pointer) = source.strip_prefix("body") {
        return pointer.is_empty() || pointer == "#" || pointer.starts_with("#/");
    }
    if let Some(token) = source.strip_prefix("header.") {
        return is_token(token);
    }
    let name = source.strip_prefix("query.").or_else(|| source.strip_prefix("path."));
    name.is_some_and(|name| !name.is_empty())
}

pub(crate) fn is_component_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// The scheme of an absolute URL.
pub(crate) fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    is_scheme.then_some(scheme)
}

/// The characters of RFC 3986, with complete percent escapes and at most one `#`.
fn is_uri_reference(url: &str) -> bool {
    let bytes = url.as_bytes();
    let mut fragments = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let is_fine = match byte {
            b'%' => {
                bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
            }
            b'#' => {
                fragments += 1;
                fragments == 1
            }
            b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'[' | b']' | b'@' | b'!' | b'$'
            | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            byte => byte.is_ascii_alphanumeric(),
        };
        if !is_fine {
            return false;
        }
    }
    // A relative reference has no colon in its first segment.
    let first_segment = url.split(['/', '?', '#']).next().unwrap_or_default();
    !first_segment.contains(':') || scheme(url).is_some()
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let is_visible = |text: &str| !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let local_is_fine = is_quoted
        || (!local.is_empty()
            && !local.contains(['@', '(', ')', '<', '>', '[', ']', ',', ';', ':', '\\', '"'])
            && is_visible(local));
    let domain_is_fine = !domain.is_empty()
        && !domain.starts_with(['.', '-'])
        && !domain.ends_with(['.', '-'])
        && !domain.contains("..")
        && is_visible(domain)
        && domain.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':'));
    local_is_fine && domain_is_fine
}

/// A media type or range, perhaps with parameters.
fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = match text.split_once(';') {
        Some((essence, parameters)) => (essence.trim_end(), Some(parameters)),
        None => (text, None),
    };
    let Some((main, sub)) = essence.split_once('/') else { return false };
    is_token(main)
        && is_token(sub)
        && parameters.is_none_or(|list| {
            list.split(';').all(|parameter| match parameter.trim().split_once('=') {
                Some((name, value)) => is_token(name) && !value.is_empty(),
                None => parameter.trim().is_empty(),
            })
        })
}

/// A token of RFC 9110.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_status_code(key: &str) -> bool {
    match key.as_bytes() {
        [b'1'..=b'5', b'X', b'X'] => true,
        [b'1'..=b'5', tens, ones] => tens.is_ascii_digit() && ones.is_ascii_digit(),
        _ => false,
    }
}

/// A URL with runtime expressions in braces, or one expression alone.
fn is_callback_expression(key: &str) -> bool {
    if key.starts_with('$') && !key.contains('{') {
        return is_runtime_expression(key);
    }
    template_names(key).is_ok_and(|names| names.into_iter().all(is_runtime_expression))
}

fn is_anchor(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn replace_templates(template: &str, replacement: &str) -> String {
    let mut replaced = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, following)) = after.split_once('}') else { break };
        replaced.push_str(before);
        replaced.push_str(replacement);
        rest = following;
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_may_be_relative_but_not_contain_spaces() {
        for url in [
            "",
            "/",
            "a/b?c=d#e",
            "https://x.example:8080/%20",
            "mailto:a@b.example",
            "//host/p",
            "urn:x:y",
        ] {
            assert_eq!(text_problem(Text::Url, url), None, "{url}");
        }
        for url in ["a b", "https://x/{y}", "%zz", "a#b#c", "1a:b", "\u{fc}"] {
            assert!(text_problem(Text::Url, url).is_some(), "{url}");
        }
        assert_eq!(text_problem(Text::ServerUrl, "{scheme}://{host}.example/{base}"), None);
        assert!(text_problem(Text::AbsoluteUrl, "/relative").is_some());
    }

    #[test]
    fn keys_are_judged_by_their_format() {
        let bad = |format, key| key_problem(format, key).is_some();
        assert!(!bad(KeyFormat::StatusCode, "2XX") && bad(KeyFormat::StatusCode, "2xx"));
        assert!(bad(KeyFormat::StatusCode, "600") && bad(KeyFormat::StatusCode, "20"));
        assert!(!bad(KeyFormat::MediaType, "text/*; q=1") && bad(KeyFormat::MediaType, "json"));
        assert!(!bad(KeyFormat::Expression, "{$request.body#/url}?x={$request.query.id}"));
        assert!(!bad(KeyFormat::Expression, "$response.header.Location"));
        assert!(bad(KeyFormat::Expression, "{$request.heder.x}"));
    }

    #[test]
    fn templates_are_taken_apart() {
        assert_eq!(template_names("/a/{b}/{c}.{d}"), Ok(vec!["b", "c", "d"]));
        for broken in ["/{", "/}", "/{}", "/{a{b}}"] {
            assert!(template_names(broken).is_err(), "{broken}");
        }
        assert_eq!(without_template_names("/a/{b}/{c}"), "/a/{}/{}");
    }

    #[test]
    fn email_addresses() {
        for good in ["a@b.example", "first.last+tag@sub.example.org", "\"odd one\"@x.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["a", "@b", "a@", "a b@c.example", "a@b..c", "<a@b.example>"] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
