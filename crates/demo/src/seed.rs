//! Filling an empty installation, by the same operations that people use.

use authz::{Action, Caller, Principal};
use jiff::Timestamp;
use market::{
    ApiDraft, ApplicationDraft, CategoryDraft, CredentialDraft, DeploymentDraft, Deprecation,
    HealthCheckDraft, InvitedUser, LimitDraft, Market, MarketError, PlanDraft, Request, Review,
    SetUpDraft, SpecificationSource, SubscriptionDraft, SubscriptionMove, TargetDraft, TenantDraft,
    UpstreamDraft, UserDraft, VersionDraft, VisibilityDraft,
};
use model::{
    ApiId, Approval, Balance, CheckKind, Classification, CredentialKind, Delivery, Email,
    InvalidText, LimitScope, Name, Owner, Plan, Protocol, Quota, QuotaPeriod, Resilience, Role,
    Roles, Sensitivity, SessionId, Slug, TenantId, UpstreamTls, User,
};

use crate::{
    record::{Account, DemoApplication, DemoDeployment, DemoRecord, Sample},
    upstreams::Upstreams,
};

/// Why the demo could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// An operation was refused.
    #[error("the demo's data could not be made")]
    Market(#[from] MarketError),
    /// A text of the demo breaks a rule.
    #[error("a text of the demo breaks a rule")]
    Text(#[from] InvalidText),
    /// A version number of the demo is malformed.
    #[error("a version number of the demo is malformed")]
    Version(#[from] semver::Error),
}

const CLINIC_1: &str = include_str!("../specs/clinic-scheduling-1.0.0.yaml");
const CLINIC_2: &str = include_str!("../specs/clinic-scheduling-2.0.0.yaml");
const DRUGS: &str = include_str!("../specs/drug-directory-1.2.0.yaml");
const BEDS: &str = include_str!("../specs/bed-occupancy-0.9.0.json");

/// A tenant with a person in each role.
struct Staff {
    slug: &'static str,
    admin: Request,
    provider: Request,
    reviewer: Request,
    consumer: Request,
}

/// Fills an empty installation; `token` is its one-time set-up token.
pub async fn seed(
    market: &Market,
    token: &str,
    upstreams: &Upstreams,
) -> Result<DemoRecord, SeedError> {
    let mut record = DemoRecord::default();
    let password = new_password();
    let draft = SetUpDraft {
        tenant_slug: Slug::parse("north-clinic")?,
        tenant_name: Name::parse("North Clinic")?,
        email: Email::parse("platform-admin@north-clinic.example")?,
        name: Name::parse("North Clinic platform administrator")?,
        password: password.clone(),
    };
    let made = market.set_up(token, draft, "demo", "demo").await?;
    record.accounts.push(Account {
        role: Role::PlatformAdmin.to_string(),
        tenant: "north-clinic".to_owned(),
        email: made.user.email.to_string(),
        password,
    });
    let platform = request_of(&made.user);
    let draft = TenantDraft {
        slug: Slug::parse("valley-health")?,
        name: Name::parse("Valley Health Plan")?,
    };
    let valley = market.create_tenant(&platform, draft).await?;
    let clinic = hire(market, &platform, "north-clinic", made.tenant.id, &mut record).await?;
    let valley = hire(market, &platform, "valley-health", valley.id, &mut record).await?;
    for (slug, name) in
        [("scheduling", "Scheduling"), ("medication", "Medication"), ("operations", "Operations")]
    {
        let draft = CategoryDraft {
            slug: Slug::parse(slug)?,
            name: Name::parse(name)?,
            description: String::new(),
        };
        market.create_category(&platform, draft).await?;
    }
    let app = register_application(market, &valley, "Member app", &mut record).await?;
    let dashboard = register_application(market, &clinic, "Ward dashboard", &mut record).await?;
    offer_scheduling(market, &clinic, &valley, app, upstreams, &mut record).await?;
    offer_drugs(market, &valley, &clinic, (app, dashboard), upstreams, &mut record).await?;
    offer_beds(market, &clinic, dashboard, upstreams, &mut record).await?;
    Ok(record)
}

/// Points the demo's deployments at the sample upstreams of this start.
pub async fn update_targets(
    market: &Market,
    record: &DemoRecord,
    upstreams: &Upstreams,
) -> Result<(), SeedError> {
    for known in &record.deployments {
        let request = operator();
        let deployment = match market.read_deployment(&request, known.id).await {
            Ok(deployment) => deployment,
            // It was removed meanwhile, which is fine.
            Err(MarketError::NotFound(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let number = market.version_number(&request, deployment.version).await?;
        let mut draft = DeploymentDraft::of(deployment, number);
        draft.upstream.targets = targets(known.upstream, upstreams);
        market.replace_deployment(&request, Action::ReplaceDeployment, known.id, draft).await?;
    }
    Ok(())
}

/// Makes a person in each role of a tenant.
async fn hire(
    market: &Market,
    platform: &Request,
    slug: &'static str,
    tenant: TenantId,
    record: &mut DemoRecord,
) -> Result<Staff, SeedError> {
    let roles = [Role::TenantAdmin, Role::Provider, Role::Reviewer, Role::Consumer, Role::Auditor];
    let mut people = Vec::new();
    for role in roles {
        let draft = UserDraft {
            tenant: Some(tenant),
            email: Email::parse(&format!("{role}@{slug}.example"))?,
            name: Name::parse(&format!("{slug} {role}"))?,
            roles: Roles::of(&[role]),
        };
        let InvitedUser { user, invitation_token, .. } =
            market.invite_user(platform, draft).await?;
        people.push((role, user, invitation_token, new_password()));
    }
    // Hashing a password is meant to be slow; two at a time are.
    let accept = |(_, _, token, password): &(Role, User, String, String)| {
        let (token, password) = (token.clone(), password.clone());
        async move { market.accept_invitation(&token, &password, "demo", "demo").await.map(drop) }
    };
    let [admin, provider, reviewer, consumer, auditor] = people.as_slice() else {
        return Err(InvalidText::Form("a tenant has five roles").into());
    };
    tokio::try_join!(
        accept(admin),
        accept(provider),
        accept(reviewer),
        accept(consumer),
        accept(auditor)
    )?;
    for (role, user, _, password) in &people {
        record.accounts.push(Account {
            role: role.to_string(),
            tenant: slug.to_owned(),
            email: user.email.to_string(),
            password: password.clone(),
        });
    }
    Ok(Staff {
        slug,
        admin: request_of(&admin.1),
        provider: request_of(&provider.1),
        reviewer: request_of(&reviewer.1),
        consumer: request_of(&consumer.1),
    })
}

async fn register_application(
    market: &Market,
    staff: &Staff,
    name: &str,
    record: &mut DemoRecord,
) -> Result<model::ApplicationId, SeedError> {
    let draft =
        ApplicationDraft { name: Name::parse(name)?, description: "Part of the demo.".to_owned() };
    let application = market.create_application(&staff.consumer, None, draft).await?;
    let draft = CredentialDraft {
        name: Name::parse("Demo key")?,
        kind: CredentialKind::ApiKey,
        expires_at: None,
    };
    let issued = market.create_credential(&staff.consumer, application.id, draft).await?;
    record.applications.push(DemoApplication {
        name: name.to_owned(),
        tenant: staff.slug.to_owned(),
        api_key: issued.secret,
    });
    Ok(application.id)
}

/// The clinic's scheduling: two versions, the older one deprecated; the owner approves subscriptions.
async fn offer_scheduling(
    market: &Market,
    owner: &Staff,
    consumer: &Staff,
    application: model::ApplicationId,
    upstreams: &Upstreams,
    record: &mut DemoRecord,
) -> Result<(), SeedError> {
    let classification = Classification {
        contains_phi: true,
        contains_pii: true,
        regulatory_scope: vec![Slug::parse("hipaa")?, Slug::parse("gdpr")?],
        sensitivity_level: Sensitivity::Restricted,
        data_categories: vec![Slug::parse("appointments")?],
    };
    let draft = api_draft(
        "Clinic Scheduling",
        "Free slots and appointments of the North Clinic.",
        "Scheduling team",
        owner,
        "scheduling",
        classification,
    )?;
    let api = publish(market, owner, draft, "1.0.0", CLINIC_1).await?;
    let plan = offer_plan(market, owner, api, "Standard", 600, Approval::Owner).await?;
    deploy(market, owner, (api, "1.0.0"), "/clinic/v1", Sample::Clinic, upstreams, record).await?;
    subscribe(market, consumer, Some(owner), application, (api, "1.0.0"), &plan).await?;
    let second = VersionDraft {
        number: "2.0.0".parse()?,
        source: SpecificationSource::Content(CLINIC_2.as_bytes().to_vec()),
    };
    market.submit_version(&owner.provider, api, second).await?;
    market.approve_version(&owner.reviewer, api, review("2.0.0")?).await?;
    deploy(market, owner, (api, "2.0.0"), "/clinic", Sample::Clinic, upstreams, record).await?;
    subscribe(market, consumer, Some(owner), application, (api, "2.0.0"), &plan).await?;
    let end = Deprecation {
        number: Some("1.0.0".parse()?),
        sunset_at: "2027-12-31T00:00:00Z".parse::<Timestamp>().ok(),
        successor: Some("2.0.0".parse()?),
    };
    market.deprecate_version(&owner.provider, api, end).await?;
    Ok(())
}

/// The drug directory: open to everybody at once.
async fn offer_drugs(
    market: &Market,
    owner: &Staff,
    consumer: &Staff,
    (own, other): (model::ApplicationId, model::ApplicationId),
    upstreams: &Upstreams,
    record: &mut DemoRecord,
) -> Result<(), SeedError> {
    let draft = api_draft(
        "Drug Directory",
        "Medicines by name and code, with form and strength.",
        "Formulary team",
        owner,
        "medication",
        Classification::default(),
    )?;
    let api = publish(market, owner, draft, "1.2.0", DRUGS).await?;
    let plan = offer_plan(market, owner, api, "Open", 3_000, Approval::Automatic).await?;
    deploy(market, owner, (api, "1.2.0"), "/drugs", Sample::Drugs, upstreams, record).await?;
    subscribe(market, owner, None, own, (api, "1.2.0"), &plan).await?;
    subscribe(market, consumer, None, other, (api, "1.2.0"), &plan).await
}

/// Bed occupancy: private to the clinic, and failing now and then.
async fn offer_beds(
    market: &Market,
    owner: &Staff,
    application: model::ApplicationId,
    upstreams: &Upstreams,
    record: &mut DemoRecord,
) -> Result<(), SeedError> {
    let draft = api_draft(
        "Bed Occupancy",
        "Free beds per ward, from a system that fails now and then.",
        "Operations team",
        owner,
        "operations",
        Classification::default(),
    )?;
    let draft = ApiDraft { visibility: VisibilityDraft::Private, ..draft };
    let api = publish(market, owner, draft, "0.9.0", BEDS).await?;
    let plan = offer_plan(market, owner, api, "Internal", 600, Approval::Automatic).await?;
    deploy(market, owner, (api, "0.9.0"), "/beds", Sample::Beds, upstreams, record).await?;
    subscribe(market, owner, None, application, (api, "0.9.0"), &plan).await
}

fn api_draft(
    name: &str,
    description: &str,
    team: &str,
    owner: &Staff,
    category: &str,
    classification: Classification,
) -> Result<ApiDraft, InvalidText> {
    Ok(ApiDraft {
        name: Name::parse(name)?,
        description: description.to_owned(),
        owner: Owner {
            name: Name::parse(team)?,
            contact_email: Email::parse(&format!("provider@{}.example", owner.slug))?,
        },
        visibility: VisibilityDraft::Public,
        classification,
        tags: vec![Slug::parse("demo")?, Slug::parse(category)?],
        categories: vec![Slug::parse(category)?],
        documentation_url: None,
        terms_of_service_url: None,
        license: Some(Name::parse("Apache-2.0")?),
    })
}

async fn publish(
    market: &Market,
    owner: &Staff,
    draft: ApiDraft,
    number: &str,
    specification: &str,
) -> Result<ApiId, SeedError> {
    let source = SpecificationSource::Content(specification.as_bytes().to_vec());
    let made = market.register_api(&owner.provider, None, draft, number.parse()?, source).await?;
    market.approve_version(&owner.reviewer, made.api.id, review(number)?).await?;
    Ok(made.api.id)
}

fn review(number: &str) -> Result<Review, semver::Error> {
    Ok(Review {
        number: Some(number.parse()?),
        comments: "Looks right.".to_owned(),
        reasons: Vec::new(),
    })
}

async fn offer_plan(
    market: &Market,
    owner: &Staff,
    api: ApiId,
    name: &str,
    per_minute: u32,
    approval: Approval,
) -> Result<Plan, SeedError> {
    let limit = LimitDraft {
        name: Slug::parse("per-minute")?,
        per: LimitScope::Application,
        requests: Some(per_minute),
        concurrent: None,
        window_seconds: Some(60),
        burst: None,
    };
    let draft = PlanDraft {
        name: Name::parse(name)?,
        description: format!("{per_minute} calls a minute, 100,000 a day."),
        limits: vec![limit],
        quota: Some(Quota { requests: 100_000, period: QuotaPeriod::Day }),
        approval,
        is_signed: false,
        is_open: true,
    };
    Ok(market.create_plan(&owner.provider, api, draft).await?)
}

async fn deploy(
    market: &Market,
    owner: &Staff,
    (api, number): (ApiId, &str),
    path_prefix: &str,
    sample: Sample,
    upstreams: &Upstreams,
    record: &mut DemoRecord,
) -> Result<(), SeedError> {
    let draft = DeploymentDraft {
        api,
        number: number.parse()?,
        host: None,
        path_prefix: path_prefix.to_owned(),
        strip_prefix: true,
        upstream: pool(sample, upstreams),
        limits: Vec::new(),
        max_body_bytes: 1024 * 1024,
        delivery: Delivery::default(),
        validation: model::Validation::Off,
    };
    let deployment = market.deploy(&owner.provider, draft).await?;
    record.deployments.push(DemoDeployment { id: deployment.id, upstream: sample });
    Ok(())
}

fn targets(sample: Sample, upstreams: &Upstreams) -> Vec<TargetDraft> {
    upstreams.urls(sample).into_iter().map(|url| TargetDraft { url, weight: 1 }).collect()
}

fn pool(sample: Sample, upstreams: &Upstreams) -> UpstreamDraft {
    let health_check = (sample != Sample::Beds).then(|| HealthCheckDraft {
        kind: CheckKind::Http,
        path: Some("/health".to_owned()),
        interval_seconds: 5.0,
        timeout_seconds: 1.0,
        unhealthy_after: 2,
        healthy_after: 1,
    });
    UpstreamDraft {
        targets: targets(sample, upstreams),
        balance: Balance::RoundRobin,
        hash_on: None,
        protocol: Protocol::Auto,
        tls: UpstreamTls::default(),
        health_check,
        timeout_seconds: 5.0,
        retries: 1,
        resilience: Resilience::default(),
    }
}

/// Subscribes; when the plan asks for it, `owner` approves.
async fn subscribe(
    market: &Market,
    consumer: &Staff,
    owner: Option<&Staff>,
    application: model::ApplicationId,
    (api, number): (ApiId, &str),
    plan: &Plan,
) -> Result<(), SeedError> {
    let draft = SubscriptionDraft {
        application,
        api,
        number: Some(number.parse()?),
        plan: plan.id,
        purpose_of_use: Some(Name::parse("TREAT")?),
        data_categories: None,
        agreement_sha256: None,
        expires_at: None,
    };
    let subscription = market.request_subscription(&consumer.consumer, draft).await?;
    if let Some(owner) = owner {
        let step = SubscriptionMove::Approve;
        let comments = "As agreed.".to_owned();
        market.move_subscription(&owner.admin, subscription.id, step, comments).await?;
    }
    Ok(())
}

/// A request by somebody who was just made, without going through the token endpoint.
fn request_of(user: &User) -> Request {
    let caller = Caller {
        principal: Principal::User(user.id),
        tenant: user.tenant,
        roles: user.roles,
        session: SessionId::from_bits(0),
    };
    Request::plain(caller, "demo".to_owned())
}

/// A request by the demo itself.
fn operator() -> Request {
    let caller = Caller {
        principal: Principal::User(model::UserId::from_bits(0)),
        tenant: TenantId::from_bits(0),
        roles: Roles::of(&[Role::PlatformAdmin]),
        session: SessionId::from_bits(0),
    };
    Request::plain(caller, "demo".to_owned())
}

/// 20 random letters and digits.
fn new_password() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    market::random::<20>()
        .iter()
        .map(|byte| char::from(LETTERS.get(usize::from(byte & 31)).copied().unwrap_or(b'x')))
        .collect()
}
