//! Passwords: argon2id, a bounded number at once, off the request threads.

use std::sync::LazyLock;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

use crate::{Market, MarketError, Violation};

/// How many passwords are hashed at once; each takes 19 MiB of memory.
pub(crate) const AT_ONCE: usize = 2;

const LENGTH_MIN: usize = 12;
const LENGTH_MAX: usize = 256;

/// Checked against when there is no account, so that the time an answer takes says nothing.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash("no account has this password").unwrap_or_default());

/// Refuses passwords that are too short or too long (NIST SP 800-63B, 5.1.1.2).
pub(crate) fn check_strength(field: &str, password: &str) -> Result<(), MarketError> {
    let length = password.chars().count();
    if length < LENGTH_MIN || password.len() > LENGTH_MAX {
        return Err(MarketError::Invalid(vec![Violation::new(
            field,
            format!("must have {LENGTH_MIN} to {LENGTH_MAX} characters"),
        )]));
    }
    Ok(())
}

impl Market {
    /// Hashes a password for storage.
    pub(crate) async fn hash_password(&self, password: &str) -> Result<String, MarketError> {
        let password = zeroize::Zeroizing::new(password.to_owned());
        self.hash_off_path(move || hash(&password)).await?
    }

    /// Whether a password is the one with this hash; without a hash it takes as long and says no.
    pub(crate) async fn password_matches(
        &self,
        password: &str,
        stored: Option<String>,
    ) -> Result<bool, MarketError> {
        let password = zeroize::Zeroizing::new(password.to_owned());
        self.hash_off_path(move || {
            let known = stored.is_some();
            let stored = stored.unwrap_or_else(|| NOBODY.clone());
            known && verify(&password, &stored)
        })
        .await
    }

    async fn hash_off_path<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, MarketError> {
        let _permit =
            self.hashing.acquire().await.map_err(|error| {
                MarketError::internal("password hashing has stopped")(error.into())
            })?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| MarketError::internal("password hashing failed")(error.into()))
    }
}

fn hash(password: &str) -> Result<String, MarketError> {
    Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(
        |error| MarketError::internal("a password could not be hashed")(error.to_string().into()),
    )
}

fn verify(password: &str, stored: &str) -> bool {
    PasswordHash::new(stored)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let stored = hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("correct horse battery", &stored));
        assert!(!verify("correct horse batterx", &stored));
        assert!(!verify("correct horse battery", "not a hash"));
    }

    #[test]
    fn short_passwords_are_refused() {
        assert!(check_strength("password", "elevenchars").is_err());
        assert!(check_strength("password", "twelve chars").is_ok());
        assert!(check_strength("password", &"x".repeat(257)).is_err());
    }
}
