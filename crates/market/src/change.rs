//! A change: one transaction that holds what was asked for, its audit row, its event and its idempotent outcome.

use authz::{Action, Caller};
use model::{AuditEntry, AuditOutcome, EventKind, TenantId};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use store::Tx;

use crate::{Market, MarketError, viewer};

/// Who asks for a write, and under which conditions.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub caller: Caller,
    /// Identifier of the request, for the audit trail.
    pub request_id: String,
    /// The revision that the caller has read, from `If-Match`.
    pub expected_revision: Option<i64>,
    /// From `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// Whether to check everything and store nothing.
    pub dry_run: bool,
}

/// A key under which a write happens only once.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// Chosen by the client.
    pub key: String,
    /// Hash over method, path and body.
    pub fingerprint: String,
}

/// A write that has begun.
pub(crate) enum Begun<'a, T> {
    /// It is to be done.
    Fresh(Change<'a>),
    /// It was done before, under the same idempotency key.
    Done(T),
}

/// One transaction of a write.
pub(crate) struct Change<'a> {
    market: &'a Market,
    request: &'a Request,
    action: Action,
    tx: Tx,
}

impl Request {
    /// A request without conditions.
    pub fn plain(caller: Caller, request_id: String) -> Self {
        Self { caller, request_id, expected_revision: None, idempotency: None, dry_run: false }
    }

    /// Refuses when the caller has read another revision than the one that is stored.
    pub(crate) fn check_revision(&self, stored: i64) -> Result<(), MarketError> {
        match self.expected_revision {
            Some(expected) if expected != stored => Err(MarketError::Stale),
            _ => Ok(()),
        }
    }
}

impl Market {
    /// Begins a write: asks the permission table, opens the transaction, and looks whether it was done before.
    pub(crate) async fn begin<'a, T: DeserializeOwned>(
        &'a self,
        request: &'a Request,
        action: Action,
    ) -> Result<Begun<'a, T>, MarketError> {
        self.require(request, action).await?;
        let mut tx = self.db.begin(viewer(&request.caller)).await?;
        if let Some(idempotency) = &request.idempotency {
            let fingerprint = self.secrets.fingerprint(&idempotency.fingerprint);
            let earlier = store::idempotency::claim(
                &mut tx,
                request.caller.tenant,
                &request.caller.actor(),
                &idempotency.key,
                &fingerprint,
                self.clock.now(),
            )
            .await?;
            if let Some(earlier) = earlier {
                if earlier.fingerprint != fingerprint {
                    return Err(MarketError::KeyReused);
                }
                let sealed = earlier
                    .outcome
                    .ok_or(MarketError::Internal("an idempotent outcome is missing", None))?;
                let outcome =
                    serde_json::from_slice(&self.secrets.open(&sealed)?).map_err(|error| {
                        MarketError::internal("an idempotent outcome could not be read")(
                            error.into(),
                        )
                    })?;
                return Ok(Begun::Done(outcome));
            }
        }
        Ok(Begun::Fresh(Change { market: self, request, action, tx }))
    }

    /// Asks the permission table; a refusal goes into the audit trail.
    pub async fn require(&self, request: &Request, action: Action) -> Result<(), MarketError> {
        let Err(forbidden) = request.caller.require(action) else { return Ok(()) };
        let mut tx = self.db.begin(viewer(&request.caller)).await?;
        let entry = self.audit_entry(
            request,
            action,
            request.caller.tenant,
            String::new(),
            AuditOutcome::Denied,
            Value::Null,
        );
        store::audit::insert(&mut tx, &entry).await?;
        tx.commit().await?;
        Err(forbidden.into())
    }

    fn audit_entry(
        &self,
        request: &Request,
        action: Action,
        tenant: TenantId,
        target: String,
        outcome: AuditOutcome,
        details: Value,
    ) -> AuditEntry {
        AuditEntry {
            id: self.ids.next(),
            tenant,
            at: self.clock.now(),
            actor: request.caller.actor(),
            actor_tenant: Some(request.caller.tenant),
            action: action.as_str().to_owned(),
            target,
            outcome,
            request_id: request.request_id.clone(),
            details,
        }
    }
}

impl<'a> Change<'a> {
    pub(crate) const fn request(&self) -> &'a Request {
        self.request
    }

    pub(crate) const fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// Goes on as the caller, after something for which the whole installation had to be seen.
    pub(crate) async fn view_as_caller(&mut self) -> Result<(), MarketError> {
        Ok(self.tx.view_as(viewer(&self.request.caller)).await?)
    }

    /// The refusal of this write, for whoever may see the thing but not act on it.
    pub(crate) fn forbidden(&self) -> MarketError {
        MarketError::Forbidden(authz::Forbidden(self.action))
    }

    /// Writes the audit row, in the trail of the tenant that owns the target.
    pub(crate) async fn audit(
        &mut self,
        tenant: TenantId,
        target: impl ToString,
        details: Value,
    ) -> Result<(), MarketError> {
        let entry = self.market.audit_entry(
            self.request,
            self.action,
            tenant,
            target.to_string(),
            AuditOutcome::Success,
            details,
        );
        store::audit::insert(&mut self.tx, &entry).await?;
        Ok(())
    }

    /// Leaves the event row for the end of the transaction.
    pub(crate) fn announce(&mut self, tenant: TenantId, kind: EventKind, subject: &impl ToString) {
        let now = self.market.clock.now();
        store::event::announce(&mut self.tx, tenant, kind, &subject.to_string(), now);
    }

    /// Ends the write: keeps its outcome for the idempotency key and commits, or takes all back in a dry run.
    pub(crate) async fn finish<T: Serialize>(mut self, outcome: T) -> Result<T, MarketError> {
        if self.request.dry_run {
            self.tx.rollback().await?;
            return Ok(outcome);
        }
        if let Some(idempotency) = &self.request.idempotency {
            let bytes = serde_json::to_vec(&outcome).map_err(|error| {
                MarketError::internal("an idempotent outcome could not be written")(error.into())
            })?;
            let sealed = self.market.secrets.seal(&bytes)?;
            let actor = self.request.caller.actor();
            store::idempotency::keep(&mut self.tx, &actor, &idempotency.key, sealed).await?;
        }
        self.tx.commit().await?;
        self.market.note_commit();
        Ok(outcome)
    }
}
