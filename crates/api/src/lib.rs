//! The control API: JSON over HTTP, as in the public contract.
//!
//! Each route is declared once, with its action, its types and its handler; routing, permission, conditional requests,
//! idempotency, dry runs and the OpenAPI description all come from that declaration. Handlers translate and call one
//! operation of the marketplace.

mod body;
mod call;
mod dispatch;
mod endpoint;
mod openapi;
mod problem;
mod reply;
mod routes;
mod throttle;

pub use dispatch::{ApiSettings, router, unavailable};
pub use routes::{CorsBody, LimitBody, ProtocolsBody, RouteBody, UpstreamBody, VisibilityName};

/// The OpenAPI 3.1 description of the control API, pretty-printed.
pub fn openapi_document() -> String {
    openapi::render(&routes::all())
}
