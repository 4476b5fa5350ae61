//! The targets behind a route: which one takes a call, how it is reached, and whether it is well.

mod adaptive;
mod breaker;
mod check;
mod chunks;
mod connection;
mod endpoint;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod head;
mod http1;
mod http2;
mod pool;
mod spread;
mod stream;
mod target;
mod tls;
mod upstream;
mod window;

pub(crate) use breaker::Outcome;
pub(crate) use check::HealthChecks;
pub(crate) use connection::{AnswerHead, NoAnswer, RequestHead, UpstreamConnection};
pub(crate) use endpoint::{Endpoint, Endpoints};
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz;
pub(crate) use pool::{ConnectError, Need, Pool};
pub(crate) use stream::UpstreamStream;
pub(crate) use target::Target;
pub(crate) use upstream::{Place, Refusal, Tried, Upstream};
