//! OpenAPI 3.0 and 3.1: tables of what every object may hold, one walk that compares a document
//! with them, and the rules that tables cannot say.

mod check;
mod document;
mod objects;
mod parameters;
mod paths;
mod references;
mod schema_rules;
mod schemas;
mod security;
mod shape;
mod text;

pub(crate) use check::check;
pub(crate) use paths::METHODS;
pub(crate) use references::{Identified, child, follow_reference, percent_decode, pointer_tokens};
pub(crate) use shape::Version;
