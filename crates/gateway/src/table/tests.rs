use model::{ApiId, Balance, Route, Target, TargetId, UpstreamUrl};

use super::*;

fn entry(number: u128, host: Option<&str>, prefix: &str) -> DeploymentEntry {
    DeploymentEntry {
        id: DeploymentId::from_bits(number),
        api: ApiId::from_bits(1),
        api_name: "Lab".to_owned(),
        version: VersionId::from_bits(number),
        version_number: "1.0.0".to_owned(),
        tenant: TenantId::from_bits(1),
        tenant_slug: "north".to_owned(),
        audience: Audience::Everyone,
        lifecycle: ApiLifecycle::Active,
        route: Route::new(host, prefix, false).unwrap(),
        upstream: model::Upstream {
            targets: vec![Target {
                id: TargetId::from_bits(1),
                url: UpstreamUrl::parse("http://10.0.0.1").unwrap(),
                weight: 1,
            }],
            balance: Balance::RoundRobin,
            hash_on: None,
            protocol: model::Protocol::Auto,
            tls: model::UpstreamTls::default(),
            health_check: None,
            timeout_ms: 1_000,
            retries: 1,
            resilience: model::Resilience::default(),
        },
        limits: Vec::new(),
        max_body_bytes: 1_000,
        delivery: model::Delivery::default(),
        operations: Vec::new(),
        validation: None,
    }
}

fn structure(deployments: Vec<DeploymentEntry>) -> Structure {
    Structure {
        number: 1,
        compiled_at: Timestamp::from_second(1_700_000_000).unwrap(),
        deployments: deployments.into_iter().map(Arc::new).collect(),
        plans: Vec::new(),
        inactive_tenants: Vec::new(),
    }
}

fn compile(structure: &Structure, previous: Option<&Table>) -> Result<Table, PublishError> {
    let callers = Arc::new(Callers { roster: Roster::new(), quotas: Quotas::new() });
    Table::compile(structure, previous, &callers, &Metrics::new(1, 100))
}

#[test]
fn the_longest_prefix_wins_and_ends_at_a_segment() {
    let table = compile(
        &structure(vec![
            entry(1, None, "/"),
            entry(2, None, "/lab"),
            entry(3, None, "/lab/v2/results"),
            entry(4, Some("b.example"), "/lab"),
        ]),
        None,
    )
    .unwrap();
    let route = |host, path| table.route(host, path).map(|deployment| deployment.id.bits());
    for (path, expected) in [
        ("/", 1),
        ("/labs", 1),
        ("/lab", 2),
        ("/lab/", 2),
        ("/lab/v2", 2),
        ("/lab/v2/resultsx", 2),
        ("/lab/v2/results", 3),
        ("/lab/v2/results/7/8/9", 3),
    ] {
        assert_eq!(route("a.example", path), Some(expected), "{path}");
    }
    assert_eq!(route("b.example", "/lab/v2/results"), Some(4));
    assert_eq!(route("b.example", "/other"), Some(1));
}

#[test]
fn one_route_belongs_to_one_deployment() {
    let both = structure(vec![entry(1, None, "/lab"), entry(2, None, "/lab/")]);
    let refused = compile(&both, None).err();
    let ids = [1, 2].map(DeploymentId::from_bits);
    assert_eq!(refused, Some(PublishError::SameRoute(ids[0], ids[1])));
}

#[test]
fn deployments_that_did_not_change_are_kept() {
    let before = structure(vec![entry(1, None, "/lab"), entry(2, None, "/x-ray")]);
    let first = compile(&before, None).unwrap();
    let mut after = before.clone();
    after.deployments[1] = Arc::new(entry(2, None, "/imaging"));
    let second = compile(&after, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&first.deployments[0], &second.deployments[0]));
    assert!(!Arc::ptr_eq(&first.deployments[1], &second.deployments[1]));
    assert!(second.route("a.example", "/imaging").is_some());
}
