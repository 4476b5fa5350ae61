//! Stage 3: whether the caller may call this version.
//!
//! What a caller may not know about reads as absent.

use jiff::Timestamp;

use super::Caller;
use crate::{
    rejection::Rejection,
    table::{Agreement, Deployment, Lifecycle, Table},
};

/// Turns a failure to identify the caller into what may be told about the deployment.
pub(crate) fn conceal(deployment: &Deployment, rejection: Rejection) -> Rejection {
    if deployment.is_visible_to(None) { rejection } else { Rejection::RouteNotFound }
}

/// Refuses callers who may not know that the deployment exists, and calls of retired versions.
pub(crate) fn see(deployment: &Deployment, caller: &Caller) -> Result<(), Rejection> {
    if !deployment.is_visible_to(Some(caller.tenant)) {
        return Err(Rejection::RouteNotFound);
    }
    match &deployment.lifecycle {
        Lifecycle::Retired { successor } => {
            Err(Rejection::VersionRetired { successor: successor.clone() })
        }
        Lifecycle::Active | Lifecycle::Deprecated(_) => Ok(()),
    }
}

/// Finds the agreement under which the caller calls.
pub(crate) fn entitle<'table>(
    table: &'table Table,
    deployment: &Deployment,
    caller: &Caller,
    now: Timestamp,
) -> Result<Agreement<'table>, Rejection> {
    let Some(agreement) = table.agreement(caller.application, deployment.version, now) else {
        return Err(Rejection::SubscriptionRequired);
    };
    if agreement.expires_at.is_some_and(|end| end <= now) {
        return Err(Rejection::SubscriptionExpired);
    }
    Ok(agreement)
}
