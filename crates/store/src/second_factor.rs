//! The second factor of accounts, and the codes for when it is lost.

use jiff::Timestamp;
use model::UserId;

use crate::{StoreError, Tx, row::Columns};

/// What an account's one-time codes are made of.
#[derive(Debug, Clone)]
pub struct SecondFactor {
    /// The secret, sealed, and since when its codes are asked for.
    pub active: Option<(Vec<u8>, Timestamp)>,
    /// A secret, sealed, that waits for its first code.
    pub next: Option<Vec<u8>>,
}

/// Finds the second factor of an account.
pub async fn find(tx: &mut Tx, user: UserId) -> Result<SecondFactor, StoreError> {
    const SQL: &str = "SELECT totp_secret, totp_since, totp_next FROM account WHERE id = $1";
    let row = tx.statement("second_factor::find", SQL).bind_text(user).optional().await?;
    let Some(row) = row else { return Ok(SecondFactor { active: None, next: None }) };
    let columns = Columns::of("second_factor::find", &row);
    let secret: Option<Vec<u8>> = columns.get("totp_secret")?;
    Ok(SecondFactor {
        active: secret.zip(columns.time_opt("totp_since")?),
        next: columns.get("totp_next")?,
    })
}

/// Sets a secret that waits for its first code.
pub async fn set_next(tx: &mut Tx, user: UserId, sealed: Vec<u8>) -> Result<(), StoreError> {
    tx.statement("second_factor::set_next", "UPDATE account SET totp_next = $1 WHERE id = $2")
        .bind(sealed)
        .bind_text(user)
        .execute()
        .await?;
    Ok(())
}

/// The secret that waited has had its first code, of this step: from now on its codes are asked for.
pub async fn confirm(
    tx: &mut Tx,
    user: UserId,
    step: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE account SET totp_secret = totp_next, totp_since = $1, totp_step = $2, totp_next = NULL
        WHERE id = $3";
    tx.statement("second_factor::confirm", SQL)
        .bind(now.as_microsecond())
        .bind(i64::try_from(step).unwrap_or(i64::MAX))
        .bind_text(user)
        .execute()
        .await?;
    Ok(())
}

/// Takes the code of a step; says whether no code of it or of a later one was taken before.
pub async fn take_step(tx: &mut Tx, user: UserId, step: u64) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE account SET totp_step = $1 WHERE id = $2 AND totp_step < $1";
    let step = i64::try_from(step).unwrap_or(i64::MAX);
    let taken =
        tx.statement("second_factor::take_step", SQL).bind(step).bind_text(user).execute().await?;
    Ok(taken == 1)
}

/// Takes a recovery code; says whether there was one with this digest.
pub async fn take_recovery_code(
    tx: &mut Tx,
    user: UserId,
    digest: &str,
) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM recovery_code WHERE account_id = $1 AND digest = $2";
    let taken = tx
        .statement("second_factor::take_recovery_code", SQL)
        .bind_text(user)
        .bind(digest.to_owned())
        .execute()
        .await?;
    Ok(taken == 1)
}

/// How many recovery codes are left.
pub async fn count_recovery_codes(tx: &mut Tx, user: UserId) -> Result<u64, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM recovery_code WHERE account_id = $1";
    let left =
        tx.statement("second_factor::count_recovery_codes", SQL).bind_text(user).number().await?;
    Ok(left.unsigned_abs())
}

/// Replaces all recovery codes.
pub async fn set_recovery_codes(
    tx: &mut Tx,
    user: UserId,
    digests: &[String],
) -> Result<(), StoreError> {
    const FORGET: &str = "DELETE FROM recovery_code WHERE account_id = $1";
    const ADD: &str = "INSERT INTO recovery_code (account_id, digest) VALUES ($1, $2)";
    tx.statement("second_factor::set_recovery_codes", FORGET).bind_text(user).execute().await?;
    for digest in digests {
        tx.statement("second_factor::set_recovery_codes", ADD)
            .bind_text(user)
            .bind(digest.clone())
            .execute()
            .await?;
    }
    Ok(())
}

/// Forgets the second factor and its recovery codes.
pub async fn remove(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE account SET totp_secret = NULL, totp_since = NULL, totp_step = 0, totp_next = NULL
        WHERE id = $1";
    tx.statement("second_factor::remove", SQL).bind_text(user).execute().await?;
    set_recovery_codes(tx, user, &[]).await
}
