//! Stage 5: size and media types, by the operation that is called.

use http::Method;

use crate::{
    body::ClientBody,
    fields::{Fields, Name},
    rejection::Rejection,
    table::{Deployment, Operation},
};

/// Refuses a body that is announced to be too large.
pub(crate) fn size(deployment: &Deployment, body: &ClientBody) -> Result<(), Rejection> {
    if body.left().is_some_and(|length| length > deployment.max_body_bytes) {
        return Err(Rejection::BodyTooLarge { max_bytes: deployment.max_body_bytes });
    }
    Ok(())
}

/// The operation that is called; its path begins behind the route's prefix.
pub(crate) fn operation(deployment: &Deployment, method: &Method, path: &str) -> Option<u16> {
    let path = path.get(deployment.prefix_length..).unwrap_or_default();
    deployment.operations.find(method, path)
}

/// Refuses media types that the operation does not take or give; what it does not declare is not judged.
pub(crate) fn media_types(
    operation: &Operation,
    fields: &Fields,
    body: &ClientBody,
) -> Result<(), Rejection> {
    if !operation.request_types.is_empty() && !body.is_empty() {
        let given = fields.text(Name::ContentType);
        if !given.is_some_and(|given| operation.request_types.contain(given)) {
            return Err(Rejection::MediaTypeNotSupported);
        }
    }
    if !operation.response_types.is_empty() {
        let satisfies = |accept: &[u8]| {
            std::str::from_utf8(accept).is_ok_and(|accept| operation.response_types.satisfy(accept))
        };
        let satisfied = !fields.has(Name::Accept) || fields.all(Name::Accept).any(satisfies);
        if !satisfied {
            return Err(Rejection::NotAcceptable);
        }
    }
    Ok(())
}
