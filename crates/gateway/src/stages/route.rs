//! Stage 1: from host and path to a deployment.

use std::{borrow::Cow, sync::Arc};

use http::HeaderValue;

use crate::{
    connection::RequestHead,
    fields::Name,
    path,
    rejection::Rejection,
    table::{Deployment, Table},
};

/// The path of a call that was routed.
pub(crate) struct Routed {
    /// It in its one form.
    pub(crate) path: Box<str>,
    /// Whether that differs from what the client wrote.
    pub(crate) rewritten: bool,
}

/// Finds the deployment that a request is for.
pub(crate) fn route<'table>(
    table: &'table Table,
    head: &RequestHead,
) -> Result<(&'table Arc<Deployment>, Routed), Rejection> {
    let host = host(head)?;
    let path = path::normalize(head.target.path.path());
    let path = path.map_err(|_ambiguous| Rejection::AmbiguousPath)?;
    let rewritten = matches!(path, Cow::Owned(_));
    let found = table.route(&host, &path).ok_or(Rejection::RouteNotFound)?;
    Ok((found, Routed { path: path.into(), rewritten }))
}

/// The host without port, in lower case; a target in absolute form must name the same one.
fn host(head: &RequestHead) -> Result<Cow<'_, str>, Rejection> {
    let given = head.fields.text(Name::Host).unwrap_or_default();
    if let Some((scheme, authority)) = &head.target.authority
        && !is_in_agreement(scheme, authority, given)
    {
        return Err(Rejection::AuthorityMismatch);
    }
    let name = match given.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => given,
    };
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

fn is_in_agreement(scheme: &HeaderValue, authority: &HeaderValue, host: &str) -> bool {
    let port: &[u8] = match scheme.as_bytes() {
        scheme if scheme.eq_ignore_ascii_case(b"http") => b":80",
        scheme if scheme.eq_ignore_ascii_case(b"https") => b":443",
        _ => return false,
    };
    let bare =
        |authority: &[u8]| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    bare(authority.as_bytes()) == bare(host.as_bytes())
}
