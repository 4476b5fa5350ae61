//! Makes the state of a large installation on disk, as a gateway keeps it: for `bench/scale/run`.
//!
//! `scale STATE_DIR ORIGIN KEYS ROUTES TENANTS KEYS_FILE SHOWN` writes `SHOWN` random API keys, each with the path it
//! may call, to `KEYS_FILE`. All keys of the gateway are 32 times the byte 7, as in `standalone`.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf, sync::Arc, time::Duration};

use gateway::{CredentialKey, Gateway, GatewayKeys, GatewaySettings};
use model::{
    AgreementEntry, ApiId, ApiKey, ApiLifecycle, ApplicationId, Audience, Balance, Clock,
    CredentialEntry, CredentialId, Delivery, DeploymentEntry, DeploymentId, Limit, LimitAmount,
    LimitScope, OperationEntry, PlanEntry, PlanId, Protocol, Resilience, RosterDigest, RosterEntry,
    RosterPage, Route, Slug, Structure, SubscriptionId, Target, TargetId, TenantId, Update,
    Upstream, UpstreamTls, UpstreamUrl, VersionId,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: [u8; 32] = [7; 32];
const PAGE: u64 = 8_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [state_dir, origin, keys, routes, tenants, keys_file, shown] = arguments.as_slice() else {
        return Err("usage: scale STATE_DIR ORIGIN KEYS ROUTES TENANTS KEYS_FILE SHOWN".into());
    };
    let (keys, routes): (u64, u64) = (keys.parse()?, routes.parse()?);
    let (tenants, shown): (u64, u64) = (tenants.parse()?, shown.parse()?);
    let settings = GatewaySettings {
        listen: "127.0.0.1:0".parse()?,
        workers: 1,
        state_dir: PathBuf::from(state_dir),
        ..GatewaySettings::default()
    };
    let credential_key = CredentialKey::new(KEY);
    let gateway_keys = GatewayKeys {
        credential_key: credential_key.clone(),
        state_key: journal::Key::new(KEY),
        usage_key: journal::Key::new(KEY),
    };
    let gateway = Gateway::start(settings, &gateway_keys, Clock::system())?;
    let deployments: Result<Vec<_>, Box<dyn Error>> =
        (0..routes).map(|number| Ok(Arc::new(deployment(number, tenants, origin)?))).collect();
    let structure = Structure {
        number: 1,
        compiled_at: Clock::system().now(),
        deployments: deployments?,
        plans: (0..routes).map(plan).collect::<Result<_, _>>()?,
        inactive_tenants: Vec::new(),
    };
    gateway.take(&Update { structure: Some(Arc::new(structure)), ..Update::default() })?;

    let mut digest = RosterDigest::default();
    let mut list = String::new();
    let mut after = 0;
    while after < keys {
        let to = (after + PAGE).min(keys);
        let mut present = Vec::new();
        for number in after..to {
            let key = api_key(number);
            let secret = key.expose();
            present.push(credential(number, tenants, &credential_key, secret));
            present.push(agreement(number, routes));
            // Spread evenly over all of them.
            if number % (keys / shown).max(1) == 0 {
                writeln!(list, "{secret} /api-{}", number % routes)?;
            }
        }
        digest = present.iter().fold(digest, |digest, entry| digest.with(entry));
        let digest = (to == keys).then_some(digest);
        let page = RosterPage {
            epoch: 1,
            renews: true,
            after,
            present,
            to,
            digest,
            ..RosterPage::default()
        };
        gateway.take(&Update { roster: Some(page), ..Update::default() })?;
        after = to;
    }
    gateway.take(&Update { reached: Some(1), ..Update::default() })?;
    assert_eq!(gateway.standing().epoch, 1, "the roster is whole");
    gateway.shut_down(Duration::from_secs(1));
    fs::write(keys_file, list)?;
    Ok(())
}

fn api_key(number: u64) -> ApiKey {
    let mut bits = [0; 32];
    for (place, part) in (1_u64..).zip(bits.chunks_exact_mut(8)) {
        let scattered =
            (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(place);
        part.copy_from_slice(&scattered.to_le_bytes());
    }
    ApiKey::from_random(&bits)
}

/// An identifier whose bits are as spread as real ones.
fn id(kind: u64, number: u64) -> u128 {
    let spread = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ kind;
    u128::from(number + 1) << 64 | u128::from(spread)
}

fn credential(number: u64, tenants: u64, key: &CredentialKey, secret: &str) -> RosterEntry {
    RosterEntry::Credential(CredentialEntry {
        id: CredentialId::from_bits(id(1, number)),
        digest: key.digest(secret),
        application: ApplicationId::from_bits(id(2, number)),
        tenant: TenantId::from_bits(id(3, number % tenants)),
        expires_at: None,
    })
}

fn agreement(number: u64, routes: u64) -> RosterEntry {
    RosterEntry::Agreement(AgreementEntry {
        id: SubscriptionId::from_bits(id(4, number)),
        application: ApplicationId::from_bits(id(2, number)),
        version: VersionId::from_bits(id(5, number % routes)),
        plan: PlanId::from_bits(id(6, number % routes)),
        expires_at: None,
    })
}

fn plan(number: u64) -> Result<PlanEntry, Box<dyn Error>> {
    let amount = LimitAmount::Rate { requests: 1_000_000, window_seconds: 1, burst: 1_000_000 };
    let limit = Limit { name: Slug::parse("standard")?, per: LimitScope::Application, amount };
    Ok(PlanEntry { id: PlanId::from_bits(id(6, number)), limits: vec![limit], quota: None })
}

fn deployment(number: u64, tenants: u64, origin: &str) -> Result<DeploymentEntry, Box<dyn Error>> {
    let operation = |method: &str, template: &str| OperationEntry {
        method: method.to_owned(),
        template: template.to_owned(),
        request_media_types: Vec::new(),
        response_media_types: vec!["application/json".to_owned()],
    };
    let tenant = number % tenants;
    Ok(DeploymentEntry {
        id: DeploymentId::from_bits(id(7, number)),
        api: ApiId::from_bits(id(8, number)),
        api_name: format!("API {number}"),
        version: VersionId::from_bits(id(5, number)),
        version_number: "1.0.0".to_owned(),
        tenant: TenantId::from_bits(id(3, tenant)),
        tenant_slug: format!("tenant-{tenant}"),
        audience: Audience::Everyone,
        lifecycle: ApiLifecycle::Active,
        route: Route::new(None, &format!("/api-{number}"), false)?,
        upstream: Upstream {
            targets: vec![Target {
                id: TargetId::from_bits(id(9, number)),
                url: UpstreamUrl::parse(&format!("http://{origin}"))?,
                weight: 1,
            }],
            balance: Balance::RoundRobin,
            hash_on: None,
            protocol: Protocol::Auto,
            tls: UpstreamTls::default(),
            health_check: None,
            timeout_ms: 10_000,
            retries: 1,
            resilience: Resilience::default(),
        },
        limits: Vec::new(),
        max_body_bytes: 1 << 20,
        delivery: Delivery::default(),
        validation: None,
        operations: vec![operation("GET", "/patients"), operation("GET", "/patients/{id}")],
    })
}
