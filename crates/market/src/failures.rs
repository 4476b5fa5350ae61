//! Calls that failed lately, by the ids of their requests.

use std::collections::{BTreeMap, btree_map::Entry};

use authz::Action;
use model::{ApiId, ApplicationId, FailedCall, FailedCallId, Name, VersionId};
use store::{Tx, Viewer, failed_call::Scope};

use crate::{Market, MarketError, Request, apis, compile, viewer};

/// A call that failed, with the names of what it is about.
#[derive(Debug, Clone)]
pub struct NamedFailure {
    /// The call.
    pub call: FailedCall,
    /// The name of the API; absent when it was removed.
    pub api: Option<Name>,
    /// The number of the version.
    pub version: Option<semver::Version>,
    /// Method and path template of the operation.
    pub operation: Option<(String, String)>,
    /// The name of the application; absent when it was removed.
    pub application: Option<Name>,
}

impl Market {
    /// Lists calls of an API that failed lately, newest first: all of them for its owner, one's own tenant's for others
    /// who see it.
    pub async fn list_api_failures(
        &self,
        request: &Request,
        api: ApiId,
        before: Option<FailedCallId>,
        limit: u32,
    ) -> Result<Vec<NamedFailure>, MarketError> {
        self.require(request, Action::ListApiFailures).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let api = apis::find_visible(&mut tx, request, api).await?;
        let consumer = (!request.caller.acts_for(api.tenant)).then_some(request.caller.tenant);
        let scope = Scope::Api(api.id, consumer);
        let calls = store::failed_call::list(&mut tx, scope, before, limit).await?;
        named(&mut tx, calls).await
    }

    /// Lists calls by an application of the caller's tenant that failed lately, newest first.
    pub async fn list_application_failures(
        &self,
        request: &Request,
        application: ApplicationId,
        before: Option<FailedCallId>,
        limit: u32,
    ) -> Result<Vec<NamedFailure>, MarketError> {
        self.require(request, Action::ListApplicationFailures).await?;
        let application = self.read_application(request, application).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let scope = Scope::Application(application.id);
        let calls = store::failed_call::list(&mut tx, scope, before, limit).await?;
        named(&mut tx, calls).await
    }
}

/// What is known of a version by name.
pub(crate) struct KnownVersion {
    pub(crate) number: semver::Version,
    operations: Vec<(String, String)>,
}

impl KnownVersion {
    /// Method and path template of an operation.
    pub(crate) fn operation(&self, index: Option<u16>) -> Option<(String, String)> {
        self.operations.get(usize::from(index?)).cloned()
    }
}

/// Number and operations of a version, remembered for the next who asks.
pub(crate) async fn known_version<'k>(
    tx: &mut Tx,
    known: &'k mut BTreeMap<VersionId, Option<KnownVersion>>,
    id: VersionId,
) -> Result<Option<&'k KnownVersion>, MarketError> {
    let found = match known.entry(id) {
        Entry::Occupied(found) => found.into_mut(),
        Entry::Vacant(unknown) => {
            let version = store::version::find(tx, Viewer::Installation, id).await?;
            let operations = compile::read_operations(tx, id).await?.into_iter();
            let operations = operations.map(|one| (one.method, one.template)).collect();
            let version =
                version.map(|version| KnownVersion { number: version.number, operations });
            unknown.insert(version)
        }
    };
    Ok(found.as_ref())
}

async fn named(tx: &mut Tx, calls: Vec<FailedCall>) -> Result<Vec<NamedFailure>, MarketError> {
    let mut versions = BTreeMap::new();
    let mut apis: BTreeMap<ApiId, Option<Name>> = BTreeMap::new();
    let mut applications: BTreeMap<ApplicationId, Option<Name>> = BTreeMap::new();
    let mut failures = Vec::with_capacity(calls.len());
    for call in calls {
        let version = known_version(tx, &mut versions, call.version).await?;
        let operation = version.and_then(|version| version.operation(call.operation));
        let version = version.map(|version| version.number.clone());
        if let Entry::Vacant(unknown) = apis.entry(call.api) {
            let found = store::api::find_visible(tx, Viewer::Installation, call.api).await?;
            unknown.insert(found.map(|api| api.name));
        }
        if let Entry::Vacant(unknown) = applications.entry(call.application) {
            let found = store::application::find(tx, Viewer::Installation, call.application);
            unknown.insert(found.await?.map(|application| application.name));
        }
        let api = apis.get(&call.api).cloned().flatten();
        let application = applications.get(&call.application).cloned().flatten();
        failures.push(NamedFailure { call, api, version, operation, application });
    }
    Ok(failures)
}
