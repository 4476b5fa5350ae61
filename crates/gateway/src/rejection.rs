//! Why a call was answered by the gateway itself, and the one place where that becomes HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, LINK, RETRY_AFTER, WWW_AUTHENTICATE},
};
use jiff::Timestamp;
use model::Fault;
use serde::Serialize;
use spec::{Findings, Malformed};

use crate::connection::Offence;

/// Why a call was answered by the gateway itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rejection {
    Framing(Offence),
    HeadTimeout,
    AmbiguousPath,
    AuthorityMismatch,
    UpgradeRefused,
    OriginRefused,
    RouteNotFound,
    AmbiguousCredentials,
    CredentialMissing,
    CredentialInvalid,
    TooManyFailures { retry_after: Duration },
    SubscriptionRequired,
    SubscriptionExpired,
    VersionRetired { successor: Option<HeaderValue> },
    RateLimited { limit: Box<str>, retry_after: Duration },
    QuotaExceeded { retry_after: Duration },
    TooManyConcurrent { limit: Box<str> },
    BodyTooLarge { max_bytes: u64 },
    MediaTypeNotSupported,
    NotAcceptable,
    BodyIncomplete,
    OperationNotFound,
    MethodNotAllowed { allow: HeaderValue },
    ContentEncodingNotSupported,
    MalformedJson { malformed: Malformed },
    ValidationFailed { findings: Findings },
    NoHealthyTarget { retry_after: Duration },
    CircuitOpen { retry_after: Duration },
    UpstreamOverloaded,
    UpstreamCertificate,
    UpstreamUnreachable,
    UpstreamFailed,
    UpstreamTimeout,
    NoConfiguration,
}

/// The parts of a problem (RFC 9457) that depend on the kind of rejection alone.
struct Kind {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    fault: Fault,
}

/// A problem as it is written (RFC 9457).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'call> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'call str>,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError<'call>>,
    request_id: &'call str,
    timestamp: String,
}

/// One thing that does not fit.
#[derive(Serialize)]
struct FieldError<'call> {
    field: &'call str,
    message: &'call str,
}

/// What the answer says about the call it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'call> {
    pub(crate) path: Option<&'call str>,
    pub(crate) request_id: &'call HeaderValue,
    pub(crate) at: Timestamp,
}

impl Rejection {
    pub(crate) fn fault(&self) -> Fault {
        self.kind().fault
    }

    /// The answer: status, its own headers, and a problem document.
    pub(crate) fn answer(&self, subject: Subject<'_>) -> (StatusCode, HeaderMap, Bytes) {
        let kind = self.kind();
        let problem = Problem {
            kind: format!("urn:caduceus:problem:{}", kind.code),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: self.detail(),
            instance: subject.path,
            code: kind.code,
            errors: self.errors(),
            request_id: subject.request_id.to_str().unwrap_or_default(),
            timestamp: format!("{:.3}", subject.at),
        };
        let body = serde_json::to_vec(&problem).expect("a struct of texts can be written as JSON");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.insert_headers(&mut headers);
        (kind.status, headers, Bytes::from(body))
    }

    /// The answer to a call by gRPC: trailers alone, with the status in them (gRPC over HTTP/2, Responses).
    pub(crate) fn answer_to_grpc(&self) -> (StatusCode, HeaderMap, Bytes) {
        let code = match self.kind().status.as_u16() {
            400 | 415 | 422 => "3",
            401 => "16",
            403 => "7",
            404 | 410 => "12",
            413 | 429 => "8",
            504 => "4",
            _ => "14",
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(code));
        let message = HeaderValue::from_str(&self.detail().replace('%', "%25"));
        headers.extend(message.map(|message| (HeaderName::from_static("grpc-message"), message)));
        self.insert_headers(&mut headers);
        (StatusCode::OK, headers, Bytes::new())
    }

