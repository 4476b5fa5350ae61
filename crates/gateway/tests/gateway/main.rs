//! The gateway as clients and targets see it: real sockets on both sides.

#![expect(clippy::unwrap_used, reason = "what fails in a test helper fails the test")]

mod balance;
mod clock;
mod delivery;
mod disk;
mod exchange;
mod faults;
mod foreign;
mod framing;
mod headers;
mod hostile;
mod http2;
mod http2_upstream;
mod identity;
mod limits;
mod names;
mod observe;
mod resilience;
mod restart;
mod standalone;
mod support;
mod tls;
mod tls_upstream;
mod upstream;
mod validation;
