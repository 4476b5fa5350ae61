//! Calls that failed lately, as a table of the pages of traffic and of applications.

use market::NamedFailure;

use crate::{
    format::{Moment, duration},
    visit::Visit,
};

/// A row: a call that failed.
pub(crate) struct Failed {
    pub(crate) at: Moment,
    pub(crate) request_id: String,
    pub(crate) status: u16,
    /// Whose fault it was, in words.
    pub(crate) whose: &'static str,
    pub(crate) api: String,
    pub(crate) operation: String,
    pub(crate) application: String,
    pub(crate) took: String,
}

/// How many are shown.
pub(crate) const SHOWN: usize = 20;

impl Failed {
    pub(crate) fn of(visit: &Visit, failure: NamedFailure) -> Self {
        let NamedFailure { call, api, version, operation, application } = failure;
        let api = api.map_or_else(|| "an API that is gone".to_owned(), |name| name.to_string());
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        Self {
            at: visit.moment(call.at),
            request_id: call.request_id,
            status: call.status,
            whose: match (call.status, call.fault) {
                (499, _) => "the caller went away",
                (_, model::Fault::Client) => "the caller",
                (_, model::Fault::Gateway) => "this gateway",
                (_, model::Fault::None | model::Fault::Upstream) => "the API's system",
            },
            api: format!("{api}{version}"),
            operation: match operation {
                Some((method, path)) => format!("{method} {path}"),
                None => "none of the specification".to_owned(),
            },
            application: application
                .map_or_else(|| "an application that is gone".to_owned(), |name| name.to_string()),
            took: duration(call.duration_micros.into()),
        }
    }
}
