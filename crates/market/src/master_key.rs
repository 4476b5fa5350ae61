//! Whether the master key is the one that the database was made under.
//!
//! With another one nothing would fail at first, but no API key would be known any more, and new ones would be hashed under a
//! key that is lost with the next restore.

use store::{Database, StoreError, Viewer};

use crate::{Market, MarketError, Secrets};

const SETTING: &str = "master_key_check";

/// How a master key and a database stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterKeyCheck {
    /// The database was made under it.
    Right,
    /// The database was made under another one.
    Wrong,
    /// The database was not used yet.
    Unknown,
}

/// Whether a database was made under the master key that `secrets` come from.
pub async fn check_master_key(
    database: &Database,
    secrets: &Secrets,
) -> Result<MasterKeyCheck, StoreError> {
    let mut tx = database.read(Viewer::Installation).await?;
    if let Some((known, _)) = store::setting::find::<String>(&mut tx, SETTING).await? {
        let is_right = known == secrets.master_key_check();
        return Ok(if is_right { MasterKeyCheck::Right } else { MasterKeyCheck::Wrong });
    }
    // A database from before this was noted: what was sealed under the key tells as well.
    let keys = store::signing_key::list(&mut tx).await?;
    Ok(match keys.first() {
        Some(key) if secrets.open(&key.sealed_key).is_ok() => MasterKeyCheck::Right,
        Some(_) => MasterKeyCheck::Wrong,
        None => MasterKeyCheck::Unknown,
    })
}

impl Market {
    /// Refuses to go on under another master key than the database was made under; notes the key of a new one.
    pub async fn keep_to_master_key(&self) -> Result<(), MarketError> {
        if check_master_key(&self.db, &self.secrets).await? == MasterKeyCheck::Wrong {
            return Err(MarketError::Internal(
                "the database was made under another master key: put that one back",
                None,
            ));
        }
        let mut tx = self.db.begin(Viewer::Installation).await?;
        if store::setting::find::<String>(&mut tx, SETTING).await?.is_none() {
            let check = self.secrets.master_key_check();
            let noted = store::setting::put(&mut tx, SETTING, &check, 1, self.clock.now()).await;
            match noted {
                Ok(()) => tx.commit().await?,
                // Another process was faster; the next look tells whether it has the same key.
                Err(StoreError::Stale { .. }) => {
                    drop(tx);
                    return Box::pin(self.keep_to_master_key()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
