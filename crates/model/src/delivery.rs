//! How the calls of a deployment are carried between clients and targets, beside where they go.

use serde::{Deserialize, Serialize};

/// How the calls of a deployment are carried between clients and targets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// Which pages of other origins may call it from a browser; none when absent.
    pub cors: Option<Cors>,
    /// Whether answers are compressed for clients that accept it.
    pub compress: bool,
    /// What may pass beside plain calls.
    pub protocols: Protocols,
}

/// Which pages of other origins may call from a browser (Fetch standard, CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Origins such as `https://app.example.org`; `*` stands for all.
    pub origins: Vec<String>,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// Names of header fields that pages may send; `*` stands for all that they ask for.
    pub headers: Vec<String>,
    /// Names of header fields of answers that pages may read.
    pub exposed_headers: Vec<String>,
    /// Whether browsers may send cookies and client certificates along.
    pub credentials: bool,
    /// How long browsers may remember this, in seconds.
    pub max_age_seconds: u32,
}

/// What may pass beside plain calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Protocols {
    /// WebSocket (RFC 6455).
    pub web_socket: bool,
    /// Server-sent events: answers that go on for as long as something comes.
    pub events: bool,
    /// gRPC, unary and streaming.
    pub grpc: bool,
    /// Milliseconds after which one of these ends when nothing passes.
    pub idle_ms: u32,
}

/// Why rules for pages of other origins were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCors {
    /// An origin is not one.
    #[error("{0} is not an origin such as https://app.example.org, nor *")]
    Origin(String),
    /// A method or name of a header field is not a token.
    #[error("{0} is neither a method nor the name of a header field")]
    Token(String),
    /// Any page could act in the name of whoever looks at it.
    #[error("credentials cannot be allowed to all origins; name them")]
    CredentialsForAll,
    /// There are too many entries.
    #[error("at most {} entries are allowed", Cors::ENTRIES_MAX)]
    TooMany,
}

impl Default for Protocols {
    fn default() -> Self {
        Self { web_socket: false, events: false, grpc: false, idle_ms: 300_000 }
    }
}

impl Cors {
    /// The most origins, methods or names in a list.
    pub const ENTRIES_MAX: usize = 100;

    /// Checks that browsers would understand the rules, and that they are not dangerous.
    pub fn check(&self) -> Result<(), InvalidCors> {
        let lists = [&self.origins, &self.methods, &self.headers, &self.exposed_headers];
        if lists.iter().any(|list| list.len() > Self::ENTRIES_MAX) {
            return Err(InvalidCors::TooMany);
        }
        if let Some(bad) = self.origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
            return Err(InvalidCors::Origin(bad.clone()));
        }
        let mut tokens = self.methods.iter().chain(&self.headers).chain(&self.exposed_headers);
        if let Some(bad) = tokens.find(|token| !is_token(token)) {
            return Err(InvalidCors::Token(bad.clone()));
        }
        if self.credentials && self.origins.iter().any(|origin| origin == "*") {
            return Err(InvalidCors::CredentialsForAll);
        }
        Ok(())
    }
}

/// Whether `text` is what browsers send as `Origin`: scheme, host and port when it is not the usual one.
fn is_origin(text: &str) -> bool {
    // A star within an origin would look like a pattern, and match nothing.
    !text.contains('*')
        && url::Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
        })
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origin: &str) -> Cors {
        Cors {
            origins: vec![origin.to_owned()],
            methods: vec!["GET".to_owned()],
            headers: vec!["x-api-key".to_owned()],
            exposed_headers: Vec::new(),
            credentials: false,
            max_age_seconds: 600,
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for good in ["*", "https://app.example.org", "http://localhost:3000"] {
            assert_eq!(cors(good).check(), Ok(()), "{good}");
        }
        for bad in [
            "",
            "app.example.org",
            "https://app.example.org/",
            "https://app.example.org:443",
            "https://APP.example.org",
            "https://*.example.org",
            "null",
            "file:///x",
        ] {
            assert_eq!(cors(bad).check(), Err(InvalidCors::Origin(bad.to_owned())));
        }
    }

    #[test]
    fn credentials_need_named_origins() {
        let all = Cors { credentials: true, ..cors("*") };
        assert_eq!(all.check(), Err(InvalidCors::CredentialsForAll));
        let named = Cors { credentials: true, ..cors("https://app.example.org") };
        assert_eq!(named.check(), Ok(()));
        let odd = Cors { headers: vec!["a b".to_owned()], ..cors("*") };
        assert_eq!(odd.check(), Err(InvalidCors::Token("a b".to_owned())));
    }
}
