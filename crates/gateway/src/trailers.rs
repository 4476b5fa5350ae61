//! Fields after a body (RFC 9110, 6.5). Whatever frames, routes, authenticates or controls a message has no place there.

use http::{HeaderMap, HeaderName};

use crate::headers::{self, X_API_KEY};

/// The most that are kept.
pub(crate) const FIELDS_MAX: usize = 64;

const FORBIDDEN: [&str; 25] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "traceparent",
    "tracestate",
    "vary",
    "via",
    "www-authenticate",
    "x-request-id",
];

/// Whether a field may stand after a body.
pub(crate) fn is_lawful(name: &HeaderName) -> bool {
    let text = name.as_str();
    !headers::is_hop_by_hop(name)
        && !FORBIDDEN.contains(&text)
        && *name != X_API_KEY
        && !text.starts_with("x-forwarded-")
        && !text.starts_with("proxy-")
}

/// What of these fields may stand after a body.
pub(crate) fn lawful(fields: HeaderMap) -> HeaderMap {
    if fields.keys().all(is_lawful) && fields.len() <= FIELDS_MAX {
        return fields;
    }
    let fields = fields.iter().filter(|(name, _)| is_lawful(name)).take(FIELDS_MAX);
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}
