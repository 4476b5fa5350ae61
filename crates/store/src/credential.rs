//! Credentials of applications. Secrets come here only as keyed hashes.

use jiff::Timestamp;
use model::{
    ApplicationId, Credential, CredentialDigest, CredentialEntry, CredentialId, CredentialKind,
    CredentialStatus, RosterEntry, TenantId,
};
use sqlx::any::AnyRow;

use crate::{
    StoreError, Tx, roster,
    row::{Columns, to_json},
};

/// The most credentials that one application has, revoked ones included.
pub const MAX_PER_APPLICATION: i64 = 200;

/// Adds a credential with the keyed hash of its secret.
pub async fn insert(
    tx: &mut Tx,
    credential: &Credential,
    digest: CredentialDigest,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO credential (id, application_id, tenant_id, name, kind, digest, prefix, last_four, status,
                                expires_at, replaced_by, created_by, created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    tx.statement("credential::insert", SQL)
        .bind_text(credential.id)
        .bind_text(credential.application)
        .bind_text(credential.tenant)
        .bind_text(&credential.name)
        .bind(to_json("credential::insert", &credential.kind)?)
        .bind(hex(digest))
        .bind_text(&credential.prefix)
        .bind_text(&credential.last_four)
        .bind_text(status_name(credential.status))
        .bind(credential.expires_at.map(Timestamp::as_microsecond))
        .bind_text_opt(credential.replaced_by)
        .bind_text(credential.created_by)
        .bind(credential.created_at.as_microsecond())
        .bind(credential.updated_at.as_microsecond())
        .bind(credential.revision)
        .execute()
        .await?;
    enter(tx, credential, digest);
    Ok(())
}

/// Writes a changed credential over the revision before it.
pub async fn update(tx: &mut Tx, credential: &Credential) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE credential
        SET status = $1, expires_at = $2, replaced_by = $3, updated_at = $4, revision = $5
        WHERE id = $6 AND tenant_id = $7 AND revision = $5 - 1";
    tx.statement("credential::update", SQL)
        .bind_text(status_name(credential.status))
        .bind(credential.expires_at.map(Timestamp::as_microsecond))
        .bind_text_opt(credential.replaced_by)
        .bind(credential.updated_at.as_microsecond())
        .bind(credential.revision)
        .bind_text(credential.id)
        .bind_text(credential.tenant)
        .execute_current()
        .await?;
    let row = tx
        .statement("credential::digest", "SELECT digest FROM credential WHERE id = $1")
        .bind_text(credential.id)
        .optional()
        .await?;
    if let Some(row) = row {
        let digest = read_digest(&Columns::of("credential::digest", &row))?;
        enter(tx, credential, digest);
    }
    Ok(())
}

/// Enters a credential on the roster as the gateway is to know it.
fn enter(tx: &mut Tx, credential: &Credential, digest: CredentialDigest) {
    if credential.kind != CredentialKind::ApiKey {
        return;
    }
    let entry = RosterEntry::Credential(CredentialEntry {
        id: credential.id,
        digest,
        application: credential.application,
        tenant: credential.tenant,
        expires_at: credential.expires_at,
    });
    let is_live = credential.status == CredentialStatus::Active;
    roster::set(tx, entry, is_live, credential.updated_at);
}

/// Notes when a credential was used, unless a later use is known.
pub async fn note_use(tx: &mut Tx, id: CredentialId, at: Timestamp) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE credential SET last_used_at = $1 WHERE id = $2 AND (last_used_at IS NULL OR last_used_at < $1)";
    tx.statement("credential::note_use", SQL)
        .bind(at.as_microsecond())
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Deletes a credential that is revoked. Gateways have been told so by the change that revoked it.
pub async fn delete_revoked(
    tx: &mut Tx,
    application: ApplicationId,
    id: CredentialId,
) -> Result<(), StoreError> {
    const SQL: &str =
        "DELETE FROM credential WHERE id = $1 AND application_id = $2 AND status = 'revoked'";
    tx.statement("credential::delete_revoked", SQL)
        .bind_text(id)
        .bind_text(application)
        .execute()
        .await?;
    Ok(())
}

