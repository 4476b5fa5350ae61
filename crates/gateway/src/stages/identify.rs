//! Stage 2: from a credential to the application that calls.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use jiff::Timestamp;
use model::{ApiKey, ApplicationId, CredentialId, TenantId};

use crate::{
    headers::{Marks, X_API_KEY, client_address},
    rejection::Rejection,
    settings,
    table::Table,
    worker::Shared,
};

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) application: ApplicationId,
    pub(crate) credential: CredentialId,
    pub(crate) tenant: TenantId,
}

/// Finds out who calls. Wrong credentials are counted per client address.
pub(crate) fn identify(
    shared: &Shared,
    table: &Table,
    headers: &HeaderMap,
    marks: Marks,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Caller, Rejection> {
    let key = presented(headers, marks)?;
    let known = key.and_then(|key| {
        ApiKey::check(key).ok()?;
        let entry = table.credential(&settings::digest(&shared.hasher, key.as_bytes()))?;
        let is_accepted =
            entry.expires_at.is_none_or(|end| now < end) && table.is_active(entry.caller.tenant);
        is_accepted.then_some(entry)
    });
    if let Some(entry) = known {
        return Ok(entry.caller);
    }
    let address = client_address(headers, peer, &shared.settings.trusted_proxies);
    match shared.failures.count(address, shared.epoch.now()) {
        Ok(()) => Err(Rejection::CredentialInvalid),
        Err(retry_after) => Err(Rejection::TooManyFailures { retry_after }),
    }
}

/// The one credential that was presented; `None` when it is not of a kind that is known.
fn presented(headers: &HeaderMap, marks: Marks) -> Result<Option<&str>, Rejection> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match (marks.api_keys, marks.authorizations) {
        (0, 0) => Err(Rejection::CredentialMissing),
        (1, 0) => Ok(text(X_API_KEY)),
        (0, 1) => Ok(text(AUTHORIZATION).and_then(bearer)),
        (1, 1) => {
            let key = text(X_API_KEY);
            let same = key.is_some() && key == text(AUTHORIZATION).and_then(bearer);
            if same { Ok(key) } else { Err(Rejection::AmbiguousCredentials) }
        }
        _ => Err(Rejection::AmbiguousCredentials),
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start_matches(' '))
}
