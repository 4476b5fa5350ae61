//! Who may do what: the callers, and the one permission table.
//!
//! Permission is asked for in operations, never in handlers. Each route of the control API names its [`Action`],
//! and each action has its line in [`Action::access`]; without that line nothing builds.

mod action;
mod caller;

pub use action::{Access, Action};
pub use caller::{Caller, Forbidden, Principal};
