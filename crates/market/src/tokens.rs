//! Access tokens of the control API: ES256 JWTs (RFC 7519, RFC 9068 in spirit) bound to a session in the database.

use std::sync::{Arc, PoisonError, RwLock};

use authz::{Action, Caller, Principal};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{
    AuditEntry, AuditOutcome, CredentialId, CredentialKind, Email, EventKind, Roles, SessionId,
    TenantId, User, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Tx, Viewer, session::Session, signing_key::SigningKey};

use crate::{Attempt, Begun, Market, MarketError, Request, second_factor::Proof, secrets};

/// How somebody proves who they are at the token endpoint.
pub enum TokenRequest<'a> {
    /// A person (`password` grant, for the command line).
    Password {
        /// E-mail address.
        username: &'a str,
        /// Password.
        password: &'a str,
        /// A code, for accounts with a second factor.
        code: Option<&'a str>,
    },
    /// A program (`client_credentials` grant).
    ClientCredentials {
        /// Identifier of the credential.
        client_id: &'a str,
        /// Its secret.
        client_secret: &'a str,
    },
}

/// How far somebody has proven who they are.
pub(crate) enum Proven {
    /// Wholly, and how the second factor was, where there is one.
    Wholly(Session, Option<Proof>),
    /// The password is right, and a code is asked for.
    NeedsCode { user: UserId, password_hash: String },
}

/// A token that was just issued.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The JWT.
    pub access_token: String,
    /// How long it is good, in seconds.
    pub expires_in: u32,
    /// The roles that it carries.
    pub roles: Roles,
}

/// A public key in JWK form (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// Key id.
    pub kid: String,
    /// First coordinate, base64url.
    pub x: String,
    /// Second coordinate, base64url.
    pub y: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: SessionId,
    tenant: TenantId,
    scope: String,
    iat: i64,
    exp: i64,
}

const ISSUER: &str = "caduceus";
const AUDIENCE: &str = "caduceus-control";
const LOCK_AFTER: i64 = 5;
const LOCK_MAX_SECONDS: i64 = 900;

/// The signing keys, read once and again when an unknown one is met.
#[derive(Default)]
pub(crate) struct Keyring(RwLock<Option<Arc<Vec<LoadedKey>>>>);

struct LoadedKey {
    kid: String,
    jwk: Jwk,
    decoding: DecodingKey,
    encoding: Option<EncodingKey>,
}

/// Who acts in a session, with the roles that the account has now.
pub(crate) fn caller_of(session: &Session, current: Roles) -> Caller {
    Caller {
        principal: session.application.map_or(Principal::User(session.user), |(application, _)| {
            Principal::Application(application, session.user)
        }),
        tenant: session.tenant,
        roles: session.roles.intersection(current),
        session: session.id,
    }
}

