//! Deployments: where a version runs and how its calls reach it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ApiId, Delivery, DeploymentId, Limit, Resilience, TargetId, TenantId, VersionId};

/// Where a version runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Identifier.
    pub id: DeploymentId,
    /// The API.
    pub api: ApiId,
    /// The version that runs here.
    pub version: VersionId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Under which addresses it is called.
    pub route: Route,
    /// Where calls go.
    pub upstream: Upstream,
    /// Limits that hold for all its callers, beside those of their plans.
    pub limits: Vec<Limit>,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// How calls are carried between clients and targets.
    pub delivery: Delivery,
    /// Whether requests are compared with the specification.
    pub validation: Validation,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// Whether requests are compared with the specification, and what happens to those that do not fit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Validation {
    /// They are not compared.
    #[default]
    Off,
    /// They pass, and are counted and told so.
    Warn,
    /// They are refused.
    Enforce,
}

/// A word that is none of the ways of validation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("validation is off, warn or enforce")]
pub struct UnknownValidation;

impl Validation {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Validation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for Validation {
    type Err = UnknownValidation;

    fn from_str(text: &str) -> Result<Self, UnknownValidation> {
        match text {
            "off" => Ok(Self::Off),
            "warn" => Ok(Self::Warn),
            "enforce" => Ok(Self::Enforce),
            _ => Err(UnknownValidation),
        }
    }
}

/// Under which addresses a deployment is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    host: Option<String>,
    path_prefix: String,
    strip_prefix: bool,
}

/// Why a route or upstream was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeployment {
    /// The host is not a plain lower-case name.
    #[error("the host must be a lower-case DNS name without port, such as api.example.org")]
    Host,
    /// The path prefix is not a plain path.
    #[error(
        "the path prefix must begin with / and have segments of letters, digits, '-', '_', '.' and '~', \
         none of them '.' or '..'"
    )]
    PathPrefix,
}

impl Route {
    /// The longest path prefix, in bytes.
    pub const PATH_MAX: usize = 256;

    /// Checks a route. A trailing slash of the prefix is dropped, so that `/clinic/` and `/clinic` are one route.
    pub fn new(
        host: Option<&str>,
        path_prefix: &str,
        strip_prefix: bool,
    ) -> Result<Self, InvalidDeployment> {
        if host.is_some_and(|host| !is_host(host)) {
            return Err(InvalidDeployment::Host);
        }
        let trimmed = path_prefix.strip_suffix('/').unwrap_or(path_prefix);
        let segments_ok = trimmed.is_empty()
            || trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain_segment));
        if !path_prefix.starts_with('/') || path_prefix.len() > Self::PATH_MAX || !segments_ok {
            return Err(InvalidDeployment::PathPrefix);
        }
        let path_prefix = if trimmed.is_empty() { "/" } else { trimmed };
        Ok(Self {
            host: host.map(str::to_owned),
            path_prefix: path_prefix.to_owned(),
            strip_prefix,
        })
    }

    /// The host it is bound to; none means every host.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The prefix of the path, without trailing slash except for `/` itself.
    pub fn path_prefix(&self) -> &str {
        &self.path_prefix
    }

    /// Whether the prefix is taken off before forwarding.
    pub const fn strip_prefix(&self) -> bool {
        self.strip_prefix
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
}

/// The pool behind a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The replicas, at least one.
    pub targets: Vec<Target>,
    /// How a target is chosen.
    pub balance: Balance,
    /// What calls that belong together have in common, for [`Balance::ConsistentHash`].
    #[serde(default)]
    pub hash_on: Option<HashOn>,
    /// The protocol spoken to the targets.
    #[serde(default)]
    pub protocol: Protocol,
    /// How targets at `https` addresses are recognised.
    #[serde(default)]
    pub tls: UpstreamTls,
    /// How targets are watched.
    pub health_check: Option<HealthCheck>,
    /// Milliseconds that a whole call may take.
    pub timeout_ms: u32,
    /// How many times a call may be tried again on another target, when that is safe.
    pub retries: u8,
    /// How the pool stays of use while some of its targets do not.
    #[serde(default)]
    pub resilience: Resilience,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Identifier.
    pub id: TargetId,
    /// Where it answers.
    pub url: UpstreamUrl,
    /// Its share of the calls, relative to the others; 0 takes none.
    pub weight: u16,
}

/// How a target is chosen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// Of two picked by weight, the one with fewer calls in flight.
    LeastRequests,
    /// By chance and weight.
    Random,
    /// Calls that belong together go to the same target, unless that has much more than its share of the calls.
    ConsistentHash,
}

