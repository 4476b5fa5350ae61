//! Specification formats: reads OpenAPI 3.0 and 3.1 in JSON and YAML, says everything that is
//! wrong with a document and where, summarises it, and converts between the two syntaxes.
//!
//! No I/O, nothing is fetched. Whatever the bytes, there is a report and never a panic: nesting,
//! values, aliases, references and output are bounded by [`Limits`].

mod format;
mod issue;
mod limits;
mod node;
mod openapi;
mod path;
mod place;
mod read;
mod report;
mod request;
mod summary;
mod write;

#[cfg(test)]
mod tests;

pub use format::Format;
pub use issue::{Issue, Severity};
pub use limits::Limits;
pub use place::{Part, Place, Step, place_of};
pub use read::Syntax;
pub use report::{Report, convert, validate};
pub use request::{
    BodyCheck, BodyNeed, Effort, Finding, Findings, Malformed, OperationNumber, RequestHead,
    RequestRules,
};
pub use summary::{
    OperationSummary, ParameterSummary, SecuritySchemeSummary, ServerSummary, Summary,
};
