//! Stage 5: size and media types, by the operation that is called.

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};
use hyper::body::{Body, Incoming};

use crate::{
    rejection::Rejection,
    table::{Deployment, Operation},
};

/// Refuses a body that is announced to be too large.
pub(crate) fn size(deployment: &Deployment, body: &Incoming) -> Result<(), Rejection> {
    if body.size_hint().lower() > deployment.max_body_bytes {
        return Err(Rejection::BodyTooLarge { max_bytes: deployment.max_body_bytes });
    }
    Ok(())
}

/// The operation that is called; its path begins behind the route's prefix.
pub(crate) fn operation(deployment: &Deployment, parts: &Parts, path: &str) -> Option<u16> {
    let path = path.get(deployment.prefix_length..).unwrap_or_default();
    deployment.operations.find(&parts.method, path)
}

/// Refuses media types that the operation does not take or give; what it does not declare is not judged.
pub(crate) fn media_types(
    operation: &Operation,
    headers: &HeaderMap,
    body: &Incoming,
) -> Result<(), Rejection> {
    if !operation.request_types.is_empty() && !body.is_end_stream() {
        let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !given.is_some_and(|given| operation.request_types.contain(given)) {
            return Err(Rejection::MediaTypeNotSupported);
        }
    }
    if !operation.response_types.is_empty() {
        let satisfies = |accept: &HeaderValue| {
            accept.to_str().is_ok_and(|accept| operation.response_types.satisfy(accept))
        };
        let satisfied = headers.get(ACCEPT).is_none_or(|first| {
            satisfies(first) || headers.get_all(ACCEPT).iter().skip(1).any(satisfies)
        });
        if !satisfied {
            return Err(Rejection::NotAcceptable);
        }
    }
    Ok(())
}
