//! Forms that a browser sends.

use axum::extract::Request;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};

use crate::failure::Failure;

/// The largest form of somebody who is signed in, in bytes: a specification with its escapes fits.
pub(crate) const LARGEST: usize = 32 << 20;
/// The largest form of anybody else, which may hold one that was kept while a session ended.
pub(crate) const LARGEST_OF_STRANGERS: usize = 1 << 20;

/// The fields of a form, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// Reads the form of a request that came from one of our own pages; one beyond `largest` bytes is refused.
    pub(crate) async fn read(request: Request, largest: usize) -> Result<Self, Failure> {
        if !is_own(request.headers()) {
            return Err(Failure::Foreign);
        }
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            return Err(Failure::Unreadable);
        }
        let body = Limited::new(request.into_body(), largest).collect().await;
        let body = body.map_err(|_too_large_or_broken| Failure::Unreadable)?.to_bytes();
        let fields =
            serde_urlencoded::from_bytes(&body).map_err(|_malformed| Failure::Unreadable)?;
        Ok(Self { fields })
    }

    /// Fields that were kept while somebody signed in again.
    pub(crate) fn parse(text: &str) -> Self {
        Self { fields: serde_urlencoded::from_str(text).unwrap_or_default() }
    }

    /// What was typed into a field, without spaces around it; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// What was typed into a field.
    pub(crate) fn raw(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// What was typed into a field, unless nothing was.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// All that somebody typed, to be kept while they sign in again: no passwords, and nothing that only we put there.
    pub(crate) fn kept(&self) -> Vec<(String, String)> {
        let own = ["csrf", "once"];
        let keeps = |name: &str| !own.contains(&name) && !name.contains("password");
        self.fields.iter().filter(|(name, _)| keeps(name)).cloned().collect()
    }

    /// The same as a text.
    pub(crate) fn encoded(fields: &[(String, String)]) -> String {
        serde_urlencoded::to_string(fields).unwrap_or_default()
    }

    /// What makes this submission the same as another one.
    pub(crate) fn fingerprint(&self, path: &str) -> String {
        format!("POST {path}\n{}", Self::encoded(&self.fields))
    }
}

/// Whether a request comes from one of our own pages, as far as the browser says (Fetch Metadata; RFC 6454).
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)),
        // A program that says nothing of where it comes from is not a browser that somebody was lured with; the token of the
        // form decides.
        (None, _) => true,
        (Some(_), None) => false,
    }
}
