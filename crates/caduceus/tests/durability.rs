//! What was acknowledged is there after a crash, exactly once; and the gateway serves while the database is away.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking; how long they take is said by the environment"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Api, Client, Database, Installation, Postgres, Tenant, Upstream, eventually};
use tokio::task::JoinSet;

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(20);

/// An API with an application that calls it.
struct Called {
    installation: Installation,
    hospital: Tenant,
    api: Api,
    key: String,
    _upstream: Upstream,
}

impl Called {
    async fn start(database: Database) -> Self {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let upstream = Upstream::healthy("only").await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({})).await;
        hospital.deploy(&api, "/scheduling", &[upstream.url()], &json!({})).await;
        let application = hospital.application("Caller").await;
        hospital.subscribe(&application, &api, &plan).await;
        let key = hospital.key(&application).await.secret;
        installation.settled().await;
        Self { installation, hospital, api, key, _upstream: upstream }
    }

    fn caller(&self) -> Client {
        self.installation.gateway().with_header("x-api-key", &self.key)
    }

    async fn volume(&self) -> u64 {
        let path = format!("/apis/{}/metrics?period=24h", self.api.id);
        let seen = self.hospital.provider().get(&path).await.ok();
        seen["metrics"]["callVolume"].as_u64().unwrap()
    }
}

/// What a writer was told, over all rounds.
#[derive(Default)]
struct Ledger {
    number: u64,
    /// Applications by name, with their identifiers.
    made: BTreeMap<String, String>,
    /// Identifiers of keys, by the identifier of their application.
    keys: BTreeMap<String, String>,
    removed: BTreeSet<String>,
    /// Applications of earlier rounds, to be removed.
    old: Vec<String>,
    /// A name that was asked for without an answer.
    unanswered: Option<String>,
    /// An identifier whose removal was asked for without an answer.
    leaving: Option<String>,
}

/// Makes applications and keys, and removes old ones, until nobody answers.
async fn write(consumer: Client, ledger: Arc<Mutex<Ledger>>) {
    loop {
        let name = {
            let mut ledger = ledger.lock().unwrap();
            ledger.number += 1;
            let name = format!("Application {}", ledger.number);
            ledger.unanswered = Some(name.clone());
            name
        };
        let Ok(answer) = make(&consumer, &name).try_send().await else { return };
        let id = text(&answer.created(), "id");
        {
            let mut ledger = ledger.lock().unwrap();
            ledger.unanswered = None;
            ledger.made.insert(name, id.clone());
        }
        let path = format!("/applications/{id}/credentials");
        let Ok(answer) = consumer.post(&path, &json!({ "type": "api_key" })).try_send().await
        else {
            return;
        };
        let old = {
            let mut ledger = ledger.lock().unwrap();
            ledger.keys.insert(id, text(&answer.created(), "id"));
            let old = ledger.old.pop();
            ledger.leaving.clone_from(&old);
            old
        };
        if let Some(old) = old {
            let path = format!("/applications/{old}");
            let Ok(answer) = consumer.delete(&path).try_send().await else { return };
            answer.expect_status(204);
            let mut ledger = ledger.lock().unwrap();
            ledger.leaving = None;
            ledger.removed.insert(old);
        }
    }
}

fn make(consumer: &Client, name: &str) -> testkit::Call {
    consumer.post("/applications", &json!({ "name": name })).header("idempotency-key", name)
}

