//! An HTTP client whose answers know what the contract asks of them.

use std::{
    future::{Future, IntoFuture},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, RwLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;

/// A client of one listener of an installation, signed in or not. It follows the installation through restarts.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    address: Arc<RwLock<SocketAddr>>,
    prefix: &'static str,
    headers: HeaderMap,
}

/// A request that is sent when it is awaited.
#[derive(Debug)]
pub struct Call {
    request: reqwest::RequestBuilder,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    pub(crate) fn new(address: Arc<RwLock<SocketAddr>>, prefix: &'static str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            .build()
            .unwrap();
        Self { http, address, prefix, headers: HeaderMap::new() }
    }

    /// A client of whatever listens at an address.
    pub fn at(address: SocketAddr) -> Self {
        Self::new(Arc::new(RwLock::new(address)), "")
    }

    /// The same client with another bearer token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same client with one more header on every request.
    #[must_use]
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        let value = HeaderValue::try_from(value).unwrap();
        client.headers.insert(HeaderName::from_static(name), value);
        client
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        *self.address.read().unwrap()
    }

    /// The bearer token that it signs in with.
    pub fn token(&self) -> String {
        let value = self.headers.get(header::AUTHORIZATION).unwrap().to_str().unwrap();
        value.trim_start_matches("Bearer ").to_owned()
    }

    /// A request without a body.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let url = format!("http://{}{}{path}", self.address(), self.prefix);
        Call { request: self.http.request(method, url).headers(self.headers.clone()) }
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// `POST` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Call {
        self.call(Method::POST, path).json(body)
    }

    /// `PUT` with a JSON body.
    pub fn put(&self, path: &str, body: &Value) -> Call {
        self.call(Method::PUT, path).json(body)
    }

    /// `PATCH` with a JSON Merge Patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Call {
        self.call(Method::PATCH, path)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string())
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// Asks the token endpoint with these form fields.
    pub async fn ask_token(&self, fields: &[(&str, &str)]) -> Answer {
        self.call(Method::POST, "/auth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(serde_urlencoded::to_string(fields).unwrap())
            .await
    }

    /// Signs in with e-mail address and password.
    pub async fn sign_in(&self, email: &str, password: &str) -> Self {
        let fields = [("grant_type", "password"), ("username", email), ("password", password)];
        let answer = self.ask_token(&fields).await.expect_status(200).json();
        self.with_token(answer["access_token"].as_str().unwrap())
    }
}

impl Call {
    /// Adds a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value) }
    }

    /// Sets the body; its type is a header of its own.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { request: self.request.body(body.into()) }
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends it; fails when no complete answer comes.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.try_send().await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
        })
    }
}

impl Answer {
    /// Fails when the status is another one.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        self.expect_status(200).json()
    }

    /// The body of a 201.
    #[track_caller]
    pub fn created(self) -> Value {
        self.expect_status(201).json()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The items of a list.
    #[track_caller]
    pub fn items(self) -> Vec<Value> {
        self.ok()["items"].as_array().unwrap().clone()
    }

    /// How many items all pages of a list have.
    #[track_caller]
    pub fn total(self) -> u64 {
        self.ok()["pagination"]["totalItems"].as_u64().unwrap()
    }

    /// A header, when it is there once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is there twice");
        first
    }

    /// The entity tag.
    #[track_caller]
    pub fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("no ETag: {}", self.text())).to_owned()
    }

    /// Fails unless the answer is this problem with all members of the contract; gives the document.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) -> Value {
        let text = self.text();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{text}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{text}");
        assert_eq!(problem["status"], status, "{text}");
        for member in ["type", "title", "detail", "instance", "requestId", "timestamp"] {
            let value = problem[member].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "no {member} in {text}");
        }
        assert_eq!(self.header("x-request-id"), problem["requestId"].as_str(), "{text}");
        let timestamp: Result<jiff::Timestamp, _> =
            problem["timestamp"].as_str().unwrap_or_default().parse();
        assert!(timestamp.is_ok(), "{text}");
        problem
    }
}
