//! The control API as a client: signs in, waits when it is told to, and says what was refused.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::RwLock;
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

/// A signed-in client of one installation.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    sign_in: SignIn,
    token: RwLock<Zeroizing<String>>,
}

/// How a client signs in.
#[derive(Clone)]
pub enum SignIn {
    /// As a person.
    Password {
        /// The e-mail address.
        username: String,
        /// The password.
        password: Zeroizing<String>,
        /// A code, for accounts with a second factor.
        code: Option<Zeroizing<String>>,
    },
    /// As a program, with an OAuth client.
    ClientCredentials {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Zeroizing<String>,
    },
    /// With a token that was issued already.
    Token(Zeroizing<String>),
}

/// Why a request was not answered as it should have been.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer came.
    #[error("{url} does not answer")]
    Unreachable {
        /// Who was asked.
        url: Url,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The answer says what is wrong.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is none of this API.
    #[error("{url} does not answer as a Caduceus installation does: {what}")]
    Foreign {
        /// Who was asked.
        url: Url,
        /// What came instead.
        what: String,
    },
    /// The answer has something in it that this program does not know.
    #[error(
        "this program does not understand what the installation says of {what}; use that of the same version"
    )]
    Unknown {
        /// What it is.
        what: String,
        /// Why it is not understood.
        #[source]
        source: serde_json::Error,
    },
    /// The address cannot be asked.
    #[error("{0} is not the address of an installation; it begins with https:// or http://")]
    Address(String),
    /// Certificates that should be trusted cannot be read.
    #[error("the trusted certificates cannot be used")]
    Certificates(#[source] reqwest::Error),
}

impl ClientError {
    /// Whether the password was right and a code is asked for as well.
    pub fn asks_for_code(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.code == "second_factor_required")
    }
}

/// An error of the control API (RFC 9457).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable code of the problem.
    pub code: String,
    /// What happened.
    #[serde(default)]
    pub detail: String,
    /// Fields that are wrong.
    #[serde(default)]
    pub errors: Vec<FieldProblem>,
    /// Identifier of the request, for asking about it.
    #[serde(default)]
    pub request_id: String,
}

/// A field that is wrong.
#[derive(Debug, Clone, Deserialize)]
pub struct FieldProblem {
    /// Its path.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if self.detail.is_empty() { &self.code } else { &self.detail })?;
        for (index, error) in self.errors.iter().enumerate() {
            let start = if index == 0 { ": " } else { "; " };
            write!(out, "{start}{} {}", error.field, error.message)?;
        }
        write!(out, " ({}, request {})", self.code, self.request_id)
    }
}

/// A page of a list.
#[derive(Deserialize)]
struct Listing<T> {
    items: Vec<T>,
    #[serde(default)]
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    total_pages: u64,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that an installation is waited for when it says that it is busy.
const WAIT_MAX: Duration = Duration::from_secs(30);
const TRIES: u32 = 6;
/// Items in a page, the most that the API gives.
const PAGE: u32 = 200;

impl Client {
    /// Signs in. `authorities` are trusted beside the public ones, in PEM.
    ///
    /// # Errors
    ///
    /// When the installation does not answer or refuses.
    pub async fn sign_in(
        server: &str,
        sign_in: SignIn,
        authorities: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let bad = || ClientError::Address(server.to_owned());
        let mut base = Url::parse(server).map_err(|_not_a_url| bad())?;
        if !matches!(base.scheme(), "http" | "https") || !base.username().is_empty() {
            return Err(bad());
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = format!("{}/api/v1/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("caduceus/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = authorities {
            let certificates =
                reqwest::Certificate::from_pem_bundle(pem).map_err(ClientError::Certificates)?;
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http.build().map_err(ClientError::Certificates)?;
        let client = Self { http, base, sign_in, token: RwLock::new(Zeroizing::default()) };
        client.renew("").await?;
        Ok(client)
    }

    /// Reads one thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (response, url) = self.send(Method::GET, path, |request| request).await?;
        parse(response, &url).await
    }

    /// Reads a text as it is.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let (response, url) = self.send(Method::GET, path, |request| request).await?;
        response.text().await.map_err(|source| ClientError::Unreachable { url, source })
    }

    /// Reads a list that comes whole.
    pub(crate) async fn list_whole<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Vec<T>, ClientError> {
        Ok(self.get::<Listing<T>>(path).await?.items)
    }

    /// Reads all pages of a list; `None` when the caller may not.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<Vec<T>>, ClientError> {
        let mut items = Vec::new();
        let (mut page, mut pages) = (1, 1);
        while page <= pages {
            let mark = if path.contains('?') { '&' } else { '?' };
            let address = format!("{path}{mark}limit={PAGE}&page={page}");
            let listing: Listing<T> = match self.get(&address).await {
                Err(ClientError::Refused(problem)) if problem.status == 403 => return Ok(None),
                listing => listing?,
            };
            items.extend(listing.items);
            pages = listing.pagination.map_or(1, |pagination| pagination.total_pages);
            page += 1;
        }
        Ok(Some(items))
    }

