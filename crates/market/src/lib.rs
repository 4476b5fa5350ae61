//! The operations of the marketplace. Each authorises, loads, decides, stores, audits and announces in one
//! transaction; faces such as the JSON API only translate. Background jobs keep the structure that
//! gateways decide by, the catalogue's index and the usage figures up to date.

mod access;
mod analytics;
mod apis;
mod applications;
mod approvals;
mod audit;
mod authority;
mod availability;
mod catalogue;
mod categories;
mod change;
mod compile;
mod credentials;
mod deployments;
mod endpoints;
mod error;
mod failures;
mod feed;
mod jobs;
mod limits;
mod master_key;
mod nodes;
mod notices;
mod passwords;
mod people;
mod personal_data;
mod plans;
mod portal_sessions;
mod request_rules;
mod reviews;
mod second_factor;
mod secrets;
mod sessions;
mod settings;
mod setup;
mod specifications;
mod subscriptions;
mod tenants;
mod tokens;
mod totp;
mod usage;
mod versions;

use std::sync::Arc;

use model::{AddressPolicy, Clock, Ids};
use search::CatalogueIndex;
use store::{Database, Viewer};
use tokio::sync::{Semaphore, watch};

pub use access::{Attempt, Attempts};
pub use analytics::{
    ApiUsage, ConsumerUsage, OperationUsage, Period, TenantUsage, Trend, Usage, UsagePart,
    VersionUsage,
};
pub use apis::{ApiDraft, ApiListing, VisibilityDraft};
pub use applications::ApplicationDraft;
pub use approvals::Approvals;
pub use audit::NamedAuditEntry;
pub use authority::ServerCertificate;
pub use availability::{Availability, Standing};
pub use catalogue::{CatalogueHit, CatalogueQuery, CatalogueResults, Highlight};
pub use categories::{CategoryChange, CategoryDraft};
pub(crate) use change::Begun;
pub use change::{Idempotency, Request};
pub use credentials::{CredentialDraft, IssuedCredential, Rotation};
pub use deployments::{DeploymentDraft, HealthCheckDraft, TargetDraft, UpstreamDraft};
pub use endpoints::Endpoint;
pub use error::{Conflict, Kind, MarketError, Violation};
pub use failures::NamedFailure;
pub use jobs::{JobSettings, Jobs};
pub use limits::LimitDraft;
pub use master_key::{MasterKeyCheck, check_master_key};
pub use nodes::{EnrolledNode, IssuedNodeToken, NodeTokenDraft, UsageBatch};
pub use notices::{Inbox, LetterOutcome, OneTimeInvitation, Outgoing, Queue};
pub use people::{InvitedUser, UserChange, UserDraft};
pub use personal_data::PersonalData;
pub use plans::PlanDraft;
pub use portal_sessions::{Presence, SignedIn};
pub use reviews::{ApiReviewDraft, NamedReview, OwnReview};
pub use search::{Facets, Label};
pub use second_factor::{SecondFactorSecret, SecondFactorStatus, SignInStep};
pub use secrets::{Secrets, random, sha256_hex};
pub use sessions::SessionListing;
pub use settings::InstallationSettings;
pub use setup::{SetUp, SetUpDraft};
pub use specifications::{Finding, SpecificationSource, SpecificationView};
pub use store::{
    Page, PageOf,
    api::{Filter as ApiFilter, Sort as ApiSort},
    audit::Filter as AuditFilter,
    node::Node,
    session::Session,
    subscription::{Filter as SubscriptionFilter, Registered},
    usage::Tally,
};
pub use subscriptions::{QuotaUse, SignatureDraft, SubscriptionDraft, SubscriptionMove};
pub use tenants::{TenantChange, TenantDraft};
pub use tokens::{IssuedToken, Jwk, TokenRequest};
pub use versions::{Deprecation, RegisteredVersion, Review, VersionDraft};

/// What an installation decides about itself.
#[derive(Debug, Clone)]
pub struct MarketSettings {
    /// Which upstreams and specification addresses may be connected to.
    pub addresses: AddressPolicy,
    /// Hosts that specifications may be fetched from; empty means none.
    pub specification_hosts: Vec<String>,
    /// The largest specification, in bytes.
    pub specification_max_bytes: usize,
    /// How long an access token is good.
    pub token_seconds: u32,
    /// How many sessions a person may have in browsers at once, at least 1.
    pub sessions_per_person: u16,
    /// Where the gateway is reached from outside, for links.
    pub gateway_url: String,
    /// E-mail to people; none where no server for it is known.
    pub mail: Option<MailSettings>,
}

/// How people are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailSettings {
    /// The hour of the day, in UTC, at which those who want it are sent the notices of the day in one e-mail.
    pub digest_hour: u8,
}

/// The operations of the marketplace.
pub struct Market {
    db: Database,
    index: Arc<CatalogueIndex>,
    clock: Clock,
    ids: Ids,
    secrets: Secrets,
    settings: MarketSettings,
    keyring: tokens::Keyring,
    rules: request_rules::RulesCache,
    hashing: Semaphore,
    attempts: Attempts,
    /// The newest structure, once it was compiled.
    published: watch::Sender<Option<compile::Published>>,
    quota_sums: tokio::sync::Mutex<Option<feed::QuotaSums>>,
    /// Counts commits, so that none is missed by a job that is busy.
    committed: watch::Sender<u64>,
}

impl Market {
    /// The marketplace over a database and an index.
    pub fn new(
        db: Database,
        index: Arc<CatalogueIndex>,
        clock: Clock,
        secrets: Secrets,
        settings: MarketSettings,
    ) -> Self {
        let ids = Ids::new(clock.clone(), Arc::new(|| u64::from_le_bytes(random())));
        Self {
            db,
            index,
            clock,
            ids,
            secrets,
            settings,
            keyring: tokens::Keyring::default(),
            rules: request_rules::RulesCache::default(),
            hashing: Semaphore::new(passwords::AT_ONCE),
            attempts: Attempts::default(),
            published: watch::Sender::new(None),
            quota_sums: tokio::sync::Mutex::new(None),
            committed: watch::Sender::new(0),
        }
    }

    /// Where the gateway is reached from outside.
    pub fn gateway_url(&self) -> &str {
        &self.settings.gateway_url
    }

    /// Wakes the jobs.
    fn note_commit(&self) {
        self.committed.send_modify(|commits| *commits = commits.wrapping_add(1));
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        store::event::last_number(&mut tx).await?;
        Ok(())
    }
}

/// Through whose eyes a caller sees.
fn viewer(caller: &authz::Caller) -> Viewer {
    if caller.is_platform_admin() { Viewer::Installation } else { Viewer::Tenant(caller.tenant) }
}
