//! Gateways on other machines: enrolled, told, counted, cut off; and what holds while the control plane is away.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking; how long they take is said by the environment"
)]

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use feed::{CallError, EnrolError};
use serde_json::json;
use testkit::{Api, Client, Database, Installation, Node, Postgres, Tenant, Upstream, eventually};
use tokio::task::JoinSet;

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(20);
/// How soon a revoked key is refused everywhere.
const REVOKED: Duration = Duration::from_secs(2);

/// A control plane with an API, and an application that calls it through a gateway elsewhere.
struct Called {
    installation: Installation,
    feed: SocketAddr,
    hospital: Tenant,
    api: Api,
    application: String,
    key: String,
    _upstream: Upstream,
}

impl Called {
    async fn start(database: Database) -> Self {
        let feed = Node::free_address();
        let changes = json!({ "feed": { "listen": feed } });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let hospital = installation.tenant("hospital").await;
        let upstream = Upstream::healthy("only").await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({})).await;
        hospital.deploy(&api, "/scheduling", &[upstream.url()], &json!({})).await;
        let application = hospital.application("Caller").await;
        hospital.subscribe(&application, &api, &plan).await;
        let key = hospital.key(&application).await.secret;
        installation.settled().await;
        Self { installation, feed, hospital, api, application, key, _upstream: upstream }
    }

    async fn token(&self) -> String {
        let body = json!({ "name": "Ward gateway" });
        let made = self.installation.admin().post("/admin/nodes/tokens", &body).await.created();
        made["token"].as_str().unwrap().to_owned()
    }

    async fn node(&self) -> Node {
        let node = Node::start(BINARY, self.feed, &self.token().await).await;
        eventually("the gateway serves", SOON, || async {
            (call(&node, &self.key).await == Some(200)).then_some(())
        })
        .await;
        node
    }

    async fn volume(&self) -> u64 {
        let path = format!("/apis/{}/metrics?period=24h", self.api.id);
        let seen = self.hospital.provider().get(&path).await.ok();
        seen["metrics"]["callVolume"].as_u64().unwrap()
    }
}

async fn call(node: &Node, key: &str) -> Option<u16> {
    let caller = node.gateway().with_header("x-api-key", key);
    caller.get("/scheduling/appointments").try_send().await.ok().map(|answer| answer.status)
}

async fn becomes(node: &Node, key: &str, status: u16, within: Duration) {
    eventually(&format!("the answer is {status}"), within, || async {
        (call(node, key).await == Some(status)).then_some(())
    })
    .await;
}

/// How often something is killed.
fn rounds() -> u32 {
    match std::env::var("CADUCEUS_TEST_KILLS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 4,
    }
}

