//! Stage 2: from a credential to the application that calls.

use std::net::IpAddr;

use jiff::Timestamp;
use model::{ApiKey, ApplicationId, CredentialId, TenantId};

use crate::{
    fields::{Fields, Name},
    headers::client_address,
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
    fields: &Fields,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Caller, Rejection> {
    let key = presented(fields)?;
    let known = key.and_then(|key| {
        // What is no key is not found either; only its length is worth a look before it is hashed.
        (key.len() == ApiKey::LENGTH).then_some(())?;
        let entry = table.credential(&settings::digest(&shared.hasher, key.as_bytes()))?;
        let is_accepted =
            entry.expires_at.is_none_or(|end| now < end) && table.is_active(entry.caller.tenant);
        is_accepted.then_some(entry)
    });
    if let Some(entry) = known {
        return Ok(entry.caller);
    }
    let address = client_address(fields, peer, &shared.settings.trusted_proxies);
    match shared.failures.count(address, shared.epoch.now()) {
        Ok(()) => Err(Rejection::CredentialInvalid),
        Err(retry_after) => Err(Rejection::TooManyFailures { retry_after }),
    }
}

/// The one credential that was presented; `None` when it is not of a kind that is known.
fn presented(fields: &Fields) -> Result<Option<&str>, Rejection> {
    if fields.is_repeated(Name::XApiKey) || fields.is_repeated(Name::Authorization) {
        return Err(Rejection::AmbiguousCredentials);
    }
    let key = || fields.text(Name::XApiKey);
    let token = || fields.text(Name::Authorization).and_then(bearer);
    match (fields.has(Name::XApiKey), fields.has(Name::Authorization)) {
        (false, false) => Err(Rejection::CredentialMissing),
        (true, false) => Ok(key()),
        (false, true) => Ok(token()),
        (true, true) if key().is_some() && key() == token() => Ok(key()),
        (true, true) => Err(Rejection::AmbiguousCredentials),
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start_matches(' '))
}
