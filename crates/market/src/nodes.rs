//! Gateways on other machines: enrolled once with a token, known by their certificate from then on, cut off at will.

use authz::Action;
use jiff::{SignedDuration, Timestamp};
use journal::Position;
use model::{Name, NodeId, Standing};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    Page, PageOf, Viewer,
    node::{Node, NodeToken},
};

use crate::{
    Attempt, Begun, Kind, Market, MarketError, Request, authority::CERTIFICATE, secrets, usage,
    viewer,
};

/// A token to make.
#[derive(Debug, Clone)]
pub struct NodeTokenDraft {
    /// What the gateway will be called.
    pub name: Name,
    /// How long the token is good.
    pub expires_in_seconds: u32,
}

/// A gateway that was enrolled.
pub struct EnrolledNode {
    /// Its identifier.
    pub id: NodeId,
    /// Its certificate (DER).
    pub certificate: Vec<u8>,
    /// When that ends.
    pub expires_at: Timestamp,
    /// The key under which it recognises API keys.
    pub credential_key: [u8; 32],
}

/// Usage that a node ships: records of one of its journals, from one place to another.
#[derive(Debug, Clone)]
pub struct UsageBatch {
    /// Which of its journals.
    pub journal: u32,
    /// Where the batch begins.
    pub from: Position,
    /// Where the next one begins.
    pub next: Position,
    /// The records between.
    pub records: Vec<Vec<u8>>,
}

/// A token, once it was made. It is shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedNodeToken {
    /// The token.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

const TOKEN_SECONDS: std::ops::RangeInclusive<u32> = 60..=3_600;

impl Market {
    /// Makes a one-time token for enrolling a gateway. It also names the authority by its fingerprint, so that the
    /// gateway knows whom it talks to at the first contact.
    pub async fn create_node_token(
        &self,
        request: &Request,
        draft: NodeTokenDraft,
    ) -> Result<IssuedNodeToken, MarketError> {
        if !TOKEN_SECONDS.contains(&draft.expires_in_seconds) {
            let (least, most) = (TOKEN_SECONDS.start(), TOKEN_SECONDS.end());
            return Err(MarketError::invalid(
                "expiresInSeconds",
                format!("must be {least} to {most}"),
            ));
        }
        self.require(request, Action::CreateNodeToken).await?;
        let authority = self.authority().await?;
        let mut change = match self.begin(request, Action::CreateNodeToken).await? {
            Begun::Fresh(change) => change,
            Begun::Done(issued) => return Ok(issued),
        };
        let now = self.clock.now();
        let secret = secrets::one_time_token();
        let expires_at = now + SignedDuration::from_secs(draft.expires_in_seconds.into());
        let token = NodeToken {
            digest: secrets::sha256_hex(&[secret.as_bytes()]),
            name: draft.name.to_string(),
            created_by: request.caller.user(),
            created_at: now,
            expires_at,
        };
        store::node::insert_token(change.tx(), &token).await?;
        let details = json!({ "name": token.name, "expiresAt": expires_at });
        change.audit(request.caller.tenant, &token.name, details).await?;
        let token = format!("cadnode_{}.{secret}", authority.fingerprint());
        change.finish(IssuedNodeToken { token, expires_at }).await
    }

    /// Lists gateways on other machines, newest first.
    pub async fn list_nodes(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<PageOf<Node>, MarketError> {
        self.require(request, Action::ListNodes).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::node::list(&mut tx, page).await?)
    }