testkit::on_both_databases! {
    async fn a_remote_gateway_is_told_counts_and_is_cut_off(database: Database) {
        let called = Called::start(database).await;
        let node = called.node().await;
        let consumer = called.hospital.consumer();
        let credentials = format!("/applications/{}/credentials", called.application);
        let made = consumer.post(&credentials, &json!({ "type": "api_key" })).await.created();
        let (id, fresh) = (made["id"].as_str().unwrap(), made["apiKey"].as_str().unwrap());
        becomes(&node, fresh, 200, REVOKED).await;
        consumer.delete(&format!("{credentials}/{id}")).await.expect_status(204);
        becomes(&node, fresh, 401, REVOKED).await;

        let before = eventually("usage has come to rest", SOON, || async {
            let first = called.volume().await;
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            (first > 0 && first == called.volume().await).then_some(first)
        }).await;
        for _ in 0..25 {
            assert_eq!(call(&node, &called.key).await, Some(200));
        }
        eventually("every call is counted", SOON, || async {
            (called.volume().await == before + 25).then_some(())
        }).await;

        let admin = called.installation.admin();
        let listed = admin.get("/admin/nodes").await.items();
        assert_eq!((listed.len(), listed[0]["status"].as_str()), (1, Some("active")));
        let state = node.state().await;
        assert_eq!((&state["feed"]["node"], &state["feed"]["state"]),
            (&listed[0]["id"], &json!("connected")));
        let metrics = node.operations().get("/metrics").await.text();
        assert!(metrics.contains("caduceus_feed_connected 1") && metrics.ends_with("# EOF\n"), "{metrics}");
        assert_eq!(node.operations().get("/api/v1/apis").await.status, 404);

        let path = format!("/admin/nodes/{}", listed[0]["id"].as_str().unwrap());
        admin.delete(&path).await.expect_status(204);
        eventually("the gateway is cut off", Duration::from_secs(5), || async {
            (node.state().await["feed"]["state"] == "refused").then_some(())
        }).await;
        let late = called.hospital.key(&called.application).await.secret;
        called.installation.settled().await;
        assert_eq!(call(&node, &late).await, Some(401));
        assert_eq!(call(&node, &called.key).await, Some(200));
    }

    async fn a_token_is_good_once_and_names_whom_to_trust(database: Database) {
        let called = Called::start(database).await;
        let address = called.feed.to_string();
        let token = called.token().await;
        let (fingerprint, secret) = token.strip_prefix("cadnode_").unwrap().split_once('.').unwrap();
        let refused = |outcome: Result<feed::Identity, EnrolError>| {
            matches!(outcome, Err(EnrolError::Call(CallError::Refused)))
        };
        assert!(refused(feed::enrol(&address, &format!("cadnode_{fingerprint}.guessed")).await));
        let elsewhere = format!("cadnode_{}.{secret}", "ab".repeat(32));
        let outcome = feed::enrol(&address, &elsewhere).await.err().unwrap();
        assert!(matches!(outcome, EnrolError::Call(error) if error.is_mistrust()));
        feed::enrol(&address, &token).await.unwrap();
        assert!(refused(feed::enrol(&address, &token).await), "the token was used");
        let late = called.token().await;
        called.installation.sql("UPDATE node_token SET expires_at = 1 WHERE used_at IS NULL").await;
        assert!(refused(feed::enrol(&address, &late).await), "the token has ended");
        let body = json!({ "name": "Late", "expiresInSeconds": 59 });
        let answer = called.installation.admin().post("/admin/nodes/tokens", &body).await;
        answer.assert_problem(422, "validation_failed");
    }

    async fn a_certificate_is_renewed_and_the_one_before_ends_with_its_use(database: Database) {
        let called = Called::start(database).await;
        let address = called.feed.to_string();
        let refused = |outcome: Result<feed::Identity, EnrolError>| {
            matches!(outcome, Err(EnrolError::Call(CallError::Refused)))
        };
        let first = feed::enrol(&address, &called.token().await).await.unwrap();
        let lost = first.renewed(&address).await.unwrap();
        assert_eq!(lost.node(), first.node());
        // An answer that never arrived costs nothing: the first one is still good.
        let second = first.renewed(&address).await.unwrap();
        assert!(refused(lost.renewed(&address).await));
        let third = second.renewed(&address).await.unwrap();
        assert!(refused(first.renewed(&address).await));
        let path = format!("/admin/nodes/{}", third.node());
        called.installation.admin().delete(&path).await.expect_status(204);
        assert!(refused(third.renewed(&address).await));
    }

    async fn a_database_from_before_the_roster_is_upgraded(database: Database) {
        let mut called = Called::start(database).await;
        assert!(called.installation.terminate().await.success());
        called.installation.sql(
            "DROP TABLE roster; DROP TABLE roster_head; DROP TABLE node; DROP TABLE node_token;
             DROP INDEX deployment_by_api; DELETE FROM schema_step WHERE number = 4",
        ).await;
        called.installation.restart().await;
        let node = called.node().await;
        let state = node.state().await;
        assert_eq!((&state["gateway"]["credentials"], &state["gateway"]["agreements"]), (&json!(1), &json!(1)));
    }

    async fn a_gateway_that_differs_begins_anew(database: Database) {
        let called = Called::start(database).await;
        let node = called.node().await;
        let other = called.hospital.key(&called.application).await;
        becomes(&node, &other.secret, 200, REVOKED).await;
        // The row vanishes without a word; only the digest says that something is wrong.
        let id = &other.id;
        called.installation.sql(&format!(
            "DELETE FROM roster WHERE subject = '{id}'; UPDATE roster_head SET digest = '7'"
        )).await;
        becomes(&node, &other.secret, 401, SOON).await;
        assert_eq!(call(&node, &called.key).await, Some(200));
    }

    async fn usage_is_counted_once_whatever_is_killed(database: Database) {
        let mut called = Called::start(database).await;
        let mut node = called.node().await;
        let (sent, answered) = (Arc::new(AtomicU64::new(20)), Arc::new(AtomicU64::new(1)));
        for round in 0..rounds() {
            let stop = Arc::new(AtomicBool::new(false));
            let mut callers = JoinSet::new();
            for _ in 0..2 {
                let caller = node.gateway().with_header("x-api-key", &called.key);
                callers.spawn(keep_calling(caller, Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&answered)));
            }
            // The moment is the point of the test, not something to wait for.
            tokio::time::sleep(Duration::from_millis(u64::from(300 + 370 * (round % 5)))).await;
            if round % 2 == 0 {
                node.kill9();
                callers.join_all().await;
                node.launch().await;
            } else {
                called.installation.restart().await;
                stop.store(true, Ordering::SeqCst);
                callers.join_all().await;
            }
            becomes(&node, &called.key, 200, SOON).await;
            sent.fetch_add(20, Ordering::SeqCst);
            answered.fetch_add(1, Ordering::SeqCst);
        }
        let (sent, answered) = (sent.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
        assert!(node.terminate().await.success());
        let volume = eventually("the calls are counted", SOON, || async {
            let volume = called.volume().await;
            (volume >= answered).then_some(volume)
        }).await;
        assert!(volume <= sent, "{volume} calls are counted, {sent} were sent");
        assert!(answered > 50, "{answered}");
    }
}

