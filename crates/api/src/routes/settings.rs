//! Settings of the installation, and its signing keys.

use authz::Action;
use market::InstallationSettings;
use model::{Email, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    call::Call,
    endpoint::{Endpoint, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/admin/settings", Action::ReadSettings, "Read the settings")
            .answers::<SettingsBody>()
            .run(read),
        put("/admin/settings", Action::ReplaceSettings, "Replace the settings")
            .answers::<SettingsBody>()
            .body(replace),
        patch("/admin/settings", Action::ChangeSettings, "Change the settings")
            .answers::<SettingsBody>()
            .body(change),
        post(
            "/admin/signing-keys/rotate",
            Action::RotateSigningKey,
            "Sign tokens with a new key; those signed before stay good",
        )
        .creates::<SigningKeyView>()
        .run(rotate),
    ]
}

/// The settings of the installation.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsBody {
    /// What the installation is called.
    name: Name,
    /// Whom its users ask.
    #[serde(default)]
    support_email: Option<Email>,
    /// For how many days hourly usage is kept, 31 to 3,650.
    usage_retention_days: u16,
    /// For how many days the audit trail is kept, 365 to 36,500; for ever when absent.
    #[serde(default)]
    audit_retention_days: Option<u16>,
    /// While it is set, nothing is removed because of its age, but for sessions. It stays as it is when absent.
    #[serde(default)]
    legal_hold: Option<bool>,
}

impl SettingsBody {
    /// A hold is lifted only by whoever says so.
    fn over(self, current: &InstallationSettings) -> InstallationSettings {
        InstallationSettings {
            name: self.name,
            support_email: self.support_email,
            usage_retention_days: self.usage_retention_days,
            audit_retention_days: self.audit_retention_days,
            legal_hold: self.legal_hold.unwrap_or(current.legal_hold),
        }
    }
}

impl From<InstallationSettings> for SettingsBody {
    fn from(settings: InstallationSettings) -> Self {
        Self {
            name: settings.name,
            support_email: settings.support_email,
            usage_retention_days: settings.usage_retention_days,
            audit_retention_days: settings.audit_retention_days,
            legal_hold: Some(settings.legal_hold),
        }
    }
}

async fn read(call: Call) -> Result<Reply, Problem> {
    Ok(shown(call.market.read_settings(call.request()).await?))
}

async fn replace(call: Call, body: SettingsBody) -> Result<Reply, Problem> {
    let (current, _) = call.market.read_settings(call.request()).await?;
    let (action, settings) = (Action::ReplaceSettings, body.over(&current));
    Ok(shown(call.market.replace_settings(call.request(), action, settings).await?))
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let (current, revision) = call.market.read_settings(call.request()).await?;
    let request = call.request_for(revision);
    let body = body::patched(SettingsBody::from(current.clone()), patch)?;
    let (action, settings) = (Action::ChangeSettings, body.over(&current));
    Ok(shown(call.market.replace_settings(&request, action, settings).await?))
}

fn shown((settings, revision): (InstallationSettings, i64)) -> Reply {
    Reply::ok(&SettingsBody::from(settings)).revision(revision)
}

/// A new signing key.
#[derive(Serialize, JsonSchema)]
struct SigningKeyView {
    /// Key id in tokens.
    kid: String,
}

async fn rotate(call: Call) -> Result<Reply, Problem> {
    let kid = call.market.rotate_signing_key(call.request()).await?;
    Ok(Reply::created(&SigningKeyView { kid }))
}
