//! Gateways on other machines, and the one-time tokens they are enrolled with.

use jiff::Timestamp;
use model::{NodeId, UserId};
use sqlx::any::AnyRow;

use crate::{Page, PageOf, StoreError, Tx, row::Columns};

/// A gateway on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Identifier.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// SHA-256 of its certificate, in hex.
    pub certificate_sha256: String,
    /// SHA-256 of the certificate before, until the new one was seen in use.
    pub previous_sha256: Option<String>,
    /// When its certificate ends.
    pub certificate_expires_at: Timestamp,
    /// Who made the token it was enrolled with.
    pub enrolled_by: UserId,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When it was cut off.
    pub revoked_at: Option<Timestamp>,
    /// When it was last heard of.
    pub seen_at: Option<Timestamp>,
    /// How far it had come then, as JSON.
    pub standing: Option<String>,
    /// The version of its software then.
    pub version: Option<String>,
}

/// A token with which one gateway is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeToken {
    /// SHA-256 of its secret part, in hex.
    pub digest: String,
    /// What the gateway will be called.
    pub name: String,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Adds a token, and forgets those whose end has come.
pub async fn insert_token(tx: &mut Tx, token: &NodeToken) -> Result<(), StoreError> {
    const PRUNE: &str = "DELETE FROM node_token WHERE expires_at <= $1";
    const SQL: &str = "
        INSERT INTO node_token (digest, name, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
    tx.statement("node::prune_tokens", PRUNE)
        .bind(token.created_at.as_microsecond())
        .execute()
        .await?;
    tx.statement("node::insert_token", SQL)
        .bind_text(&token.digest)
        .bind_text(&token.name)
        .bind_text(token.created_by)
        .bind(token.created_at.as_microsecond())
        .bind(token.expires_at.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// Uses a token up: found once, before its end.
pub async fn claim_token(
    tx: &mut Tx,
    digest: &str,
    now: Timestamp,
) -> Result<Option<NodeToken>, StoreError> {
    const SQL: &str = "
        UPDATE node_token SET used_at = $1 WHERE digest = $2 AND used_at IS NULL AND expires_at > $1
        RETURNING digest, name, created_by, created_at, expires_at";
    let row = tx
        .statement("node::claim_token", SQL)
        .bind(now.as_microsecond())
        .bind_text(digest)
        .optional()
        .await?;
    row.map(|row| {
        let columns = Columns::of("node::claim_token", &row);
        Ok(NodeToken {
            digest: columns.text("digest")?,
            name: columns.text("name")?,
            created_by: columns.parsed("created_by")?,
            created_at: columns.time("created_at")?,
            expires_at: columns.time("expires_at")?,
        })
    })
    .transpose()
}

/// Adds a node.
pub async fn insert(tx: &mut Tx, node: &Node) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO node (id, name, certificate_sha256, certificate_expires_at, enrolled_by, enrolled_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    tx.statement("node::insert", SQL)
        .bind_text(node.id)
        .bind_text(&node.name)
        .bind_text(&node.certificate_sha256)
        .bind(node.certificate_expires_at.as_microsecond())
        .bind_text(node.enrolled_by)
        .bind(node.enrolled_at.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// Gives a node another certificate. The one before is accepted until the new one was seen.
pub async fn renew(
    tx: &mut Tx,
    id: NodeId,
    certificate_sha256: &str,
    expires_at: Timestamp,
    used_sha256: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE node SET previous_sha256 = $1, certificate_sha256 = $2, certificate_expires_at = $3
        WHERE id = $4 AND revoked_at IS NULL";
    tx.statement("node::renew", SQL)
        .bind_text(used_sha256)
        .bind_text(certificate_sha256)
        .bind(expires_at.as_microsecond())
        .bind_text(id)
        .execute_current()
        .await
}

/// Notes that a node was heard of, with which certificate and how far it has come.
pub async fn note_seen(
    tx: &mut Tx,
    id: NodeId,
    certificate_sha256: &str,
    at: Timestamp,
    standing: &str,
    version: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE node SET seen_at = $1, standing = $2, version = $3,
               previous_sha256 = CASE WHEN certificate_sha256 = $4 THEN NULL ELSE previous_sha256 END
        WHERE id = $5";
    tx.statement("node::note_seen", SQL)
        .bind(at.as_microsecond())
        .bind_text(standing)
        .bind_text(version)
        .bind_text(certificate_sha256)
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Cuts a node off.
pub async fn revoke(tx: &mut Tx, id: NodeId, now: Timestamp) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE node SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
    tx.statement("node::revoke", SQL).bind(now.as_microsecond()).bind_text(id).execute().await?;
    Ok(())
}

/// Finds a node.
pub async fn find(tx: &mut Tx, id: NodeId) -> Result<Option<Node>, StoreError> {
    const SQL: &str = "SELECT * FROM node WHERE id = $1";
    let row = tx.statement("node::find", SQL).bind_text(id).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Finds the node that a certificate belongs to, unless it was cut off.
pub async fn find_by_certificate(
    tx: &mut Tx,
    certificate_sha256: &str,
) -> Result<Option<Node>, StoreError> {
    const SQL: &str = "
        SELECT * FROM node WHERE (certificate_sha256 = $1 OR previous_sha256 = $1) AND revoked_at IS NULL";
    let row = tx
        .statement("node::find_by_certificate", SQL)
        .bind_text(certificate_sha256)
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists nodes, newest first.
pub async fn list(tx: &mut Tx, page: Page) -> Result<PageOf<Node>, StoreError> {
    const SQL: &str = "SELECT * FROM node ORDER BY id DESC LIMIT $1 OFFSET $2";
    let rows = tx.statement("node::list", SQL).bind(page.limit).bind(page.offset).all().await?;
    let total = tx.statement("node::list", "SELECT COUNT(*) FROM node").number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

fn read(row: &AnyRow) -> Result<Node, StoreError> {
    let columns = Columns::of("node::read", row);
    Ok(Node {
        id: columns.parsed("id")?,
        name: columns.text("name")?,
        certificate_sha256: columns.text("certificate_sha256")?,
        previous_sha256: columns.get("previous_sha256")?,
        certificate_expires_at: columns.time("certificate_expires_at")?,
        enrolled_by: columns.parsed("enrolled_by")?,
        enrolled_at: columns.time("enrolled_at")?,
        revoked_at: columns.time_opt("revoked_at")?,
        seen_at: columns.time_opt("seen_at")?,
        standing: columns.get("standing")?,
        version: columns.get("version")?,
    })
}
