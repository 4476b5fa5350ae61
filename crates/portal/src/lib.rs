//! The web pages of Caduceus.
//!
//! Rendered on the server, over the same operations as the control API; each works without script. Handlers translate:
//! they read a form, call operations of the marketplace and fill a template. Nothing here decides who may do what.

mod assets;
mod chart;
mod csv;
mod failure;
mod form;
mod format;
mod frame;
mod markdown;
mod pages;
mod reference;
mod serve;
mod visit;

pub use serve::{Portal, PortalSettings};