impl Keyring {
    fn get(&self) -> Option<Arc<Vec<LoadedKey>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, keys: Arc<Vec<LoadedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }

    fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Market {
    /// Issues a token. `address` is the client's, for limiting failures; `scope` may narrow the roles.
    pub async fn issue_token(
        &self,
        proof: TokenRequest<'_>,
        scope: Option<Roles>,
        address: &str,
        request_id: &str,
    ) -> Result<IssuedToken, MarketError> {
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(address, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let proven = match proof {
            TokenRequest::Password { username, password, code } => {
                self.prove_person(username, password, code, request_id).await
            }
            TokenRequest::ClientCredentials { client_id, client_secret } => {
                self.prove_program(client_id, client_secret, request_id).await
            }
        };
        let (mut session, second) = match proven {
            Ok(Proven::Wholly(session, second)) => (session, second),
            Ok(Proven::NeedsCode { .. }) => return Err(MarketError::SecondFactorRequired),
            Err(error) => {
                if matches!(error, MarketError::Unauthenticated) {
                    self.attempts.fail(address, now);
                }
                return Err(error);
            }
        };
        if let Some(scope) = scope {
            session.roles = session.roles.intersection(scope);
        }
        let mut tx = self.db.begin(Viewer::Installation).await?;
        store::session::insert(&mut tx, &session).await?;
        let entry = self.signed_in_entry(&session, second, request_id);
        store::audit::insert(&mut tx, &entry).await?;
        tx.commit().await?;
        let access_token = self.sign(&session).await?;
        Ok(IssuedToken {
            access_token,
            expires_in: self.settings.token_seconds,
            roles: session.roles,
        })
    }

    /// Who holds a token; fails when it is forged, expired or ended.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, MarketError> {
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return Err(MarketError::Unauthenticated);
        };
        let Some(kid) = header.kid.filter(|_| header.alg == Algorithm::ES256) else {
            return Err(MarketError::Unauthenticated);
        };
        let mut keys = self.keys().await?;
        if !keys.iter().any(|key| key.kid == kid) {
            // It may have been made by another replica since.
            keys = self.load_keys().await?;
        }
        let Some(key) = keys.iter().find(|key| key.kid == kid) else {
            return Err(MarketError::Unauthenticated);
        };
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_exp = false; // Judged below, by the clock that was handed in.
        let Ok(token) = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation) else {
            return Err(MarketError::Unauthenticated);
        };
        let now = self.clock.now();
        if token.claims.exp <= now.as_second() {
            return Err(MarketError::Unauthenticated);
        }
        let mut tx = self.db.read(Viewer::Installation).await?;
        let standing = store::session::find_standing(&mut tx, token.claims.sid, now).await?;
        let Some(standing) = standing.filter(|found| found.session.ended_at.is_none()) else {
            return Err(MarketError::Unauthenticated);
        };
        let Some(current) = standing.current_roles else {
            return Err(MarketError::Unauthenticated);
        };
        Ok(caller_of(&standing.session, current))
    }

    /// The public keys that tokens may be signed with.
    pub async fn jwks(&self) -> Result<Vec<Jwk>, MarketError> {
        Ok(self.keys().await?.iter().map(|key| key.jwk.clone()).collect())
    }

    /// Makes a new signing key. Tokens signed with the one before stay good until they expire.
    pub async fn rotate_signing_key(&self, request: &Request) -> Result<String, MarketError> {
        let mut change = match self.begin(request, Action::RotateSigningKey).await? {
            Begun::Fresh(change) => change,
            Begun::Done(kid) => return Ok(kid),
        };
        let key = self.new_key()?;
        store::signing_key::retire_all(change.tx(), self.clock.now()).await?;
        store::signing_key::insert(change.tx(), &key).await?;
        change.audit(request.caller.tenant, &key.kid, Value::Null).await?;
        let kid = change.finish(key.kid).await?;
        self.keyring.forget();
        Ok(kid)
    }

    /// Makes a new signing key without a caller, for renewal by time and for the command line.
    pub async fn replace_signing_key(&self) -> Result<String, MarketError> {
        let key = self.new_key()?;
        let mut tx = self.db.begin(Viewer::Installation).await?;
        store::signing_key::retire_all(&mut tx, self.clock.now()).await?;
        store::signing_key::insert(&mut tx, &key).await?;
        tx.commit().await?;
        self.keyring.forget();
        Ok(key.kid)
    }

    /// Checks a password, and the code where the account has a second factor.
    pub(crate) async fn prove_person(
        &self,
        username: &str,
        password: &str,
        code: Option<&str>,
        request_id: &str,
    ) -> Result<Proven, MarketError> {
        let (account, password_hash) = self.prove_password(username, password, request_id).await?;
        let now = self.clock.now();
        let session = self.session_of(&account.user, now);
        let mut tx = self.db.begin(Viewer::Installation).await?;
        store::account::hold(&mut tx, account.user.id).await?;
        let Some(account) = store::account::find_sign_in_by_id(&mut tx, account.user.id).await?
        else {
            return Err(MarketError::Unauthenticated);
        };
        if let Some(wait) = account.locked_for(now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        if !self.may_sign_in(&mut tx, &account.user).await? {
            return Err(MarketError::Unauthenticated);
        }
        let factor = store::second_factor::find(&mut tx, account.user.id).await?;
        let proof = if factor.active.is_some() {
            let Some(code) = code else {
                return Ok(Proven::NeedsCode { user: account.user.id, password_hash });
            };
            match self.take_code(&mut tx, &account.user, code, now).await? {
                None => {
                    self.refuse_code(tx, &session, request_id).await?;
                    return Err(MarketError::Unauthenticated);
                }
                proof => proof,
            }
        } else {
            None
        };
        if account.failed_attempts > 0 {
            store::account::note_attempts(&mut tx, account.user.id, 0, None).await?;
        }
        tx.commit().await?;
        Ok(Proven::Wholly(session, proof))
    }

    /// The account with this address and password, and the password's hash.
    async fn prove_password(
        &self,
        username: &str,
        password: &str,
        request_id: &str,
    ) -> Result<(store::account::SignIn, String), MarketError> {
        let found = match Email::parse(username) {
            Ok(email) => {
                let mut tx = self.db.read(Viewer::Installation).await?;
                store::account::find_sign_in(&mut tx, &email).await?
            }
            Err(_) => None,
        };
        let now = self.clock.now();
        if let Some(wait) = found.as_ref().and_then(|account| account.locked_for(now)) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let hash = found.as_ref().and_then(|account| account.password_hash.clone());
        let matches = self.password_matches(password, hash.clone()).await?;
        let Some(account) = found else { return Err(MarketError::Unauthenticated) };
        match hash.filter(|_| matches) {
            Some(hash) => Ok((account, hash)),
            None => {
                let session = self.session_of(&account.user, now);
                let tx = self.db.begin(Viewer::Installation).await?;
                self.refuse_code(tx, &session, request_id).await?;
                Err(MarketError::Unauthenticated)
            }
        }
    }

    /// Takes note of a wrong password or code, the how-many-eth since the last right one.
    pub(crate) async fn note_failure_in(
        &self,
        mut tx: Tx,
        session: &Session,
        failed: i64,
        request_id: &str,
    ) -> Result<(), MarketError> {
        let over = failed - LOCK_AFTER;
        let locked_until = (over >= 0).then(|| {
            let seconds = (30_i64 << over.min(5)).min(LOCK_MAX_SECONDS);
            self.clock.now() + SignedDuration::from_secs(seconds)
        });
        store::account::note_attempts(&mut tx, session.user, failed, locked_until).await?;
        let entry = self.sign_in_entry(session, AuditOutcome::Denied, request_id);
        store::audit::insert(&mut tx, &entry).await?;
        // Only the first of a series is news, or whoever guesses would decide how often a person is written to.
        if failed == LOCK_AFTER {
            let (tenant, user) = (session.tenant, session.user.to_string());
            let now = self.clock.now();
            store::event::announce(&mut tx, tenant, EventKind::UserLocked, &user, now);
        }
        tx.commit().await?;
        Ok(())
    }

    async fn prove_program(
        &self,
        client_id: &str,
        client_secret: &str,
        request_id: &str,
    ) -> Result<Proven, MarketError> {
        let Ok(id) = CredentialId::parse(client_id) else {
            return Err(MarketError::Unauthenticated);
        };
        let mut tx = self.db.read(Viewer::Installation).await?;
        let found = store::credential::find_secret(&mut tx, id).await?;
        drop(tx);
        let Some((credential, digest)) = found else { return Err(MarketError::Unauthenticated) };
        let CredentialKind::OauthClient { roles } = credential.kind else {
            return Err(MarketError::Unauthenticated);
        };
        let now = self.clock.now();
        let session = Session {
            id: self.ids.next(),
            tenant: credential.tenant,
            user: credential.created_by,
            application: Some((credential.application, credential.id)),
            roles,
            created_at: now,
            expires_at: now + SignedDuration::from_secs(i64::from(self.settings.token_seconds)),
            ended_at: None,
        };
        if !self.secrets.matches(client_secret, digest) || !credential.is_accepted(now) {
            let mut tx = self.db.begin(Viewer::Installation).await?;
            let entry = self.sign_in_entry(&session, AuditOutcome::Denied, request_id);
            store::audit::insert(&mut tx, &entry).await?;
            tx.commit().await?;
            return Err(MarketError::Unauthenticated);
        }
        let mut tx = self.db.begin(Viewer::Installation).await?;
        store::credential::note_use(&mut tx, credential.id, now).await?;
        tx.commit().await?;
        Ok(Proven::Wholly(session, None))
    }

    pub(crate) fn session_of(&self, user: &User, now: Timestamp) -> Session {
        Session {
            id: self.ids.next(),
            tenant: user.tenant,
            user: user.id,
            application: None,
            roles: user.roles,
            created_at: now,
            expires_at: now + SignedDuration::from_secs(i64::from(self.settings.token_seconds)),
            ended_at: None,
        }
    }

    pub(crate) fn sign_in_entry(
        &self,
        session: &Session,
        outcome: AuditOutcome,
        request_id: &str,
    ) -> AuditEntry {
        AuditEntry {
            id: self.ids.next(),
            tenant: session.tenant,
            at: self.clock.now(),
            actor: session.application.map_or_else(
                || session.user.to_string(),
                |(application, _)| application.to_string(),
            ),
            actor_tenant: Some(session.tenant),
            action: Action::IssueToken.as_str().to_owned(),
            target: session.id.to_string(),
            outcome,
            request_id: request_id.to_owned(),
            details: json!({ "roles": session.roles }),
        }
    }

    async fn sign(&self, session: &Session) -> Result<String, MarketError> {
        let keys = self.keys().await?;
        let signing = keys.iter().find_map(|key| Some((key.kid.clone(), key.encoding.as_ref()?)));
        let Some((kid, encoding)) = signing else {
            return Err(MarketError::Internal("there is no signing key", None));
        };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: session.application.map_or_else(
                || session.user.to_string(),
                |(application, _)| application.to_string(),
            ),
            sid: session.id,
            tenant: session.tenant,
            scope: session.roles.to_string(),
            iat: session.created_at.as_second(),
            exp: session.expires_at.as_second(),
        };
        let header = Header { kid: Some(kid), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, encoding)
            .map_err(|error| MarketError::internal("a token could not be signed")(error.into()))
    }

    async fn keys(&self) -> Result<Arc<Vec<LoadedKey>>, MarketError> {
        match self.keyring.get() {
            Some(keys) => Ok(keys),
            None => self.load_keys().await,
        }
    }

    /// Reads the keys, and makes the first one of an installation.
    async fn load_keys(&self) -> Result<Arc<Vec<LoadedKey>>, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        let mut stored = store::signing_key::list(&mut tx).await?;
        drop(tx);
        if !stored.iter().any(|key| key.retired_at.is_none()) {
            let mut tx = self.db.begin(Viewer::Installation).await?;
            let key = self.new_key()?;
            store::signing_key::insert(&mut tx, &key).await?;
            tx.commit().await?;
            stored.insert(0, key);
        }
        let keys = stored.iter().map(|key| self.load_key(key)).collect::<Result<Vec<_>, _>>()?;
        let keys = Arc::new(keys);
        self.keyring.set(Arc::clone(&keys));
        Ok(keys)
    }

    fn new_key(&self) -> Result<SigningKey, MarketError> {
        let (private, public_key) = secrets::signing_pair()?;
        Ok(SigningKey {
            kid: secrets::sha256_hex(&[&public_key]).get(..16).unwrap_or_default().to_owned(),
            sealed_key: self.secrets.seal(&private)?,
            public_key,
            created_at: self.clock.now(),
            retired_at: None,
        })
    }

    fn load_key(&self, key: &SigningKey) -> Result<LoadedKey, MarketError> {
        let coordinates = match key.public_key.split_first() {
            Some((4, rest)) if rest.len() == 64 => rest.split_at(32),
            _ => return Err(MarketError::Internal("a signing key is damaged", None)),
        };
        let jwk = Jwk {
            kid: key.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(coordinates.0),
            y: URL_SAFE_NO_PAD.encode(coordinates.1),
        };
        let decoding = DecodingKey::from_ec_components(&jwk.x, &jwk.y)
            .map_err(|error| MarketError::internal("a signing key is damaged")(error.into()))?;
        let encoding = match key.retired_at {
            None => Some(EncodingKey::from_ec_der(&self.secrets.open(&key.sealed_key)?)),
            Some(_) => None,
        };
        Ok(LoadedKey { kid: key.kid.clone(), jwk, decoding, encoding })
    }
}