    /// Cuts a gateway off, for ever.
    pub async fn revoke_node(&self, request: &Request, id: NodeId) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RevokeNode).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let node =
            store::node::find(change.tx(), id).await?.ok_or(MarketError::NotFound(Kind::Node))?;
        store::node::revoke(change.tx(), id, self.clock.now()).await?;
        change.audit(request.caller.tenant, id, json!({ "name": node.name })).await?;
        change.finish(()).await
    }

    /// Enrols a gateway with the secret part of a token and a request for a certificate.
    pub async fn enrol_node(
        &self,
        secret: &str,
        csr: &[u8],
        address: &str,
    ) -> Result<EnrolledNode, MarketError> {
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(address, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let id: NodeId = self.ids.next();
        let certificate = self.authority().await?.sign(csr, &id.to_string(), now)?;
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let digest = secrets::sha256_hex(&[secret.as_bytes()]);
        let Some(token) = store::node::claim_token(&mut tx, &digest, now).await? else {
            drop(tx);
            self.attempts.fail(address, now);
            return Err(MarketError::Unauthenticated);
        };
        let expires_at = certificate_end(now);
        let node = Node {
            id,
            name: token.name,
            certificate_sha256: secrets::sha256_hex(&[&certificate]),
            previous_sha256: None,
            certificate_expires_at: expires_at,
            enrolled_by: token.created_by,
            enrolled_at: now,
            revoked_at: None,
            seen_at: None,
            standing: None,
            version: None,
        };
        store::node::insert(&mut tx, &node).await?;
        let maker = store::account::find(&mut tx, Viewer::Installation, token.created_by).await?;
        if let Some(maker) = maker {
            let details = json!({ "name": node.name, "tokenBy": token.created_by });
            let entry = self.system_entry(maker.tenant, "node.enrol", &id.to_string(), details);
            store::audit::insert(&mut tx, &entry).await?;
        }
        tx.commit().await?;
        let credential_key = self.secrets.credential_key();
        Ok(EnrolledNode { id, certificate, expires_at, credential_key })
    }

    /// Gives a gateway its next certificate; the present one is accepted until the next was used.
    pub async fn renew_node(
        &self,
        node: &Node,
        used_sha256: &str,
        csr: &[u8],
    ) -> Result<(Vec<u8>, Timestamp), MarketError> {
        let now = self.clock.now();
        let certificate = self.authority().await?.sign(csr, &node.id.to_string(), now)?;
        let expires_at = certificate_end(now);
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let digest = secrets::sha256_hex(&[&certificate]);
        store::node::renew(&mut tx, node.id, &digest, expires_at, used_sha256).await?;
        tx.commit().await?;
        Ok((certificate, expires_at))
    }

    /// The gateway that a certificate belongs to; none when it was cut off.
    pub async fn find_node(&self, certificate_sha256: &str) -> Result<Option<Node>, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        Ok(store::node::find_by_certificate(&mut tx, certificate_sha256).await?)
    }

    /// Notes how far a gateway has come.
    pub async fn note_node(
        &self,
        node: &Node,
        used_sha256: &str,
        standing: &Standing,
        version: &str,
    ) -> Result<(), MarketError> {
        let standing = serde_json::to_string(standing).map_err(|error| {
            MarketError::internal("a standing could not be written")(error.into())
        })?;
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let now = self.clock.now();
        store::node::note_seen(&mut tx, node.id, used_sha256, now, &standing, version).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Counts usage that a node ships, unless it was counted before. Answers where its next batch has to begin.
    pub async fn count_shipped(
        &self,
        node: &Node,
        batch: &UsageBatch,
    ) -> Result<Position, MarketError> {
        let stream = format!("{}/{}", node.id, batch.journal);
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let (from, next) = (batch.from, batch.next);
        let is_next = next > from
            && store::usage::advance_position(
                &mut tx,
                &stream,
                (from.segment, from.offset),
                (next.segment, next.offset),
            )
            .await?;
        if !is_next {
            let known = store::usage::find_position(&mut tx, &stream).await?.unwrap_or_default();
            return Ok(Position { segment: known.0, offset: known.1 });
        }
        let sums =
            usage::count(&mut tx, &self.ids, batch.records.iter().map(Vec::as_slice)).await?;
        tx.commit().await?;
        sums.report();
        Ok(next)
    }
}

fn certificate_end(now: Timestamp) -> Timestamp {
    now + SignedDuration::try_from(CERTIFICATE).unwrap_or_default()
}
