//! Answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// An answer of the control API.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// An answer with a JSON body.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("views have text keys and finite numbers");
        Self { status, headers: HeaderMap::new(), body: bytes.into() }
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// 200 with a JSON body.
    pub(crate) fn ok(body: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with a JSON body.
    pub(crate) fn created(body: &impl Serialize) -> Self {
        Self::json(StatusCode::CREATED, body)
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// 200 with a body of another type.
    pub(crate) fn content(media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() }
            .header(header::CONTENT_TYPE, HeaderValue::from_static(media_type))
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds the entity tag of a revision.
    pub(crate) fn revision(self, revision: i64) -> Self {
        let tag = HeaderValue::try_from(format!("\"{revision}\"")).expect("digits in quotes");
        self.header(header::ETAG, tag)
    }

    /// Adds where a new resource is found.
    pub(crate) fn location(self, path: &str) -> Self {
        match HeaderValue::try_from(format!("/api/v1{path}")) {
            Ok(value) => self.header(header::LOCATION, value),
            Err(_) => self,
        }
    }
}
