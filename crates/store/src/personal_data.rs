//! What is stored of a person beside the account: what they made and said, wherever it stands.

use jiff::Timestamp;
use model::{Signature, UserId};

use crate::{StoreError, Tx, row::Columns};

/// Something that a person made or decided.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Deed {
    /// What it is: `api`, `version`, `application`, `credential`, `subscription`, `decision`, `signature` or `review`.
    pub kind: String,
    /// The identifier of the thing.
    pub id: String,
    /// Its name, its number, or the words that were said.
    pub text: String,
    /// When it was made.
    pub at: Timestamp,
}

/// Lists what a person made or decided, newest first.
pub async fn list_deeds(tx: &mut Tx, user: UserId, limit: i64) -> Result<Vec<Deed>, StoreError> {
    const SQL: &str = "
        SELECT 'api' AS kind, id, name AS text, created_at AS at FROM api WHERE created_by = $1
        UNION ALL SELECT 'version', id, number, created_at FROM api_version WHERE submitted_by = $1
        UNION ALL SELECT 'application', id, name, created_at FROM application WHERE created_by = $1
        UNION ALL SELECT 'credential', id, name, created_at FROM credential WHERE created_by = $1
        UNION ALL SELECT 'subscription', id, COALESCE(purpose_of_use, ''), created_at
                  FROM subscription WHERE requested_by = $1
        UNION ALL SELECT 'decision', id, comments, updated_at
                  FROM subscription WHERE decided_by = $1 OR first_approved_by = $1
        UNION ALL SELECT 'signature', id, signatures, updated_at
                  FROM subscription WHERE signatures LIKE '%\"' || $1 || '\"%'
        UNION ALL SELECT 'review', id, words, created_at FROM api_review WHERE author_id = $1
        ORDER BY at DESC LIMIT $2";
    let rows =
        tx.statement("personal_data::list_deeds", SQL).bind_text(user).bind(limit).all().await?;
    let mut deeds = Vec::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::of("personal_data::list_deeds", row);
        let (kind, id) = (columns.text("kind")?, columns.text("id")?);
        if kind == "signature" {
            // Others may have signed the same.
            let signatures: Vec<Signature> = columns.json("text")?;
            let own = signatures.into_iter().filter(|signature| signature.by == user);
            deeds.extend(own.map(|signature| Deed {
                kind: kind.clone(),
                id: id.clone(),
                text: signature.meaning.to_string(),
                at: signature.at,
            }));
        } else {
            deeds.push(Deed { kind, id, text: columns.text("text")?, at: columns.time("at")? });
        }
    }
    Ok(deeds)
}
