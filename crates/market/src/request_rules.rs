//! Request rules for the gateway, compiled out of stored specifications and kept as long as they are needed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use model::{ApiVersion, VersionId};
use spec::RequestRules;
use store::Tx;

use crate::{Market, MarketError};

/// The rules of the versions whose requests are validated. A specification only changes with its version's revision.
#[derive(Debug, Default)]
pub(crate) struct RulesCache(Mutex<HashMap<VersionId, (i64, Arc<str>)>>);

impl RulesCache {
    fn get(&self, version: &ApiVersion) -> Option<Arc<str>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, rules) = known.get(&version.id)?;
        (*revision == version.revision).then(|| Arc::clone(rules))
    }

    fn put(&self, version: &ApiVersion, rules: &Arc<str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(version.id, (version.revision, Arc::clone(rules)));
    }

    /// Forgets all but the rules of these versions.
    pub(crate) fn retain(&self, is_used: impl Fn(VersionId) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|version, _| is_used(*version));
    }
}

impl Market {
    /// The request rules of a version, as JSON.
    pub(crate) async fn request_rules(
        &self,
        tx: &mut Tx,
        version: &ApiVersion,
    ) -> Result<Arc<str>, MarketError> {
        if let Some(rules) = self.rules.get(version) {
            return Ok(rules);
        }
        let Some(stored) = store::specification::find(tx, version.id).await? else {
            return Err(MarketError::Internal("a version has no specification", None));
        };
        let limits = self.spec_limits();
        let compiled = tokio::task::spawn_blocking(move || {
            let rules = RequestRules::compile(&stored.content, &limits)
                .map_err(|issue| Box::<dyn std::error::Error + Send + Sync>::from(issue.message))?;
            Ok(serde_json::to_string(&rules)?)
        })
        .await
        .map_err(|error| MarketError::internal("compiling request rules failed")(error.into()))?;
        let rules: Arc<str> = compiled
            .map_err(MarketError::internal("a stored specification gives no request rules"))?
            .into();
        self.rules.put(version, &rules);
        Ok(rules)
    }
}
