//! The stages of a call, in the order in which it passes them.

pub(crate) mod route;

pub(crate) mod cors;

pub(crate) mod identify;

pub(crate) mod entitle;

pub(crate) mod limit;

pub(crate) mod admit;

pub(crate) mod validate;

pub(crate) mod forward;

pub(crate) mod present;

mod record;

pub(crate) use identify::Caller;
pub(crate) use record::Recorder;