/// What calls that belong together have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// The application that calls.
    Application,
    /// The client's network address.
    Address,
    /// The value of this request header; calls without it are spread by chance.
    Header(String),
}

/// The protocol spoken to the targets.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// What the target prefers (`https`), or HTTP/1.1 (`http`).
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; at `http` addresses without asking (prior knowledge).
    Http2,
}

/// How targets at `https` addresses are recognised. Their certificates are always verified.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// Certificates (PEM) of authorities that are trusted beside the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// The name that is asked for and must stand in the certificate, instead of the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// How a target is checked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// By a `GET` request.
    #[default]
    Http,
    /// By opening a connection.
    Tcp,
}

/// How targets are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// How it is checked.
    #[serde(default)]
    pub kind: CheckKind,
    /// The path that is asked, unless only a connection is opened; a status below 400 is healthy.
    pub path: String,
    /// Milliseconds between two checks of a target.
    pub interval_ms: u32,
    /// Milliseconds until a check has failed.
    pub timeout_ms: u32,
    /// Failures in a row until a target takes no more calls.
    pub unhealthy_after: u8,
    /// Successes in a row until it takes calls again.
    pub healthy_after: u8,
}

/// The base address of a target: `http[s]://host[:port][/path]`, no credentials, query or fragment.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamUrl {
    secure: bool,
    host: String,
    port: u16,
    base_path: String,
}

/// Why an address of a target was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamUrlError {
    /// Not an absolute URL.
    #[error("must be an absolute URL such as https://10.0.0.5:8443")]
    Form,
    /// Another scheme.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// Credentials, a query or a fragment are in it.
    #[error("must not contain credentials, a query or a fragment")]
    Extra,
}

impl UpstreamUrl {
    /// Reads the address of a target.
    pub fn parse(text: &str) -> Result<Self, UpstreamUrlError> {
        let Ok(url) = url::Url::parse(text) else { return Err(UpstreamUrlError::Form) };
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(UpstreamUrlError::Scheme),
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err(UpstreamUrlError::Extra);
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(UpstreamUrlError::Form);
        };
        Ok(Self {
            secure,
            host: host.to_owned(),
            port: url.port().unwrap_or(default_port(secure)),
            base_path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Whether it is reached by TLS.
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path before the one that is called, without trailing slash; may be empty.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Host and port as they stand in a `Host` header.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.secure) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl TryFrom<String> for UpstreamUrl {
    type Error = UpstreamUrlError;

    fn try_from(text: String) -> Result<Self, UpstreamUrlError> {
        Self::parse(&text)
    }
}

impl From<UpstreamUrl> for String {
    fn from(url: UpstreamUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_plain_prefix() {
        assert_eq!(Route::new(None, "/clinic/", true).unwrap().path_prefix(), "/clinic");
        assert_eq!(Route::new(None, "/", false).unwrap().path_prefix(), "/");
        for bad in ["", "clinic", "//", "/a//b", "/../a", "/a/./b", "/a%2fb", "/a?b", "/ü", "/a;b"]
        {
            assert!(Route::new(None, bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_lower_case_name() {
        assert!(Route::new(Some("api.example.org"), "/", false).is_ok());
        for bad in ["", "API.example.org", "a:80", "a..b", "-a.b", "*"] {
            assert!(Route::new(Some(bad), "/", false).is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_bare_http_addresses() {
        let url = UpstreamUrl::parse("http://Clinic.example:8080/v1/").unwrap();
        assert_eq!((url.host(), url.port(), url.base_path()), ("clinic.example", 8080, "/v1"));
        assert_eq!(UpstreamUrl::parse("http://[::1]:9/").unwrap().to_string(), "http://[::1]:9");
        for (text, authority, port) in [
            ("https://clinic.example/", "clinic.example", 443),
            ("https://clinic.example:80/", "clinic.example:80", 80),
            ("http://clinic.example:443/", "clinic.example:443", 443),
        ] {
            let url = UpstreamUrl::parse(text).unwrap();
            assert_eq!((url.authority().as_str(), url.port()), (authority, port));
            assert_eq!(UpstreamUrl::parse(&url.to_string()), Ok(url));
        }
        for bad in [
            "",
            "clinic",
            "ftp://a/",
            "file:///etc/passwd",
            "http://u:p@a/",
            "http://a/?q",
            "http://a/#f",
        ] {
            assert!(UpstreamUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
