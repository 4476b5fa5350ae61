//! Keys that tokens are signed with. The private half is sealed before it comes here.

use jiff::Timestamp;

use crate::{StoreError, Tx, row::Columns};

/// A key that tokens are, or were, signed with.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// Key id in tokens.
    pub kid: String,
    /// The sealed private key.
    pub sealed_key: Vec<u8>,
    /// The public key: an uncompressed point of P-256 (65 bytes).
    pub public_key: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was replaced; tokens signed before are still checked with it.
    pub retired_at: Option<Timestamp>,
}

/// Adds a key.
pub async fn insert(tx: &mut Tx, key: &SigningKey) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO signing_key (kid, sealed_key, public_key, created_at) VALUES ($1, $2, $3, $4)";
    tx.statement("signing_key::insert", SQL)
        .bind_text(&key.kid)
        .bind(key.sealed_key.clone())
        .bind(key.public_key.clone())
        .bind(key.created_at.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// Retires all keys that are in use.
pub async fn retire_all(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    tx.statement(
        "signing_key::retire_all",
        "UPDATE signing_key SET retired_at = $1 WHERE retired_at IS NULL",
    )
    .bind(now.as_microsecond())
    .execute()
    .await?;
    Ok(())
}

/// Lists all keys, newest first; the first one without an end signs.
pub async fn list(tx: &mut Tx) -> Result<Vec<SigningKey>, StoreError> {
    const SQL: &str = "SELECT * FROM signing_key ORDER BY created_at DESC, kid LIMIT 50";
    let rows = tx.statement("signing_key::list", SQL).all().await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("signing_key::list", row);
            Ok(SigningKey {
                kid: columns.text("kid")?,
                sealed_key: columns.get("sealed_key")?,
                public_key: columns.get("public_key")?,
                created_at: columns.time("created_at")?,
                retired_at: columns.time_opt("retired_at")?,
            })
        })
        .collect()
}

/// Forgets keys that were retired before a time.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    tx.statement("signing_key::prune", "DELETE FROM signing_key WHERE retired_at < $1")
        .bind(before.as_microsecond())
        .execute()
        .await?;
    Ok(())
}