    fn errors(&self) -> Vec<FieldError<'_>> {
        let Self::ValidationFailed { findings } = self else { return Vec::new() };
        let mut errors = Vec::with_capacity(findings.as_slice().len());
        for finding in findings.as_slice() {
            errors.push(FieldError { field: &finding.field, message: &finding.message });
        }
        errors
    }

    fn insert_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::TooManyFailures { retry_after }
            | Self::RateLimited { retry_after, .. }
            | Self::QuotaExceeded { retry_after }
            | Self::NoHealthyTarget { retry_after }
            | Self::CircuitOpen { retry_after } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(*retry_after).max(1)));
            }
            Self::TooManyConcurrent { .. } | Self::UpstreamOverloaded | Self::NoConfiguration => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::CredentialMissing | Self::CredentialInvalid => {
                let challenge = HeaderValue::from_static("Bearer realm=\"caduceus\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            Self::VersionRetired { successor: Some(successor) } => {
                headers.insert(LINK, successor.clone());
            }
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, allow.clone());
            }
            Self::ContentEncodingNotSupported => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            Self::Framing(Offence::Method) => {
                let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
                headers.insert(ALLOW, HeaderValue::from_static(methods));
            }
            _ => {}
        }
    }

    /// Whether the connection cannot be used any further: what follows on it might not be a request.
    pub(crate) const fn closes(&self) -> bool {
        matches!(
            self,
            Self::Framing(_)
                | Self::HeadTimeout
                | Self::AuthorityMismatch
                | Self::BodyTooLarge { .. }
                | Self::BodyIncomplete
        )
    }

    fn detail(&self) -> String {
        let detail = match self {
            Self::Framing(offence) => offence.detail(),
            Self::HeadTimeout => "The head of the request did not arrive in time.",
            Self::AmbiguousPath => {
                "The path holds dot segments, empty segments, encoded slashes or other ambiguous characters."
            }
            Self::AuthorityMismatch => {
                "The request target names another host than the Host header."
            }
            Self::UpgradeRefused => "Switching to another protocol is not supported.",
            Self::OriginRefused => "Pages of this origin may not call this API.",
            Self::RouteNotFound => "Nothing is offered at this address.",
            Self::AmbiguousCredentials => "More than one credential was presented.",
            Self::CredentialMissing => {
                "Present an API key in the X-API-Key header or as a bearer token."
            }
            Self::CredentialInvalid => "The credential is unknown, revoked or expired.",
            Self::TooManyFailures { .. } => "Too many wrong credentials came from this address.",
            Self::SubscriptionRequired => {
                "The application has no active subscription to this API version."
            }
            Self::SubscriptionExpired => "The application's subscription has expired.",
            Self::VersionRetired { .. } => "This version of the API has been retired.",
            Self::RateLimited { limit, .. } => return format!("The limit {limit:?} is exhausted."),
            Self::QuotaExceeded { .. } => {
                "The quota of the subscription is used up for this period."
            }
            Self::TooManyConcurrent { limit } => {
                return format!("The limit {limit:?} of calls at the same time is reached.");
            }
            Self::BodyTooLarge { max_bytes } => {
                return format!("The request body may have at most {max_bytes} bytes.");
            }
            Self::MediaTypeNotSupported => "The operation does not take a body of this media type.",
            Self::NotAcceptable => "The operation answers in none of the accepted media types.",
            Self::BodyIncomplete => "The request body ended early or could not be read.",
            Self::OperationNotFound => "The API has no operation at this path.",
            Self::MethodNotAllowed { .. } => {
                "The API has no operation of this method at this path."
            }
            Self::ContentEncodingNotSupported => {
                "The operation's requests are validated, for which their bodies must not be compressed."
            }
            Self::MalformedJson { malformed: Malformed { line, column, problem } } => {
                return format!(
                    "The request body is not well-formed JSON at line {line}, column {column}: {problem}."
                );
            }
            Self::ValidationFailed { .. } => "The request does not fit the operation.",
            Self::NoHealthyTarget { .. } => "No target of the API is healthy at the moment.",
            Self::CircuitOpen { .. } => {
                "Too many calls to the API have failed; it is spared for a moment."
            }
            Self::UpstreamOverloaded => "The API has as many calls at the same time as it bears.",
            Self::UpstreamCertificate => "The API did not prove its identity.",
            Self::UpstreamUnreachable => "The API could not be reached.",
            Self::UpstreamFailed => "The API did not answer in a usable way.",
            Self::UpstreamTimeout => "The API did not answer in time.",
            Self::NoConfiguration => "The gateway has no configuration yet.",
        };
        detail.to_owned()
    }

    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn kind(&self) -> Kind {
        use StatusCode as S;
        let kind = |status, code, title, fault| Kind { status, code, title, fault };
        let client = |status, code, title| kind(status, code, title, Fault::Client);
        let upstream = |status, code, title| kind(status, code, title, Fault::Upstream);
        match self {
            Self::Framing(Offence::Expectation) => {
                client(S::EXPECTATION_FAILED, "expectation_failed", "Expectation failed")
            }
            Self::Framing(_) => client(S::BAD_REQUEST, "malformed_request", "Malformed request"),
            Self::HeadTimeout => client(S::REQUEST_TIMEOUT, "request_timeout", "Request timeout"),
            Self::AmbiguousPath => client(S::BAD_REQUEST, "ambiguous_path", "Ambiguous path"),
            Self::AuthorityMismatch => {
                client(S::BAD_REQUEST, "malformed_request", "Malformed request")
            }
            Self::UpgradeRefused => {
                client(S::BAD_REQUEST, "upgrade_not_supported", "Upgrade not supported")
            }
            Self::OriginRefused => client(S::FORBIDDEN, "origin_refused", "Origin refused"),
            Self::RouteNotFound => client(S::NOT_FOUND, "route_not_found", "Route not found"),
            Self::AmbiguousCredentials => {
                client(S::BAD_REQUEST, "ambiguous_credentials", "Ambiguous credentials")
            }
            Self::CredentialMissing => {
                client(S::UNAUTHORIZED, "credential_required", "Credential required")
            }
            Self::CredentialInvalid => {
                client(S::UNAUTHORIZED, "invalid_credential", "Invalid credential")
            }
            Self::TooManyFailures { .. } => {
                client(S::TOO_MANY_REQUESTS, "too_many_failures", "Too many failures")
            }
            Self::SubscriptionRequired => {
                client(S::FORBIDDEN, "subscription_required", "Subscription required")
            }
            Self::SubscriptionExpired => {
                client(S::FORBIDDEN, "subscription_expired", "Subscription expired")
            }
            Self::VersionRetired { .. } => client(S::GONE, "version_retired", "Version retired"),
            Self::RateLimited { .. } => {
                client(S::TOO_MANY_REQUESTS, "rate_limited", "Rate limited")
            }
            Self::QuotaExceeded { .. } => {
                client(S::TOO_MANY_REQUESTS, "quota_exceeded", "Quota exceeded")
            }
            Self::TooManyConcurrent { .. } => {
                client(S::TOO_MANY_REQUESTS, "too_many_concurrent", "Too many calls at once")
            }
            Self::BodyTooLarge { .. } => {
                client(S::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large")
            }
            Self::MediaTypeNotSupported => client(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
            ),
            Self::NotAcceptable => client(S::NOT_ACCEPTABLE, "not_acceptable", "Not acceptable"),
            Self::BodyIncomplete => {
                client(S::BAD_REQUEST, "malformed_request", "Malformed request")
            }
            Self::OperationNotFound => {
                client(S::NOT_FOUND, "operation_not_found", "Operation not found")
            }
            Self::MethodNotAllowed { .. } => {
                client(S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::ContentEncodingNotSupported => client(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_encoding",
                "Unsupported content encoding",
            ),
            Self::MalformedJson { .. } => {
                client(S::BAD_REQUEST, "malformed_json", "Malformed JSON")
            }
            Self::ValidationFailed { .. } => {
                client(S::UNPROCESSABLE_ENTITY, "validation_failed", "Validation failed")
            }
            Self::NoHealthyTarget { .. } => {
                upstream(S::SERVICE_UNAVAILABLE, "no_healthy_target", "No healthy target")
            }
            Self::CircuitOpen { .. } => {
                upstream(S::SERVICE_UNAVAILABLE, "circuit_open", "Circuit open")
            }
            Self::UpstreamOverloaded => {
                upstream(S::SERVICE_UNAVAILABLE, "upstream_overloaded", "Upstream overloaded")
            }
            Self::UpstreamCertificate => {
                upstream(S::BAD_GATEWAY, "upstream_certificate", "Upstream certificate refused")
            }
            Self::UpstreamUnreachable => {
                upstream(S::BAD_GATEWAY, "upstream_unreachable", "Upstream unreachable")
            }
            Self::UpstreamFailed => upstream(S::BAD_GATEWAY, "upstream_failed", "Upstream failed"),
            Self::UpstreamTimeout => {
                upstream(S::GATEWAY_TIMEOUT, "upstream_timeout", "Upstream timeout")
            }
            Self::NoConfiguration => {
                kind(S::SERVICE_UNAVAILABLE, "no_configuration", "No configuration", Fault::Gateway)
            }
        }
    }
}

/// Whole seconds, rounded up.
pub(crate) fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
