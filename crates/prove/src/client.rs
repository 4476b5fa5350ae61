//! Asking, and what was answered.

use http::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Why nothing could be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The installation does not answer.
    #[error("the installation does not answer")]
    Unreachable(#[from] reqwest::Error),
    /// Something that the proof begins with was not answered as it should have been.
    #[error("{what} was answered with {status}: {body}")]
    Unexpected {
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// An attempt would mean nothing: not even those to whom the thing belongs are let through.
    #[error(
        "{operation} is refused to its own people with {status}, so that trying it proves nothing: {body}"
    )]
    Vain {
        /// The operation.
        operation: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// Something that was waited for did not come.
    #[error("{0} did not come")]
    Missing(&'static str),
}

/// A client of one listener, with or without a token.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(base: &str) -> Result<Self, ProveError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: None })
    }

    /// Signs in; everything that follows is asked with the token.
    pub(crate) async fn sign_in(&self, email: &str) -> Result<Self, ProveError> {
        let url = format!("{}/api/v1/auth/token", self.base);
        let fields =
            [("grant_type", "password"), ("username", email), ("password", crate::PASSWORD)];
        let answer = Answer::read(self.http.post(url).form(&fields).send().await?).await?;
        let token = answer.expect("signing in", 200)?;
        let token = token["access_token"].as_str().map(ToOwned::to_owned);
        Ok(Self { token, ..self.clone() })
    }

    /// Asks the control API.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ProveError> {
        let url = format!("{}/api/v1{path}", self.base);
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::read(request.send().await?).await
    }

    /// Asks the gateway, perhaps with a key.
    pub(crate) async fn call(&self, path: &str, key: Option<&str>) -> Result<Answer, ProveError> {
        let mut request = self.http.get(format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        Answer::read(request.send().await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, ProveError> {
        self.ask(&Method::GET, path, None).await?.expect(path, 200)
    }

    /// Makes something.
    pub(crate) async fn make(&self, path: &str, body: &Value) -> Result<Value, ProveError> {
        self.ask(&Method::POST, path, Some(body)).await?.expect(path, 201)
    }

    /// Makes something, and tells its identifier.
    pub(crate) async fn id_of(&self, path: &str, body: &Value) -> Result<String, ProveError> {
        Ok(text(&self.make(path, body).await?["id"]))
    }

    /// Does something.
    pub(crate) async fn act(&self, path: &str, body: &Value) -> Result<Value, ProveError> {
        self.ask(&Method::POST, path, Some(body)).await?.expect(path, 200)
    }
}

impl Answer {
    async fn read(response: reqwest::Response) -> Result<Self, ProveError> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.text().await? })
    }

    fn expect(self, what: &str, status: u16) -> Result<Value, ProveError> {
        if self.status != status {
            let body = self.beginning();
            return Err(ProveError::Unexpected {
                what: what.to_owned(),
                status: self.status,
                body,
            });
        }
        Ok(self.json())
    }

    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_not_json| json!(self.body))
    }

    /// The first part of the body, for messages.
    pub(crate) fn beginning(&self) -> String {
        self.body.chars().take(300).collect()
    }
}

/// The text of a member; empty when it is none.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