    /// Changes something. A change that was taken already is not taken twice, however often it has to be sent.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        revision: Option<i64>,
    ) -> Result<Value, ClientError> {
        let key = Uuid::new_v4().to_string();
        let (response, url) = self
            .send(method, path, |mut request| {
                request = request.header("idempotency-key", &key);
                if let Some(revision) = revision {
                    request = request.header(header::IF_MATCH, format!("\"{revision}\""));
                }
                match body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        parse(response, &url).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<(Response, Url), ClientError> {
        let url = self
            .base
            .join(path.trim_start_matches('/'))
            .map_err(|_not_a_path| ClientError::Address(path.to_owned()))?;
        let mut tries = 0;
        let mut has_renewed = false;
        loop {
            tries += 1;
            let token = self.token.read().await.clone();
            let request = prepare(self.http.request(method.clone(), url.clone()));
            let answer = request.bearer_auth(token.as_str()).send().await;
            let pause = match answer {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !has_renewed => {
                    has_renewed = true;
                    self.renew(&token).await?;
                    continue;
                }
                Ok(response) => match waiting_time(&response).filter(|_| tries < TRIES) {
                    Some(pause) => pause,
                    None => return Ok((refused(response, &url).await?, url)),
                },
                Err(source) if tries < TRIES && !source.is_timeout() && !source.is_builder() => {
                    Duration::from_millis(200 << tries)
                }
                Err(source) => return Err(ClientError::Unreachable { url, source }),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Gets a new token, unless somebody else did since `known`.
    async fn renew(&self, known: &str) -> Result<(), ClientError> {
        let mut token = self.token.write().await;
        if token.as_str() != known {
            return Ok(());
        }
        let form: Vec<(&str, &str)> = match &self.sign_in {
            SignIn::Token(given) => {
                token.clone_from(given);
                return Ok(());
            }
            SignIn::Password { username, password, code } => {
                let mut form = vec![
                    ("grant_type", "password"),
                    ("username", username),
                    ("password", password),
                ];
                form.extend(code.as_ref().map(|code| ("code", code.as_str())));
                form
            }
            SignIn::ClientCredentials { id, secret } => {
                vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", id),
                    ("client_secret", secret),
                ]
            }
        };
        let url = self.base.join("auth/token").expect("a plain path can be joined");
        let response = self.http.post(url.clone()).form(&form).send().await;
        let response =
            response.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
        let issued: Token = parse(refused(response, &url).await?, &url).await?;
        *token = Zeroizing::new(issued.access_token);
        Ok(())
    }
}

/// How long to wait before asking again, when the answer says so.
fn waiting_time(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    {
        return None;
    }
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(Duration::from_millis(100), WAIT_MAX))
}

async fn refused(response: Response, url: &Url) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
        Err(_not_a_problem) => {
            Err(ClientError::Foreign { url: url.clone(), what: format!("status {status}") })
        }
    }
}

async fn parse<T: DeserializeOwned>(response: Response, url: &Url) -> Result<T, ClientError> {
    let bytes = response
        .bytes()
        .await
        .map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Foreign {
        url: url.clone(),
        what: format!("its answer could not be read: {error}"),
    })
}
