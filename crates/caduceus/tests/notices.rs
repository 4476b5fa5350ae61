//! People are told of what concerns them, once each, and nobody else is.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Behaviour, Client, Database, Installation, Tenant, Upstream, eventually, from_now};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(20);
/// The watch looks every twenty seconds.
const BY_WATCH: Duration = Duration::from_secs(60);

async fn start(database: Database) -> (Installation, Tenant) {
    let installation = Installation::start(BINARY, database).await;
    let hospital = installation.tenant("hospital").await;
    (installation, hospital)
}

/// The notices of a person of one kind, newest first.
async fn of_kind(person: &Client, kind: &str) -> Vec<Value> {
    let mut items = person.get("/me/notices?limit=200").await.items();
    items.retain(|item| item["kind"] == kind);
    items
}

/// Waits until a person has so many notices of a kind.
async fn told(person: &Client, kind: &str, count: usize, within: Duration) -> Vec<Value> {
    let what = format!("{count} notices of kind {kind}");
    eventually(&what, within, || async {
        let found = of_kind(person, kind).await;
        (found.len() >= count).then_some(found)
    })
    .await
}

fn says(notice: &Value, words: &str) -> bool {
    notice["text"].as_str().unwrap().contains(words)
}

testkit::on_both_databases! {
    async fn whoever_may_act_is_told_and_whoever_asked_hears_what_became_of_it(database: Database) {
        let (installation, hospital) = start(database).await;
        let clinic = installation.tenant("clinic").await;

        let api = hospital.register("Scheduling", &json!({})).await;
        let submitted = told(hospital.reviewer(), "version_submitted", 1, SOON).await;
        assert!(says(&submitted[0], "Scheduling 1.0.0"), "{submitted:?}");
        let place = format!("/approvals/versions/{}/1.0.0", api.id);
        assert_eq!(submitted[0]["place"], place);
        hospital.approve(&api).await;
        let decided = told(hospital.provider(), "version_decided", 1, SOON).await;
        assert!(says(&decided[0], "approved"), "{decided:?}");

        let plan = json!({ "name": "Asked", "approval": "owner" });
        let plan = hospital.offer_plan(&api, &plan).await;
        let application = clinic.application("Ward app").await;
        let subscription = clinic.subscribe(&application, &api, &plan).await;
        for role in ["tenant-admin", "provider", "reviewer"] {
            let asked = told(hospital.person(role), "access_requested", 1, SOON).await;
            assert!(says(&asked[0], "Ward app of Tenant clinic"), "{asked:?}");
        }
        let path = format!("/subscriptions/{}/approve", subscription["id"].as_str().unwrap());
        let body = json!({ "comments": "patient Jane Roe is waiting" });
        hospital.provider().post(&path, &body).await.ok();
        let answered = told(clinic.consumer(), "access_decided", 1, SOON).await;
        assert!(says(&answered[0], "may call it now"), "{answered:?}");
        assert!(!answered[0].to_string().contains("Jane Roe"), "a comment is quoted");

        let path = format!("/apis/{}/deprecate", api.id);
        hospital.provider().post(&path, &json!({ "sunsetAt": from_now(86_400) })).await.ok();
        let ending = told(clinic.consumer(), "version_deprecated", 1, SOON).await;
        assert!(says(&ending[0], "stops answering on"), "{ending:?}");
        hospital.provider().post(&format!("/apis/{}/retire", api.id), &json!({})).await.ok();
        told(clinic.consumer(), "version_retired", 1, SOON).await;

        for person in [hospital.auditor(), hospital.consumer(), clinic.provider(), clinic.auditor()] {
            let mut heard = person.get("/me/notices").await.items();
            heard.retain(|notice| notice["kind"] != "invitation");
            assert_eq!(heard, Vec::<Value>::new());
        }
        assert_eq!(of_kind(clinic.reviewer(), "access_requested").await, Vec::<Value>::new());
        assert_eq!(of_kind(clinic.consumer(), "access_requested").await, Vec::<Value>::new());
    }

    async fn where_a_tenant_has_no_reviewer_the_platform_hears_of_a_version(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let body = json!({ "slug": "small", "name": "Small" });
        let small = installation.admin().post("/admin/tenants", &body).await.created();
        let body = json!({
            "email": "solo@small.example", "name": "Solo", "roles": ["provider"], "tenantId": small["id"],
        });
        let invited = installation.admin().post("/admin/users", &body).await.created();
        let body = json!({ "token": invited["invitationToken"], "password": testkit::PASSWORD });
        installation.anonymous().post("/auth/accept-invitation", &body).await.ok();
        let solo = installation.anonymous().sign_in("solo@small.example", testkit::PASSWORD).await;
        solo.post("/apis", &Tenant::api_draft("Lonely", &json!({}))).await.created();
        told(installation.admin(), "version_submitted", 1, SOON).await;
        assert_eq!(of_kind(&solo, "version_submitted").await, Vec::<Value>::new());
    }

    async fn an_inbox_is_read_by_its_owner_alone(database: Database) {
        let (_installation, hospital) = start(database).await;
        for name in ["One", "Two", "Three", "Four"] {
            hospital.register(name, &json!({})).await;
        }
        let reviewer = hospital.reviewer();
        told(reviewer, "version_submitted", 4, SOON).await;
        let first = reviewer.get("/me/notices?limit=2").await.ok();
        assert_eq!(first["unreadCount"], 4, "an invitation that was accepted is no news");
        let cursor = first["nextCursor"].as_str().unwrap();
        let second = reviewer.get(&format!("/me/notices?limit=2&cursor={cursor}")).await.items();
        let all = [first["items"].as_array().unwrap().clone(), second].concat();
        let ids: Vec<_> = all.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");

        let path = format!("/me/notices/{}/read", ids[0]);
        hospital.provider().post(&path, &json!({})).await.assert_problem(404, "notice_not_found");
        for _ in 0..2 {
            reviewer.post(&path, &json!({})).await.expect_status(204);
        }
        let unread = reviewer.get("/me/notices?unread=true").await.ok();
        assert_eq!((&unread["unreadCount"], unread["items"].as_array().unwrap().len()), (&json!(3), 3));
        reviewer.post("/me/notices/read-all?dryRun=true", &json!({})).await.expect_status(204);
        assert_eq!(reviewer.get("/me/notices").await.ok()["unreadCount"], 3);
        reviewer.post("/me/notices/read-all", &json!({})).await.expect_status(204);
        assert_eq!(reviewer.get("/me/notices").await.ok()["unreadCount"], 0);
        assert_eq!(of_kind(reviewer, "version_submitted").await.len(), 4);
    }

    async fn what_is_sent_is_decided_under_a_revision(database: Database) {
        let (_installation, hospital) = start(database).await;
        let path = "/me/notice-settings";
        let before = hospital.consumer().get(path).await;
        assert_eq!(before.etag(), "\"0\"");
        assert_eq!(before.json()["mailings"]["keyExpiring"], "immediately");
        assert_eq!(before.json()["sendsMail"], false);
        let body = json!({ "mailings": { "keyExpiring": "daily", "errorSpike": "off" } });
        let put = hospital.consumer().put(path, &body).header("if-match", "\"0\"").await.ok();
        assert_eq!((&put["mailings"]["keyExpiring"], &put["mailings"]["errorSpike"]), (&json!("daily"), &json!("off")));
        assert_eq!(put["mailings"]["accountLocked"], "immediately");
        let stale = hospital.consumer().put(path, &body).header("if-match", "\"0\"").await;
        assert_eq!(stale.status, 412);
        for wrong in [json!({ "invitation": "off" }), json!({ "keyExpiring": "hourly" })] {
            let answer = hospital.consumer().put(path, &json!({ "mailings": wrong })).await;
            answer.assert_problem(422, "validation_failed");
        }
        assert_eq!(hospital.provider().get(path).await.etag(), "\"0\"", "somebody else's changed");
    }

    async fn a_program_has_no_inbox(database: Database) {
        let (installation, hospital) = start(database).await;
        let application = hospital.application("Robot").await;
        let path = format!("/applications/{application}/credentials");
        let body = json!({ "type": "oauth_client", "roles": ["consumer"] });
        let made = hospital.consumer().post(&path, &body).await.created();
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", made["clientId"].as_str().unwrap()),
            ("client_secret", made["clientSecret"].as_str().unwrap()),
        ];
        let token = installation.anonymous().ask_token(&fields).await.ok();
        let robot = installation.anonymous().with_token(token["access_token"].as_str().unwrap());
        robot.get("/me/notices").await.assert_problem(403, "forbidden");
        robot.get("/me/notice-settings").await.assert_problem(403, "forbidden");
    }

    async fn a_lock_is_told_once_however_long_somebody_guesses(database: Database) {
        let (installation, hospital) = start(database).await;
        let fields = [
            ("grant_type", "password"), ("username", "consumer@hospital.example"), ("password", "wrong"),
        ];
        for _ in 0..5 {
            installation.anonymous().ask_token(&fields).await.assert_problem(401, "unauthenticated");
        }
        let locked = told(hospital.consumer(), "account_locked", 1, SOON).await;
        assert!(says(&locked[0], "wrong password"), "{locked:?}");
        installation.sql("UPDATE account SET locked_until = NULL WHERE failed_attempts > 0").await;
        installation.anonymous().ask_token(&fields).await.assert_problem(401, "unauthenticated");
        // What comes later is told later: the lock of the sixth would be there.
        hospital.register("Later", &json!({})).await;
        told(hospital.reviewer(), "version_submitted", 1, SOON).await;
        assert_eq!(of_kind(hospital.consumer(), "account_locked").await.len(), 1);
    }

    async fn an_expiring_key_is_told_once_for_each_of_14_3_and_1_days(database: Database) {
        let (mut installation, hospital) = start(database).await;
        let application = hospital.application("Ward app").await;
        let path = format!("/applications/{application}/credentials");
        let key = |name: &str, days: i64| {
            json!({ "type": "api_key", "name": name, "expiresAt": from_now(days * 86_400) })
        };
        let consumer = hospital.consumer().clone();
        consumer.post(&path, &key("Month key", 30)).await.created();
        consumer.post(&path, &key("Far key", 40)).await.created();
        // Made to live for two days: that it ends within three is no news.
        consumer.post(&path, &key("Short key", 2)).await.created();
        let nearer = async |installation: &mut Installation, name: &str, days: i64| {
            let micros = days * 86_400_000_000;
            let sql = format!(
                "UPDATE credential SET expires_at = expires_at - {micros}, created_at = created_at - {micros}
                 WHERE name = '{name}'"
            );
            installation.sql(&sql).await;
            installation.restart().await;
        };
        // 30 days ahead, then 13, 2, and one.
        for (count, days) in [(1, 17), (2, 11), (3, 1)] {
            nearer(&mut installation, "Month key", days).await;
            let found = told(&consumer, "key_expiring", count, BY_WATCH).await;
            assert_eq!(found.len(), count, "{found:?}");
        }
        nearer(&mut installation, "Far key", 30).await;
        let found = told(&consumer, "key_expiring", 4, BY_WATCH).await;
        assert!(says(&found[0], "Far key"), "{found:?}");
        assert!(found[1..].iter().all(|notice| says(notice, "Month key")), "{found:?}");
        assert_eq!(found.len(), 4);
    }

    async fn an_api_that_fails_more_than_usual_is_told_once_an_hour(database: Database) {
        let (mut installation, hospital) = start(database).await;
        let upstream = Upstream::start("scheduling", Behaviour::Failing(500)).await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({})).await;
        hospital.deploy(&api, "/scheduling", &[upstream.url()], &json!({})).await;
        let application = hospital.application("Ward app").await;
        hospital.subscribe(&application, &api, &plan).await;
        let key = hospital.key(&application).await;
        installation.settled().await;
        for _ in 0..40 {
            let call = installation.gateway().get("/scheduling/appointments");
            call.header("x-api-key", &key.secret).await;
        }
        let failing = told(hospital.provider(), "error_spike", 1, BY_WATCH).await;
        assert!(says(&failing[0], "calls of Scheduling failed"), "{failing:?}");
        told(hospital.admin(), "error_spike", 1, SOON).await;
        installation.restart().await;
        installation.sql("UPDATE alarm SET at = at - 3500000000").await;
        hospital.register("Later", &json!({})).await;
        told(hospital.reviewer(), "version_submitted", 2, SOON).await;
        assert_eq!(of_kind(hospital.provider(), "error_spike").await.len(), 1);
        installation.sql("UPDATE alarm SET at = at - 200000000").await;
        installation.restart().await;
        told(hospital.provider(), "error_spike", 2, BY_WATCH).await;
        assert_eq!(of_kind(hospital.consumer(), "error_spike").await.len(), 0);
    }

    async fn each_is_told_exactly_once_however_often_the_process_is_killed(database: Database) {
        let (mut installation, hospital) = start(database).await;
        let mut written = 0;
        for round in 0..6 {
            for number in 0..4 {
                hospital.register(&format!("API {round} {number}"), &json!({})).await;
                written += 1;
            }
            // At another moment of the work each time.
            tokio::time::sleep(Duration::from_millis(7 * round)).await;
            installation.restart().await;
        }
        let found = told(hospital.reviewer(), "version_submitted", written, SOON).await;
        assert_eq!(found.len(), written);
        let mut texts: Vec<_> = found.iter().map(|notice| notice["text"].to_string()).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), written, "one was told twice");
    }

    async fn many_people_are_told_in_several_turns_and_once_each(database: Database) {
        let (mut installation, hospital) = start(database).await;
        installation.sql(
            "INSERT INTO account (id, tenant_id, email, name, roles, status, password_hash, failed_attempts,
                                  created_at, updated_at, revision)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 450)
             SELECT 'usr_0000000000000000000000' || SUBSTR(CAST(10000 + i AS TEXT), 2), account.tenant_id,
                    'reviewer' || CAST(i AS TEXT) || '@hospital.example', account.name, account.roles, account.status,
                    account.password_hash, 0, account.created_at, account.updated_at, 1
             FROM n, account WHERE account.email = 'reviewer@hospital.example'"
        ).await;
        hospital.register("One", &json!({})).await;
        installation.restart().await;
        told(hospital.reviewer(), "version_submitted", 1, SOON).await;
        for number in [1, 199, 200, 201, 400, 401, 450] {
            let email = format!("reviewer{number}@hospital.example");
            let person = installation.anonymous().sign_in(&email, testkit::PASSWORD).await;
            assert_eq!(person.get("/me/notices").await.items().len(), 1, "{email}");
        }
    }

    async fn an_inbox_is_bounded_in_number_and_in_time(database: Database) {
        let (mut installation, hospital) = start(database).await;
        hospital.register("One", &json!({})).await;
        let first = told(hospital.reviewer(), "version_submitted", 1, SOON).await;
        let id = first[0]["id"].as_str().unwrap();
        // A thousand more, older ones.
        installation.sql(&format!(
            "INSERT INTO notice (id, user_id, news, at, read_at)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             SELECT 'ntc_0000000000000000000000' || SUBSTR(CAST(10000 + i AS TEXT), 2), notice.user_id, notice.news,
                    notice.at, notice.at
             FROM n, notice WHERE notice.id = '{id}'"
        )).await;
        hospital.register("Two", &json!({})).await;
        eventually("the second is told", SOON, || async {
            let newest = hospital.reviewer().get("/me/notices?limit=1").await.items();
            says(&newest[0], "Two").then_some(())
        }).await;
        let (mut count, mut cursor) = (0, String::new());
        loop {
            let path = format!("/me/notices?limit=200{cursor}");
            let page = hospital.reviewer().get(&path).await.ok();
            count += page["items"].as_array().unwrap().len();
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(count, 1_000);
        installation.sql(&format!("UPDATE notice SET at = at - 7862400000000 WHERE id <> '{id}'")).await;
        installation.restart().await;
        eventually("what is older than ninety days is forgotten", SOON, || async {
            let left = hospital.reviewer().get("/me/notices?limit=200").await.items();
            (left.len() == 1).then_some(())
        }).await;
    }
}