/// Finds a credential of an application that the caller was found to own.
pub async fn find(
    tx: &mut Tx,
    application: ApplicationId,
    id: CredentialId,
) -> Result<Option<Credential>, StoreError> {
    const SQL: &str = "SELECT * FROM credential WHERE id = $1 AND application_id = $2";
    let row = tx
        .statement("credential::find", SQL)
        .bind_text(id)
        .bind_text(application)
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Finds a credential by its identifier alone, for background work.
pub async fn find_by_id(tx: &mut Tx, id: CredentialId) -> Result<Option<Credential>, StoreError> {
    const SQL: &str = "SELECT * FROM credential WHERE id = $1";
    let row = tx.statement("credential::find_by_id", SQL).bind_text(id).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Takes up to `limit` credentials that expire within so many days, of which that was not said yet, and notes that it
/// is said now. One that was made to live no longer than that, and one that was replaced, are left out.
pub async fn take_expiring(
    tx: &mut Tx,
    now: Timestamp,
    days: i64,
    limit: i64,
) -> Result<Vec<(CredentialId, TenantId)>, StoreError> {
    const FIND: &str = "
        SELECT id, tenant_id FROM credential
        WHERE status = 'active' AND replaced_by IS NULL AND expires_at > $1 AND expires_at <= $2
          AND expires_at - created_at > $3 AND (expiry_said IS NULL OR expiry_said > $4)
        ORDER BY expires_at, id LIMIT $5";
    const NOTE: &str = "
        UPDATE credential SET expiry_said = $1 WHERE id = $2 AND (expiry_said IS NULL OR expiry_said > $1)";
    let span = jiff::SignedDuration::from_hours(24 * days);
    let rows = tx
        .statement("credential::take_expiring", FIND)
        .bind(now.as_microsecond())
        .bind((now + span).as_microsecond())
        .bind(span.as_secs() * 1_000_000)
        .bind(days)
        .bind(limit)
        .all()
        .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::of("credential::take_expiring", row);
        let (id, tenant) = (columns.parsed("id")?, columns.parsed("tenant_id")?);
        let noted = tx
            .statement("credential::take_expiring", NOTE)
            .bind(days)
            .bind_text(id)
            .execute()
            .await?;
        if noted == 1 {
            taken.push((id, tenant));
        }
    }
    Ok(taken)
}

/// Finds a credential and the keyed hash of its secret, for signing in.
pub async fn find_secret(
    tx: &mut Tx,
    id: CredentialId,
) -> Result<Option<(Credential, CredentialDigest)>, StoreError> {
    const SQL: &str = "
        SELECT credential.* FROM credential JOIN tenant ON tenant.id = credential.tenant_id
        WHERE credential.id = $1 AND tenant.is_active = 1";
    let row = tx.statement("credential::find_secret", SQL).bind_text(id).optional().await?;
    row.map(|row| Ok((read(&row)?, read_digest(&Columns::of("credential::find_secret", &row))?)))
        .transpose()
}

/// Lists the credentials of an application that the caller was found to own.
pub async fn list_of(
    tx: &mut Tx,
    application: ApplicationId,
) -> Result<Vec<Credential>, StoreError> {
    let rows = tx
        .statement(
            "credential::list_of",
            "SELECT * FROM credential WHERE application_id = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind_text(application)
        .bind(MAX_PER_APPLICATION)
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Lists active API keys after an identifier, as the gateway is to know them.
pub(crate) async fn list_accepted(
    tx: &mut Tx,
    after: &str,
    limit: i64,
) -> Result<Vec<RosterEntry>, StoreError> {
    const SQL: &str = "
        SELECT id, digest, application_id, tenant_id, expires_at FROM credential
        WHERE status = 'active' AND kind LIKE '%api_key%' AND id > $1 ORDER BY id LIMIT $2";
    let rows = tx
        .statement("credential::list_accepted", SQL)
        .bind(after.to_owned())
        .bind(limit)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("credential::list_accepted", row);
            Ok(RosterEntry::Credential(CredentialEntry {
                id: columns.parsed("id")?,
                digest: read_digest(&columns)?,
                application: columns.parsed("application_id")?,
                tenant: columns.parsed("tenant_id")?,
                expires_at: columns.time_opt("expires_at")?,
            }))
        })
        .collect()
}

const fn status_name(status: CredentialStatus) -> &'static str {
    match status {
        CredentialStatus::Active => "active",
        CredentialStatus::Revoked => "revoked",
    }
}

fn hex(digest: CredentialDigest) -> String {
    digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_digest(columns: &Columns<'_>) -> Result<CredentialDigest, StoreError> {
    let text = columns.text("digest")?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        let pair = text.get(2 * index..2 * index + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).map_err(|error| columns.corrupt("digest", error))?;
    }
    Ok(CredentialDigest(digest))
}

fn read(row: &AnyRow) -> Result<Credential, StoreError> {
    let columns = Columns::of("credential::read", row);
    Ok(Credential {
        id: columns.parsed("id")?,
        application: columns.parsed("application_id")?,
        tenant: columns.parsed("tenant_id")?,
        name: columns.checked("name")?,
        kind: columns.json::<CredentialKind>("kind")?,
        prefix: columns.text("prefix")?,
        last_four: columns.text("last_four")?,
        status: columns.named("status", |name| match name {
            "active" => Some(CredentialStatus::Active),
            "revoked" => Some(CredentialStatus::Revoked),
            _ => None,
        })?,
        expires_at: columns.time_opt("expires_at")?,
        last_used_at: columns.time_opt("last_used_at")?,
        replaced_by: columns.parsed_opt("replaced_by")?,
        created_by: columns.parsed("created_by")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
