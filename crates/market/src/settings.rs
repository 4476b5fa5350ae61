//! Settings of the installation.

use std::ops::RangeInclusive;

use authz::Action;
use model::{Email, EventKind, Name};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Tx, Viewer};

use crate::{Begun, Market, MarketError, Request, viewer};

/// What the installation's administrators decide at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationSettings {
    /// What the installation is called.
    pub name: Name,
    /// Whom its users ask.
    pub support_email: Option<Email>,
    /// For how many days hourly usage is kept.
    pub usage_retention_days: u16,
    /// For how many days the audit trail is kept; for ever when absent.
    #[serde(default)]
    pub audit_retention_days: Option<u16>,
    /// While it is set, nothing is removed because of its age, but for sessions.
    #[serde(default)]
    pub legal_hold: bool,
}

impl Default for InstallationSettings {
    fn default() -> Self {
        Self {
            name: Name::parse("Caduceus").expect("a plain word is a name"),
            support_email: None,
            usage_retention_days: 400,
            audit_retention_days: None,
            legal_hold: false,
        }
    }
}

const NAME: &str = "installation";
const RETENTION: RangeInclusive<u16> = 31..=3_650;
const AUDIT_RETENTION: RangeInclusive<u16> = 365..=36_500;

impl Market {
    /// Reads the settings and their revision; 0 until they are first written.
    pub async fn read_settings(
        &self,
        request: &Request,
    ) -> Result<(InstallationSettings, i64), MarketError> {
        self.require(request, Action::ReadSettings).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        load(&mut tx).await
    }

    /// Replaces the settings.
    pub async fn replace_settings(
        &self,
        request: &Request,
        action: Action,
        settings: InstallationSettings,
    ) -> Result<(InstallationSettings, i64), MarketError> {
        for (field, days, range) in [
            ("usageRetentionDays", Some(settings.usage_retention_days), RETENTION),
            ("auditRetentionDays", settings.audit_retention_days, AUDIT_RETENTION),
        ] {
            if days.is_some_and(|days| !range.contains(&days)) {
                let message = format!("must be {} to {}", range.start(), range.end());
                return Err(MarketError::invalid(field, message));
            }
        }
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(stored) => return Ok(stored),
        };
        let (before, revision) = load(change.tx()).await?;
        request.check_revision(revision)?;
        let next = revision + 1;
        store::setting::put(change.tx(), NAME, &settings, next, self.clock.now()).await?;
        let tenant = request.caller.tenant;
        change.audit(tenant, NAME, json!({ "before": before, "after": settings })).await?;
        change.announce(tenant, EventKind::SettingChanged, &NAME);
        change.finish((settings, next)).await
    }

    /// What the installation is called and whom to ask, for everybody who is signed in.
    pub async fn installation(&self) -> Result<InstallationSettings, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        Ok(load(&mut tx).await?.0)
    }
}

async fn load(tx: &mut Tx) -> Result<(InstallationSettings, i64), MarketError> {
    Ok(store::setting::find(tx, NAME).await?.unwrap_or_default())
}
