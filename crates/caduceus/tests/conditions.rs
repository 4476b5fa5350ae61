//! What crosses all routes of the control API: conditions, idempotency, paging, limits, signing in, the audit trail.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use testkit::{Client, Database, Installation, PASSWORD, Tenant, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(10);

async fn start(database: Database) -> (Installation, Tenant) {
    let installation = Installation::start(BINARY, database).await;
    let hospital = installation.tenant("hospital").await;
    (installation, hospital)
}

fn names(listed: &[Value]) -> Vec<&str> {
    listed.iter().map(|item| item["name"].as_str().unwrap()).collect()
}

testkit::on_both_databases! {
    async fn a_change_of_what_somebody_else_changed_is_refused(database: Database) {
        let (installation, hospital) = start(database).await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({})).await;
        let target = ["http://127.0.0.1:9".to_owned()];
        let deployed = hospital.deploy(&api, "/scheduling", &target, &json!({})).await;
        let application = hospital.application("Portal").await;
        let body = json!({ "slug": "imaging", "name": "Imaging" });
        installation.admin().post("/admin/categories", &body).await.created();
        let replacement = json!({
            "name": "Scheduling", "description": "", "owner": "x", "contactEmail": "a@b.example",
        });
        let (admin, provider) = (installation.admin(), hospital.provider());
        let cases = [
            (provider, format!("/apis/{}", api.id), replacement),
            (provider, format!("/plans/{plan}"), json!({ "apiId": api.id, "name": "Renamed" })),
            (
                provider,
                format!("/deployments/{}", deployed["id"].as_str().unwrap()),
                Tenant::deployment_draft(&api, "/moved", &target, &json!({})),
            ),
            (hospital.consumer(), format!("/applications/{application}"), json!({ "name": "x" })),
            (
                admin,
                format!("/admin/tenants/{}", hospital.id),
                json!({ "slug": "hospital", "name": "Renamed", "active": true }),
            ),
            (admin, "/admin/settings".to_owned(), json!({ "name": "x", "usageRetentionDays": 40 })),
        ];
        for (person, path, body) in cases {
            let read = person.get(&path).await;
            let tag = read.etag();
            for stale in ["\"999\"", "\"-1\"", "nonsense", "W/\"x\""] {
                for method in ["PUT", "PATCH", "DELETE"] {
                    if method == "DELETE" && path == "/admin/settings" {
                        continue;
                    }
                    let call = person.call(method.parse().unwrap(), &path);
                    let call = if method == "DELETE" { call } else { call.json(&body) };
                    call.header("if-match", stale).await.assert_problem(412, "stale_revision");
                }
            }
            let unchanged = person.get(&path).await;
            assert_eq!(unchanged.etag(), tag, "{path}");
            let changed = person.put(&path, &body).header("if-match", &tag).await;
            let fresh = changed.expect_status(200).etag();
            assert_ne!(fresh, tag, "{path}");
            let late = person.put(&path, &body).header("if-match", &tag).await;
            late.assert_problem(412, "stale_revision");
            person.put(&path, &body).header("if-match", "*").await.ok();
        }
    }

    async fn of_two_writers_with_the_same_revision_one_wins(database: Database) {
        let (_installation, hospital) = start(database).await;
        let path = format!("/applications/{}", hospital.application("Portal").await);
        let tag = hospital.consumer().get(&path).await.etag();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (consumer, path, tag) = (hospital.consumer().clone(), path.clone(), tag.clone());
            writers.spawn(async move {
                let body = json!({ "name": format!("Writer {writer}") });
                consumer.put(&path, &body).header("if-match", &tag).await.status
            });
        }
        let mut statuses = writers.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    }

    async fn the_same_idempotency_key_is_done_once_and_answered_alike(database: Database) {
        let (_installation, hospital) = start(database).await;
        let consumer = hospital.consumer();
        let body = json!({ "name": "Portal" });
        let make = || consumer.post("/applications", &body).header("idempotency-key", "make-1");
        let first = make().await.created();
        let again = make().await;
        assert!(again.header("location").is_some() && again.header("etag").is_some());
        assert_eq!(again.created(), first);
        let other = json!({ "name": "Another" });
        let reused = consumer.post("/applications", &other).header("idempotency-key", "make-1");
        reused.await.assert_problem(422, "idempotency_key_reused");
        let other_path = consumer.delete(&format!("/applications/{}", first["id"].as_str().unwrap()));
        let other_path = other_path.header("idempotency-key", "make-1").await;
        other_path.assert_problem(422, "idempotency_key_reused");
        assert_eq!(consumer.get("/applications").await.total(), 1);
        // Keys are everybody's own.
        let of_another = hospital.admin().post("/applications", &other);
        let of_another = of_another.header("idempotency-key", "make-1").await.created();
        assert_ne!(of_another["id"], first["id"]);

        let path = format!("/applications/{}/credentials", first["id"].as_str().unwrap());
        let key = json!({ "type": "api_key" });
        let make = || consumer.post(&path, &key).header("idempotency-key", "key-1");
        let (shown, shown_again) = (make().await.created(), make().await.created());
        assert_eq!(shown, shown_again);
        assert!(shown["apiKey"].as_str().unwrap().starts_with("cad_"));
        assert_eq!(consumer.get(&path).await.items().len(), 1);

        let rotate = format!("{path}/{}/rotate", shown["id"].as_str().unwrap());
        let turn = || consumer.post(&rotate, &json!({})).header("idempotency-key", "turn-1");
        assert_eq!(turn().await.created(), turn().await.created());
        let application = format!("/applications/{}", first["id"].as_str().unwrap());
        let patch = || {
            let patch = json!({ "description": "new" });
            consumer.patch(&application, &patch).header("idempotency-key", "patch-1")
        };
        assert_eq!(patch().await.ok(), patch().await.ok());
        let remove = || consumer.delete(&application).header("idempotency-key", "gone-1");
        remove().await.expect_status(204);
        remove().await.expect_status(204);
        consumer.delete(&application).await.assert_problem(404, "application_not_found");

        for wrong in ["", &"k".repeat(256)] {
            let call = consumer.post("/applications", &body).header("idempotency-key", wrong);
            call.await.assert_problem(400, "invalid_idempotency_key");
        }
        // What failed was not done, and may be tried again under its key.
        let named = |name: &str| json!({ "name": name });
        let bad = named("");
        let bad = consumer.post("/applications", &bad).header("idempotency-key", "retry-1").await;
        assert_eq!(bad.status, 422);
        let good = consumer.post("/applications", &named("Retried"));
        let good = good.header("idempotency-key", "retry-1").await;
        good.created();
        // A dry run leaves its key free.
        for path in ["/applications?dryRun=true", "/applications"] {
            let call = consumer.post(path, &named("Dry")).header("idempotency-key", "dry-1");
            call.await.created();
        }
    }

    async fn the_same_idempotency_key_at_the_same_time_is_done_once(database: Database) {
        let (_installation, hospital) = start(database).await;
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let consumer = hospital.consumer().clone();
            writers.spawn(async move {
                let body = json!({ "name": "Portal" });
                consumer.post("/applications", &body).header("idempotency-key", "race").await
            });
        }
        let made: BTreeSet<_> = writers
            .join_all()
            .await
            .into_iter()
            .map(|answer| answer.created()["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(made.len(), 1);
        assert_eq!(hospital.consumer().get("/applications").await.total(), 1);
    }

    async fn a_patch_merges_and_null_removes(database: Database) {
        let (_installation, hospital) = start(database).await;
        let draft = json!({
            "documentationUrl": "https://clinic.example/docs", "license": "MIT",
            "tags": ["clinic", "beta"],
            "classification": { "containsPhi": true, "regulatoryScope": ["hipaa"] },
        });
        let api = hospital.register("Scheduling", &draft).await;
        let path = format!("/apis/{}", api.id);
        let provider = hospital.provider();
        let before = provider.get(&path).await.ok();
        let patch = json!({
            "documentationUrl": null, "tags": ["stable"], "classification": { "containsPii": true },
        });
        let after = provider.patch(&path, &patch).await.ok();
        assert!(after["documentationUrl"].is_null(), "{after}");
        assert_eq!(after["license"], "MIT");
        assert_eq!(after["tags"], json!(["stable"]));
        assert_eq!(after["classification"]["containsPhi"], true);
        assert_eq!(after["classification"]["containsPii"], true);
        for kept in ["name", "description", "owner", "contactEmail", "visibility", "id", "createdAt"] {
            assert_eq!(after[kept], before[kept], "{kept}");
        }
        assert_eq!(provider.get(&path).await.ok(), after);
        for (wrong, field) in [
            (json!({ "name": null }), "$"),
            (json!({ "tags": "stable" }), "tags"),
            (json!({ "id": "api_1" }), "id"),
            (json!({ "classification": { "containsPhi": "yes" } }), "classification.containsPhi"),
        ] {
            let problem = provider.patch(&path, &wrong).await.assert_problem(422, "validation_failed");
            let named = problem["errors"][0].to_string();
            assert!(field == "$" || named.contains(field), "{problem}");
        }
        assert_eq!(provider.get(&path).await.ok(), after);
        let plain = provider.call("PATCH".parse().unwrap(), &path);
        plain.json(&json!({ "license": null })).await.ok();
    }

    async fn lists_are_paged_sorted_and_filtered(database: Database) {
        let (installation, hospital) = start(database).await;
        let body = json!({ "slug": "imaging", "name": "Imaging" });
        installation.admin().post("/admin/categories", &body).await.created();
        for name in ["Beta", "Alpha", "Delta", "Gamma", "Epsilon"] {
            let draft = match name {
                "Alpha" => json!({ "tags": ["first"], "categories": ["imaging"] }),
                "Beta" => json!({
                    "classification": { "containsPhi": true, "regulatoryScope": ["hipaa"] },
                }),
                _ => json!({}),
            };
            hospital.register(name, &draft).await;
        }
        let provider = hospital.provider();
        let page = provider.get("/apis?limit=2&page=2").await.ok();
        assert_eq!(names(page["items"].as_array().unwrap()), ["Delta", "Epsilon"]);
        let pagination = json!({ "page": 2, "limit": 2, "totalItems": 5, "totalPages": 3 });
        assert_eq!(page["pagination"], pagination);
        let beyond = provider.get("/apis?limit=2&page=9").await.ok();
        assert_eq!(beyond["items"], json!([]));
        assert_eq!(beyond["pagination"]["totalItems"], 5);
        let sorted = [
            ("name", ["Alpha", "Beta", "Delta", "Epsilon", "Gamma"]),
            ("-name", ["Gamma", "Epsilon", "Delta", "Beta", "Alpha"]),
            ("createdAt", ["Beta", "Alpha", "Delta", "Gamma", "Epsilon"]),
            ("-createdAt", ["Epsilon", "Gamma", "Delta", "Alpha", "Beta"]),
            ("-updatedAt", ["Epsilon", "Gamma", "Delta", "Alpha", "Beta"]),
        ];
        for (sort, expected) in sorted {
            let listed = provider.get(&format!("/apis?sort={sort}")).await.items();
            assert_eq!(names(&listed), expected, "{sort}");
        }
        let all = &["Alpha", "Beta", "Delta", "Epsilon", "Gamma"][..];
        let filtered: [(&str, &[&str]); 11] = [
            ("tag=first", &["Alpha"]),
            ("category=imaging", &["Alpha"]),
            ("containsPhi=true", &["Beta"]),
            ("regulatoryScope=hipaa", &["Beta"]),
            ("containsPhi=false&tag=clinic", &["Delta", "Epsilon", "Gamma"]),
            ("status=active", &[]),
            ("status=pending_approval", all),
            ("owner=hospital", all),
            ("owner=nobody", &[]),
            ("type=openapi", all),
            ("tag=first&containsPhi=true", &[]),
        ];
        for (filter, expected) in filtered {
            let listed = provider.get(&format!("/apis?{filter}")).await.items();
            assert_eq!(names(&listed), expected, "{filter}");
        }
        for wrong in [
            "limit=0", "limit=201", "limit=-1", "limit=x", "page=0", "sort=colour", "status=happy",
            "containsPhi=perhaps", "limit=2&limit=3", "type=soap",
        ] {
            provider.get(&format!("/apis?{wrong}")).await.assert_problem(400, "invalid_query");
        }
        let tags = provider.get("/tags").await.items();
        assert!(tags.contains(&json!({ "name": "first", "count": 1 })), "{tags:?}");
        walk_the_trail(hospital.auditor()).await;
    }

    async fn text_is_found_with_a_typo_and_with_facets(database: Database) {
        let (_installation, hospital) = start(database).await;
        let draft = json!({ "description": "Answers what medication interacts." });
        hospital.publish("Drug directory", &draft).await;
        hospital.publish("Scheduling", &json!({})).await;
        let consumer = hospital.consumer();
        for words in ["medication", "medicaton", "medicatino", "MEDICATION", "drug", "direct"] {
            eventually(&format!("{words} is found"), SOON, || async {
                let found = consumer.get(&format!("/apis/search?query={words}")).await.items();
                (found.first()?["api"]["name"] == "Drug directory").then_some(())
            }).await;
        }
        let found = consumer.get("/apis/search?query=medication").await.ok();
        let highlight = &found["items"][0]["highlights"][0];
        let fragment = highlight["fragment"].as_str().unwrap();
        let range = |at: usize| {
            usize::try_from(highlight["ranges"][0][at].as_u64().unwrap()).unwrap()
        };
        assert_eq!(&fragment[range(0)..range(1)], "medication");
        assert_eq!(found["facets"]["tags"], json!([{ "value": "clinic", "count": 1 }]));
        let listed = consumer.get("/apis?query=medication").await.items();
        assert_eq!(names(&listed), ["Drug directory"]);
        let nothing = consumer.get("/apis/search?query=zzzzqqqq").await.ok();
        assert_eq!(nothing["pagination"]["totalItems"], 0);
        for odd in ["%22", "%2B-%26%26", "a%00b", "name:x", "(((", "%F0%9F%A9%BA"] {
            consumer.get(&format!("/apis/search?query={odd}")).await.ok();
        }
        let long = "x".repeat(600);
        let long = consumer.get(&format!("/apis/search?query={long}")).await;
        long.assert_problem(400, "invalid_query");
        consumer.get("/apis/search").await.assert_problem(400, "invalid_query");
    }

    async fn what_a_client_has_already_is_not_sent_again(database: Database) {
        let (_installation, hospital) = start(database).await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let path = format!("/apis/{}", api.id);
        let tag = hospital.consumer().get(&path).await.etag();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"0\", {tag}"), "*".to_owned()] {
            let answer = hospital.consumer().get(&path).header("if-none-match", &known).await;
            assert_eq!(answer.status, 304, "{known}: {}", answer.text());
            assert!(answer.body.is_empty());
            assert_eq!(answer.etag(), tag);
        }
        let answer = hospital.consumer().get(&path).header("if-none-match", "\"0\"").await;
        answer.ok();
        hospital.provider().patch(&path, &json!({ "description": "new" })).await.ok();
        let changed = hospital.consumer().get(&path).header("if-none-match", &tag).await;
        changed.ok();
    }

    async fn the_original_of_a_specification_is_kept_byte_for_byte(database: Database) {
        let (_installation, hospital) = start(database).await;
        let yaml = testkit::openapi_yaml("Drugs");
        let draft = json!({ "specification": { "format": "openapi", "content": yaml } });
        let api = hospital.publish("Drugs", &draft).await;
        let (consumer, path) = (hospital.consumer(), format!("/apis/{}/specification", api.id));
        for accept in ["*/*", "application/yaml", "text/yaml"] {
            let answer = consumer.get(&path).header("accept", accept).await.expect_status(200);
            assert_eq!(answer.text(), yaml, "{accept}");
            assert_eq!(answer.header("content-type"), Some("application/yaml"));
        }
        let answer = consumer.get(&path).header("accept", "application/json").await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("vary"), Some("Accept"));
        let json = answer.ok();
        assert_eq!(json["paths"]["/drugs/{code}"]["get"]["operationId"], "readDrug");
        assert_eq!(json["info"]["version"], "2.1");
        let picture = consumer.get(&path).header("accept", "image/png").await;
        picture.assert_problem(406, "not_acceptable");
        let summary = consumer.get(&format!("{path}/summary")).await.ok();
        assert_eq!(summary["title"], "Drugs");
        assert_eq!(summary["operations"][0]["path"], "/drugs/{code}");

        let text = format!("  {}\n", testkit::openapi_json("Spaced"));
        let draft = json!({ "specification": { "format": "openapi", "content": text } });
        let api = hospital.publish("Spaced", &draft).await;
        let path = format!("/apis/{}/specification", api.id);
        assert_eq!(consumer.get(&path).header("accept", "application/json").await.text(), text);
        let yaml = consumer.get(&path).header("accept", "application/yaml").await;
        assert_eq!(yaml.header("content-type"), Some("application/yaml"));
        let again = json!({ "specification": { "format": "openapi", "content": yaml.text() } });
        let again = consumer.post("/specifications/validate", &again).await.ok();
        assert_eq!(again["valid"], true, "{again}");
    }

    async fn the_control_api_limits_its_callers(database: Database) {
        let changes = json!({ "control": { "requestsPerSecond": 5 } });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let admin = installation.admin();
        let mut refused = None;
        for _ in 0..70 {
            let answer = admin.get("/me").await;
            if answer.status == 429 {
                refused = Some(answer);
                break;
            }
            answer.ok();
        }
        let refused = refused.unwrap();
        refused.assert_problem(429, "rate_limited");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        eventually("requests are taken again", Duration::from_secs(3), || async {
            (admin.get("/me").await.status == 200).then_some(())
        }).await;
    }

    async fn every_write_and_every_refusal_is_in_the_trail(database: Database) {
        let (installation, hospital) = start(database).await;
        let traced = |client: &Client, id: &str| client.with_header("x-request-id", id);
        let made = traced(hospital.consumer(), "trail-write").post("/applications", &json!({ "name": "A" }));
        let application = made.await.created()["id"].as_str().unwrap().to_owned();
        let denied = traced(hospital.auditor(), "trail-denied").post("/applications", &json!({ "name": "B" }));
        denied.await.assert_problem(403, "forbidden");
        traced(hospital.consumer(), "trail-invalid").post("/applications", &json!({})).await
            .assert_problem(422, "validation_failed");
        let api = hospital.publish("Scheduling", &json!({})).await;
        hospital.key(&application).await;
        let auditor = hospital.auditor();
        let trail = auditor.get("/audit/events?limit=200").await.items();
        let of = |request: &str| {
            trail.iter().filter(|entry| entry["requestId"] == request).collect::<Vec<_>>()
        };
        let write = of("trail-write");
        assert_eq!(write.len(), 1);
        assert_eq!(write[0]["action"], "application.create");
        assert_eq!(write[0]["outcome"], "success");
        assert_eq!(write[0]["target"], application.as_str());
        assert_eq!(write[0]["tenantId"], hospital.id.as_str());
        let me = hospital.consumer().get("/me").await.ok();
        assert_eq!(write[0]["actor"], me["userId"]);
        let denied = of("trail-denied");
        assert_eq!((denied.len(), &denied[0]["outcome"]), (1, &json!("denied")));
        assert_eq!(of("trail-invalid").len(), 0, "nothing was done");
        let actions: BTreeSet<_> =
            trail.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        for action in [
            "api.register", "version.approve", "credential.create", "token.issue", "user.invite",
            "invitation.accept", "tenant.create",
        ] {
            assert!(actions.contains(action), "{action} is missing in {actions:?}");
        }
        assert!(!trail.iter().any(|entry| entry.to_string().contains("cad_")), "a key is in the trail");
        let by_target = auditor.get(&format!("/audit/events?target={}", api.id)).await.items();
        assert!(by_target.iter().all(|entry| entry["target"] == api.id.as_str()));
        assert!(!by_target.is_empty());
        let stranger = installation.tenant("clinic").await;
        let theirs = stranger.auditor().get("/audit/events?limit=200").await.items();
        assert!(theirs.iter().all(|entry| entry["tenantId"] == stranger.id.as_str()));
        assert!(!installation.log().contains(PASSWORD), "a password is in the log");
        assert!(!installation.log().contains("cad_"), "a key is in the log");
    }

    async fn things_in_use_are_not_removed(database: Database) {
        let (installation, hospital) = start(database).await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({})).await;
        let application = hospital.application("Portal").await;
        hospital.subscribe(&application, &api, &plan).await;
        let provider = hospital.provider();
        provider.delete(&format!("/apis/{}", api.id)).await.assert_problem(409, "in_use");
        provider.delete(&format!("/plans/{plan}")).await.assert_problem(409, "in_use");
        let tenant = format!("/admin/tenants/{}", hospital.id);
        installation.admin().delete(&tenant).await.assert_problem(409, "in_use");
        let again = Tenant::api_draft("Scheduling", &json!({}));
        provider.post("/apis", &again).await.assert_problem(409, "already_exists");
        let again = json!({ "apiId": api.id, "name": "Open" });
        provider.post("/plans", &again).await.assert_problem(409, "already_exists");
        let twice = json!({ "applicationId": application, "apiId": api.id, "planId": plan });
        hospital.consumer().post("/subscriptions", &twice).await.assert_problem(409, "already_exists");
        let path = format!("/applications/{application}");
        hospital.consumer().delete(&path).await.expect_status(204);
        let left = provider.get(&format!("/subscriptions?apiId={}", api.id)).await.items();
        assert_eq!(left, Vec::<Value>::new());
    }
}

/// Reads the trail page by page, and compares with reading it in one.
async fn walk_the_trail(auditor: &Client) {
    let all = auditor.get("/audit/events?limit=200").await.ok();
    let all = all["items"].as_array().unwrap();
    let mut walked = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = auditor.get(&format!("/audit/events?limit=3{cursor}")).await.ok();
        walked.extend(page["items"].as_array().unwrap().clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(walked, *all);
    assert!(walked.len() > 6);
    auditor.get("/audit/events?limit=201").await.assert_problem(400, "invalid_query");
    auditor.get("/audit/events?cursor=nonsense").await.assert_problem(400, "invalid_query");
}
