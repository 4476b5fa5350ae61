//! How the calls of a deployment are carried, as it stands in bodies.

use model::{Cors, Delivery, Protocols};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which pages of other origins may call from a browser (CORS). The gateway answers preflight requests itself, and
/// what targets say about CORS is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorsBody {
    /// Origins such as `https://app.example.org`; `*` stands for all.
    allowed_origins: Vec<String>,
    #[serde(default = "default_methods")]
    allowed_methods: Vec<String>,
    /// Names of header fields that pages may send; `*` stands for all.
    #[serde(default = "default_headers")]
    allowed_headers: Vec<String>,
    /// Names of header fields of answers that pages may read.
    #[serde(default)]
    exposed_headers: Vec<String>,
    /// Whether browsers may send cookies and client certificates along; origins must be named then.
    #[serde(default)]
    allow_credentials: bool,
    /// How long browsers may remember this; ten minutes when absent.
    #[serde(default = "default_max_age")]
    max_age_seconds: u32,
}

/// What may pass beside plain calls. Such a call has no deadline once its answer has begun; it ends when nothing passes
/// for `idleSeconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtocolsBody {
    /// WebSocket.
    #[serde(default)]
    web_socket: bool,
    /// Server-sent events.
    #[serde(default)]
    server_sent_events: bool,
    /// gRPC, unary and streaming; needs HTTP/2 on both sides.
    #[serde(default)]
    grpc: bool,
    /// Five minutes when absent, at most a day.
    #[serde(default = "default_idle")]
    idle_seconds: f64,
}

fn default_methods() -> Vec<String> {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec()
}

fn default_headers() -> Vec<String> {
    ["accept", "authorization", "content-type", "traceparent", "x-api-key", "x-request-id"]
        .map(str::to_owned)
        .to_vec()
}

const fn default_max_age() -> u32 {
    600
}

const fn default_idle() -> f64 {
    300.0
}

impl Default for ProtocolsBody {
    fn default() -> Self {
        Protocols::default().into()
    }
}

impl From<CorsBody> for Cors {
    fn from(body: CorsBody) -> Self {
        Self {
            origins: body.allowed_origins,
            methods: body.allowed_methods,
            headers: body.allowed_headers,
            exposed_headers: body.exposed_headers,
            credentials: body.allow_credentials,
            max_age_seconds: body.max_age_seconds,
        }
    }
}

impl From<Cors> for CorsBody {
    fn from(cors: Cors) -> Self {
        Self {
            allowed_origins: cors.origins,
            allowed_methods: cors.methods,
            allowed_headers: cors.headers,
            exposed_headers: cors.exposed_headers,
            allow_credentials: cors.credentials,
            max_age_seconds: cors.max_age_seconds,
        }
    }
}

impl From<Protocols> for ProtocolsBody {
    fn from(protocols: Protocols) -> Self {
        Self {
            web_socket: protocols.web_socket,
            server_sent_events: protocols.events,
            grpc: protocols.grpc,
            idle_seconds: f64::from(protocols.idle_ms) / 1_000.0,
        }
    }
}

/// The parts of a body put together; seconds out of range become what the check refuses.
pub(super) fn delivery(
    cors: Option<CorsBody>,
    compress: bool,
    protocols: &ProtocolsBody,
) -> Delivery {
    let millis = (protocols.idle_seconds * 1_000.0).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from floating point saturates"
    )]
    let idle_ms = millis as u32;
    Delivery {
        cors: cors.map(Into::into),
        compress,
        protocols: Protocols {
            web_socket: protocols.web_socket,
            events: protocols.server_sent_events,
            grpc: protocols.grpc,
            idle_ms,
        },
    }
}