/// Calls until it is told to stop or nobody answers; every answer must be good.
async fn keep_calling(
    caller: Client,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
) {
    while !stop.load(Ordering::SeqCst) {
        sent.fetch_add(1, Ordering::SeqCst);
        let Ok(answer) = caller.get("/scheduling/appointments").try_send().await else { return };
        assert_eq!(answer.status, 200, "{}", answer.text());
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_gateway_serves_while_control_plane_and_database_are_away() {
    let mut postgres = Postgres::start().await;
    let mut called = Called::start(Database::on(&postgres.url()).await).await;
    let mut node = called.node().await;
    let number = called.installation.operations().get("/readyz?verbose").await.ok();
    node.reaches(number["gateway"]["configNumber"].as_u64().unwrap()).await;
    called.installation.kill9();
    postgres.kill();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(call(&node, &called.key).await, Some(200));
    }
    node.kill9();
    node.launch().await;
    for _ in 0..50 {
        assert_eq!(call(&node, &called.key).await, Some(200));
    }
    node.operations().get("/readyz").await.expect_status(200);
    eventually("the gateway says that it is alone", SOON, || async {
        (node.state().await["feed"]["state"] == "away").then_some(())
    })
    .await;
    postgres.resume().await;
    // As a control plane alone, this time.
    called.installation.set_role("control");
    called.installation.launch_gateway().await;
    called.installation.wait_for_control_api().await;
    let late = called.hospital.key(&called.application).await.secret;
    becomes(&node, &late, 200, SOON).await;
    eventually("the calls of meanwhile are counted", SOON, || async {
        (called.volume().await >= 50).then_some(())
    })
    .await;
}

/// A balancer before gateways, which asks them whether they are ready.
struct Balancer {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Balancer {
    fn before(nodes: &[&Node]) -> Self {
        let address = Node::free_address();
        let servers: String = (1..)
            .zip(nodes)
            .map(|(number, node)| {
                let (calls, checks) = (node.gateway().address(), node.operations().address());
                format!("    server gateway-{number} {calls} check port {}\n", checks.port())
            })
            .collect();
        let config = format!(
            "defaults
    mode http
    timeout connect 1s
    timeout client 20s
    timeout server 20s
    retries 3
    option redispatch
frontend calls
    bind {address}
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /readyz
    default-server inter 100ms fall 1 rise 1
{servers}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let process = Command::new("haproxy")
            .args(["-q", "-db", "-f"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("HAProxy is missing: apt-get install haproxy");
        Self { process, address, _folder: folder }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_gateways_behind_a_balancer_are_restarted() {
    let called = Called::start(Database::sqlite()).await;
    let (mut one, mut other) = (called.node().await, called.node().await);
    let balancer = Balancer::before(&[&one, &other]);
    let caller = Client::at(balancer.address).with_header("x-api-key", &called.key);
    eventually("the balancer passes calls on", SOON, || async {
        let answer = caller.get("/scheduling/appointments").try_send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let (sent, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        callers.spawn(keep_calling(caller.clone(), stop, sent, Arc::clone(&answered)));
    }
    for node in [&mut one, &mut other] {
        let before = answered.load(Ordering::SeqCst);
        assert!(node.terminate().await.success());
        node.launch().await;
        eventually("the gateway is ready again", SOON, || async {
            let answer = node.operations().get("/readyz").try_send().await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        eventually("calls went on meanwhile", SOON, || async {
            (answered.load(Ordering::SeqCst) > before + 500).then_some(())
        })
        .await;
        // The balancer looks at it by its own clock: until it has, the other one must stay.
        eventually("the balancer passes calls to it again", SOON, || async {
            let metrics = node.operations().get("/metrics").await.text();
            metrics.contains("caduceus_gateway_requests_total{").then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    callers.join_all().await;
    assert_eq!(answered.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
}
