//! A second factor beside the password of local accounts: one-time codes of an authenticator app, and recovery codes for
//! when it is lost (NIST SP 800-63B, 5.1.2 and 5.1.4).

use authz::{Action, Principal};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use model::{AuditOutcome, User, UserId, UserStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Tx, Viewer, session::Session};

use crate::{
    Attempt, Begun, Conflict, Kind, Market, MarketError, Request, SignedIn,
    change::Change,
    secrets,
    totp::{TotpSecret, base_32},
    viewer,
};

/// Recovery codes that are made at once.
const RECOVERY_CODES: usize = 10;
/// How long the second step of signing in may take.
const SECOND_STEP: SignedDuration = SignedDuration::from_mins(5);

/// Whether an account has a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondFactorStatus {
    /// Since when a code is asked for; none when it is not.
    pub since: Option<Timestamp>,
    /// Recovery codes that were not used yet.
    pub recovery_codes_left: u64,
}

/// What an authenticator app needs; shown once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecondFactorSecret {
    /// The secret in base32, for typing.
    pub secret: String,
    /// The same as an address that apps read, for a QR code.
    pub uri: String,
}

/// What came of a password that was right.
#[derive(Debug)]
pub enum SignInStep {
    /// The person has signed in.
    Done(SignedIn),
    /// A code is asked for. The text, which is sealed and good for five minutes, says for whom.
    NeedsCode(String),
}

/// Who has given a right password and still needs a code.
#[derive(Serialize, Deserialize)]
struct Pending {
    user: UserId,
    /// What the password is recognised by: a new one ends what the old one began.
    password: String,
    until: Timestamp,
}

/// A code that was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// One of an authenticator app.
    Totp,
    /// One that is used up now.
    RecoveryCode,
}

impl Proof {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::RecoveryCode => "recovery_code",
        }
    }
}

impl Market {
    /// Whether the caller's own account has a second factor.
    pub async fn read_second_factor(
        &self,
        request: &Request,
    ) -> Result<SecondFactorStatus, MarketError> {
        self.require(request, Action::ReadSecondFactor).await?;
        let user = person(request)?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let found = store::second_factor::find(&mut tx, user).await?;
        let recovery_codes_left = store::second_factor::count_recovery_codes(&mut tx, user).await?;
        let since = found.active.map(|(_, since)| since);
        Ok(SecondFactorStatus { since, recovery_codes_left })
    }

    /// Begins a second factor with a fresh secret. Its codes are asked for once one was given that is right; until then
    /// those of the one before are, if there is one.
    pub async fn begin_second_factor(
        &self,
        request: &Request,
        password: &str,
    ) -> Result<SecondFactorSecret, MarketError> {
        let user = self.prove_self(request, password, "currentPassword").await?;
        let mut change = match self.begin(request, Action::BeginSecondFactor).await? {
            Begun::Fresh(change) => change,
            Begun::Done(secret) => return Ok(secret),
        };
        let own = store::Viewer::Tenant(request.caller.tenant);
        let account = store::account::find(change.tx(), own, user).await?;
        let account = account.ok_or(MarketError::NotFound(Kind::User))?;
        let secret = TotpSecret::random();
        let sealed = self.secrets.seal(secret.bytes())?;
        store::second_factor::set_next(change.tx(), user, sealed).await?;
        change.audit(request.caller.tenant, user, json!({})).await?;
        let installation = self.installation().await?;
        let uri = secret.uri(installation.name.as_str(), &account.email.to_string());
        change.finish(SecondFactorSecret { secret: secret.to_base_32(), uri }).await
    }

