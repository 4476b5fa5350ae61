//! Sending letters by e-mail: what stands in them, the conversation with the server, and the courier that carries them.
//!
//! Which letters there are is the market's affair; this crate takes what is due, tries it, and says what became of it.

mod compose;
mod courier;
mod smtp;

pub use courier::{Courier, CourierSettings};
pub use smtp::{Protection, ServerSettings, SignIn, UnusableServer};
