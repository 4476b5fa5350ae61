//! Stage 1: from host and path to a deployment.

use std::{borrow::Cow, sync::Arc};

use http::{Uri, header::HOST, request::Parts};

use crate::{
    path,
    rejection::Rejection,
    table::{Deployment, Table},
};

/// Where a call goes.
pub(crate) struct Routed {
    pub(crate) deployment: Arc<Deployment>,
    /// The path in its one form.
    pub(crate) path: Box<str>,
    /// Whether that differs from what the client wrote.
    pub(crate) rewritten: bool,
}

/// Finds the deployment that a request is for.
pub(crate) fn route(table: &Table, parts: &Parts) -> Result<Routed, Rejection> {
    let host = host(parts)?;
    let path = path::normalize(parts.uri.path()).map_err(|_ambiguous| Rejection::AmbiguousPath)?;
    let rewritten = matches!(path, Cow::Owned(_));
    let found = table.route(&host, &path).ok_or(Rejection::RouteNotFound)?;
    Ok(Routed { deployment: Arc::clone(found), path: path.into(), rewritten })
}

/// The host without port, in lower case; a target in absolute form must name the same one.
fn host(parts: &Parts) -> Result<Cow<'_, str>, Rejection> {
    let given = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_in_agreement(&parts.uri, given) {
        return Err(Rejection::AuthorityMismatch);
    }
    let name = match given.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => given,
    };
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

fn is_in_agreement(uri: &Uri, host: &str) -> bool {
    let Some(authority) = uri.authority() else { return true };
    let plain_scheme = uri.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    let bare = |authority: &str| authority.strip_suffix(":80").map_or(authority.len(), str::len);
    let same = |left: &str, right: &str| {
        left.get(..bare(left))
            .zip(right.get(..bare(right)))
            .is_some_and(|(left, right)| left.eq_ignore_ascii_case(right))
    };
    plain_scheme && same(authority.as_str(), host)
}