    /// Takes the first code: from now on one is asked for. Yields the recovery codes, which are shown once.
    pub async fn confirm_second_factor(
        &self,
        request: &Request,
        code: &str,
    ) -> Result<Vec<String>, MarketError> {
        let user = person(request)?;
        let guesses = format!("second factor of {user}");
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(&guesses, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let mut change = match self.begin(request, Action::ConfirmSecondFactor).await? {
            Begun::Fresh(change) => change,
            Begun::Done(codes) => return Ok(codes),
        };
        let Some(sealed) = store::second_factor::find(change.tx(), user).await?.next else {
            return Err(Conflict::NoSecondFactorBegun.into());
        };
        let secret = TotpSecret::of(self.secrets.open(&sealed)?);
        let Some(step) = secret.step_of(&plain(code), now) else {
            self.attempts.fail(&guesses, now);
            return Err(MarketError::invalid(
                "code",
                "is wrong; is the clock of the device right?",
            ));
        };
        store::second_factor::confirm(change.tx(), user, step, now).await?;
        let codes = self.fresh_recovery_codes(change.tx(), user).await?;
        change.audit(request.caller.tenant, user, json!({})).await?;
        change.finish(codes).await
    }

    /// Makes new recovery codes, after which the old ones are good no longer.
    pub async fn renew_recovery_codes(
        &self,
        request: &Request,
        password: &str,
    ) -> Result<Vec<String>, MarketError> {
        let user = self.prove_self(request, password, "currentPassword").await?;
        let mut change = match self.begin(request, Action::RenewRecoveryCodes).await? {
            Begun::Fresh(change) => change,
            Begun::Done(codes) => return Ok(codes),
        };
        if store::second_factor::find(change.tx(), user).await?.active.is_none() {
            return Err(Conflict::NoSecondFactor.into());
        }
        let codes = self.fresh_recovery_codes(change.tx(), user).await?;
        change.audit(request.caller.tenant, user, json!({})).await?;
        change.finish(codes).await
    }

    /// Removes the second factor.
    pub async fn remove_second_factor(
        &self,
        request: &Request,
        password: &str,
    ) -> Result<(), MarketError> {
        let user = self.prove_self(request, password, "currentPassword").await?;
        let mut change = match self.begin(request, Action::RemoveSecondFactor).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        store::second_factor::remove(change.tx(), user).await?;
        change.audit(request.caller.tenant, user, json!({})).await?;
        change.finish(()).await
    }

    /// The second step of signing in: the code of an authenticator app, or a recovery code. `pending` is what the first
    /// step yielded, and `address` the client's, for limiting failures.
    pub async fn finish_sign_in(
        &self,
        pending: &str,
        code: &str,
        address: &str,
        request_id: &str,
    ) -> Result<SignedIn, MarketError> {
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(address, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let pending = self.read_pending(pending).filter(|pending| now < pending.until);
        let Some(pending) = pending else { return Err(MarketError::Unauthenticated) };
        let mut tx = self.db.begin(Viewer::Installation).await?;
        store::account::hold(&mut tx, pending.user).await?;
        let account = store::account::find_sign_in_by_id(&mut tx, pending.user).await?;
        let account = account.filter(|account| {
            let known = account.password_hash.as_deref().map(password_mark);
            known.as_ref() == Some(&pending.password)
        });
        let Some(account) = account else { return Err(MarketError::Unauthenticated) };
        if let Some(wait) = account.locked_for(now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let session = self.session_of(&account.user, now);
        match self.take_code(&mut tx, &account.user, code, now).await? {
            Some(proof) if self.may_sign_in(&mut tx, &account.user).await? => {
                store::account::note_attempts(&mut tx, account.user.id, 0, None).await?;
                self.open_portal_session(tx, session, Some(proof), request_id).await
            }
            _ => {
                self.refuse_code(tx, &session, request_id).await?;
                self.attempts.fail(address, now);
                Err(MarketError::Unauthenticated)
            }
        }
    }

    /// What stands for a right password until the code has come.
    pub(crate) fn pending_sign_in(
        &self,
        user: UserId,
        password_hash: &str,
    ) -> Result<String, MarketError> {
        let until = self.clock.now() + SECOND_STEP;
        let pending = Pending { user, password: password_mark(password_hash), until };
        let bytes = serde_json::to_vec(&pending)
            .map_err(|error| MarketError::internal("a sign-in could not be kept")(error.into()))?;
        Ok(URL_SAFE_NO_PAD.encode(self.secrets.seal(&bytes)?))
    }

    fn read_pending(&self, text: &str) -> Option<Pending> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice(&self.secrets.open(&bytes).ok()?).ok()
    }

    /// Takes a code, of the app or for recovery; each is good once. None is said of a wrong one, which has been counted.
    pub(crate) async fn take_code(
        &self,
        tx: &mut Tx,
        user: &User,
        code: &str,
        now: Timestamp,
    ) -> Result<Option<Proof>, MarketError> {
        let Some((sealed, _)) = store::second_factor::find(tx, user.id).await?.active else {
            return Ok(None);
        };
        let code = plain(code);
        let secret = TotpSecret::of(self.secrets.open(&sealed)?);
        if let Some(step) = secret.step_of(&code, now) {
            let is_fresh = store::second_factor::take_step(tx, user.id, step).await?;
            return Ok(is_fresh.then_some(Proof::Totp));
        }
        let digest = self.recovery_digest(user.id, &code);
        let is_known = store::second_factor::take_recovery_code(tx, user.id, &digest).await?;
        Ok(is_known.then_some(Proof::RecoveryCode))
    }

    /// Counts a wrong code like a wrong password, also when many are tried at once.
    pub(crate) async fn refuse_code(
        &self,
        mut tx: Tx,
        session: &Session,
        request_id: &str,
    ) -> Result<(), MarketError> {
        let failed = store::account::count_attempt(&mut tx, session.user).await?;
        self.note_failure_in(tx, session, failed, request_id).await
    }

    /// Whether an account of an active tenant is active itself.
    pub(crate) async fn may_sign_in(&self, tx: &mut Tx, user: &User) -> Result<bool, MarketError> {
        let tenant = store::tenant::find(tx, user.tenant).await?;
        let is_open = tenant.is_some_and(|tenant| tenant.is_active);
        Ok(is_open && user.status == UserStatus::Active)
    }

    /// An entry of the audit trail for a sign-in, with how the second factor was proven.
    pub(crate) fn signed_in_entry(
        &self,
        session: &Session,
        proof: Option<Proof>,
        request_id: &str,
    ) -> model::AuditEntry {
        let mut entry = self.sign_in_entry(session, AuditOutcome::Success, request_id);
        if let Some(proof) = proof {
            entry.details = json!({ "roles": session.roles, "secondFactor": proof.as_str() });
        }
        entry
    }

    async fn fresh_recovery_codes(
        &self,
        tx: &mut Tx,
        user: UserId,
    ) -> Result<Vec<String>, MarketError> {
        let codes: Vec<String> = (0..RECOVERY_CODES)
            .map(|_| {
                let text = base_32(&secrets::random::<10>()).to_ascii_lowercase();
                let fours: Vec<&str> = text
                    .as_bytes()
                    .chunks(4)
                    .filter_map(|four| str::from_utf8(four).ok())
                    .collect();
                fours.join("-")
            })
            .collect();
        let digests: Vec<String> =
            codes.iter().map(|code| self.recovery_digest(user, &plain(code))).collect();
        store::second_factor::set_recovery_codes(tx, user, &digests).await?;
        Ok(codes)
    }

    fn recovery_digest(&self, user: UserId, code: &str) -> String {
        secrets::hex(&self.secrets.digest(&format!("recovery code of {user}: {code}")).0)
    }

    /// Makes sure that whoever found an open session knows the password as well, and cannot guess it.
    /// `field` is where the password stands in the request.
    pub(crate) async fn prove_self(
        &self,
        request: &Request,
        password: &str,
        field: &str,
    ) -> Result<UserId, MarketError> {
        let user = person(request)?;
        let guesses = format!("password of {user}");
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(&guesses, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let account = store::account::find_sign_in_by_id(&mut tx, user).await?;
        drop(tx);
        let stored = account.and_then(|account| account.password_hash);
        if self.password_matches(password, stored).await? {
            return Ok(user);
        }
        self.attempts.fail(&guesses, now);
        Err(MarketError::invalid(field, "is wrong"))
    }

    /// Makes sure that whoever signs holds the second factor of the account as well, if it has one.
    pub(crate) async fn prove_code(
        &self,
        change: &mut Change<'_>,
        code: Option<&str>,
    ) -> Result<User, MarketError> {
        let request = change.request();
        let user = person(request)?;
        let own = Viewer::Tenant(request.caller.tenant);
        let account = store::account::find(change.tx(), own, user).await?;
        let account = account.ok_or(MarketError::NotFound(Kind::User))?;
        if store::second_factor::find(change.tx(), user).await?.active.is_none() {
            return Ok(account);
        }
        let Some(code) = code else {
            return Err(MarketError::invalid(
                "signature.code",
                "is needed: the account has a second factor",
            ));
        };
        let (guesses, now) = (format!("second factor of {user}"), self.clock.now());
        if let Attempt::Refused(wait) = self.attempts.check(&guesses, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        if self.take_code(change.tx(), &account, code, now).await?.is_none() {
            self.attempts.fail(&guesses, now);
            return Err(MarketError::invalid("signature.code", "is wrong or was used before"));
        }
        Ok(account)
    }
}

/// The person who asks; programs have no password and no second factor.
fn person(request: &Request) -> Result<UserId, MarketError> {
    match request.caller.principal {
        Principal::User(user) => Ok(user),
        Principal::Application(..) => Err(MarketError::NotFound(Kind::User)),
    }
}

/// A code without what people put in for reading.
fn plain(code: &str) -> String {
    code.chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .take(64)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// What a password's hash is recognised by.
fn password_mark(hash: &str) -> String {
    secrets::sha256_hex(&[b"pending sign-in", hash.as_bytes()])
}