/// Calls through the gateway until nobody answers.
async fn call(caller: Client, sent: Arc<AtomicU64>, answered: Arc<AtomicU64>) {
    loop {
        sent.fetch_add(1, Ordering::SeqCst);
        let Ok(answer) = caller.get("/scheduling/appointments").try_send().await else { return };
        assert_eq!(answer.status, 200, "{}", answer.text());
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// Fails unless everything that was acknowledged is there, exactly once.
async fn check(consumer: &Client, ledger: &Mutex<Ledger>) {
    let unanswered = ledger.lock().unwrap().unanswered.take();
    if let Some(name) = unanswered {
        // Asking again under the same key makes one, whether the first request was done or not.
        let id = text(&make(consumer, &name).await.created(), "id");
        ledger.lock().unwrap().made.insert(name, id);
    }
    let listed = list(consumer).await;
    let mut ledger = ledger.lock().unwrap();
    for (name, id) in &ledger.made {
        let found = listed.iter().filter(|(_, known)| *known == name).count();
        let may_be_gone = ledger.leaving.as_ref() == Some(id);
        if ledger.removed.contains(id) {
            assert_eq!(found, 0, "{name} was removed and is there");
        } else {
            assert!(found == 1 || (may_be_gone && found == 0), "{name} is there {found} times");
        }
    }
    let alive: Vec<_> =
        ledger.made.values().filter(|id| listed.contains_key(*id)).cloned().collect();
    let gone = ledger.leaving.take().filter(|id| !alive.contains(id));
    ledger.removed.extend(gone);
    assert_eq!(listed.len(), alive.len() + 1, "beside these there is the caller alone");
    ledger.old = alive;
}

async fn check_keys(consumer: &Client, ledger: &Mutex<Ledger>) {
    let keys: Vec<(String, String)> = {
        let ledger = ledger.lock().unwrap();
        let alive = ledger.keys.iter().filter(|(application, _)| ledger.old.contains(application));
        alive.map(|(application, key)| (application.clone(), key.clone())).collect()
    };
    for (application, key) in keys {
        let listed = consumer.get(&format!("/applications/{application}/credentials")).await;
        let listed = listed.items();
        assert_eq!(listed.iter().filter(|known| known["id"] == key.as_str()).count(), 1);
    }
}

/// Names of all applications, by identifier.
async fn list(consumer: &Client) -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    for page in 1.. {
        let items = consumer.get(&format!("/applications?limit=200&page={page}")).await.items();
        if items.is_empty() {
            break;
        }
        for item in items {
            let earlier = listed.insert(text(&item, "id"), text(&item, "name"));
            assert_eq!(earlier, None, "an application is listed twice");
        }
    }
    listed
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

/// How often the server is killed.
fn rounds() -> u32 {
    match std::env::var("CADUCEUS_TEST_KILLS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 10,
    }
}

/// From 50 to 650 ms.
fn random_moment() -> Duration {
    Duration::from_millis(50 + RandomState::new().build_hasher().finish() % 600)
}

testkit::on_both_databases! {
    async fn nothing_acknowledged_is_lost_when_the_server_is_killed(database: Database) {
        let mut called = Called::start(database).await;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (sent, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for round in 0..rounds() {
            let mut clients = JoinSet::new();
            clients.spawn(write(called.hospital.consumer().clone(), Arc::clone(&ledger)));
            for _ in 0..2 {
                let (sent, answered) = (Arc::clone(&sent), Arc::clone(&answered));
                clients.spawn(call(called.caller(), sent, answered));
            }
            // The moment is the point of the test, not something to wait for.
            tokio::time::sleep(random_moment()).await;
            called.installation.kill9();
            clients.join_all().await;
            called.installation.launch_gateway().await;
            called.caller().get("/scheduling/appointments").await.expect_status(200);
            sent.fetch_add(1, Ordering::SeqCst);
            answered.fetch_add(1, Ordering::SeqCst);
            called.installation.wait_for_control_api().await;

            check(called.hospital.consumer(), &ledger).await;
            check_keys(called.hospital.consumer(), &ledger).await;
            let (sent, answered) = (sent.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
            let what = format!("round {round}: {answered} calls are counted");
            let volume = eventually(&what, SOON, || async {
                let volume = called.volume().await;
                (volume >= answered).then_some(volume)
            }).await;
            assert!(volume <= sent, "{volume} calls are counted, {sent} were sent");
        }
        let ledger = ledger.lock().unwrap();
        assert!(ledger.made.len() > 10 && ledger.keys.len() > 10, "{} writes", ledger.made.len());
        assert!(answered.load(Ordering::SeqCst) > 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_serves_when_the_database_is_away_at_the_start() {
    let mut postgres = Postgres::start().await;
    let mut called = Called::start(Database::on(&postgres.url()).await).await;
    let consumer = called.hospital.consumer().clone();
    assert!(called.installation.terminate().await.success());
    postgres.stop();
    called.installation.launch_gateway().await;
    for _ in 0..20 {
        called.caller().get("/scheduling/appointments").await.expect_status(200);
    }
    let operations = called.installation.operations();
    operations.get("/livez").await.expect_status(200);
    operations.get("/readyz").await.expect_status(200);
    assert_eq!(operations.get("/readyz?verbose").await.ok()["database"], "away");
    for path in ["/applications", "/auth/jwks", "/apis"] {
        let answer = consumer.get(path).await;
        answer.assert_problem(503, "database_unavailable");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    }
    postgres.resume().await;
    called.installation.wait_for_control_api().await;
    assert_eq!(consumer.get("/applications").await.total(), 1);
    eventually("the calls of meanwhile are counted", SOON, || async {
        (called.volume().await == 20).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_serves_while_the_database_is_away() {
    let mut postgres = Postgres::start().await;
    let called = Called::start(Database::on(&postgres.url()).await).await;
    let consumer = called.hospital.consumer();
    for crash in [Postgres::stop, Postgres::kill] {
        crash(&mut postgres);
        let answer = consumer.post("/applications", &json!({ "name": "Lost" })).await;
        answer.assert_problem(503, "database_unavailable");
        for _ in 0..10 {
            called.caller().get("/scheduling/appointments").await.expect_status(200);
        }
        called.installation.operations().get("/readyz").await.expect_status(200);
        postgres.resume().await;
        eventually("the control API is back", SOON, || async {
            (consumer.get("/applications").await.status == 200).then_some(())
        })
        .await;
        assert_eq!(consumer.get("/applications").await.total(), 1, "what was refused is not there");
    }
    let made = consumer.post("/applications", &json!({ "name": "Later" })).await.created();
    assert_eq!(made["name"], "Later");
    eventually("the calls of meanwhile are counted", SOON, || async {
        (called.volume().await == 20).then_some(())
    })
    .await;
}

/// A restored database with a key of its own would lose every API key without a word.
#[tokio::test]
async fn a_database_is_not_served_under_another_master_key() {
    let installation = Installation::start(BINARY, Database::postgres().await).await;
    let mut twin = installation.twin(json!({}));
    let key = twin.data().join("master.key");
    let right = std::fs::read_to_string(&key).unwrap();
    let wrong =
        right.replacen(&right[..4], if right.starts_with("0000") { "ffff" } else { "0000" }, 1);
    std::fs::write(&key, wrong).unwrap();
    twin.launch_gateway().await;
    eventually("it says why", Duration::from_secs(20), || async {
        twin.log().contains("the database was made under another master key").then_some(())
    })
    .await;
    twin.anonymous().get("/me").await.assert_problem(503, "database_unavailable");
    twin.kill9();
    std::fs::remove_dir_all(twin.data().join("gateway")).unwrap();
    std::fs::write(&key, right).unwrap();
    twin.launch_gateway().await;
    twin.wait_for_control_api().await;
}
