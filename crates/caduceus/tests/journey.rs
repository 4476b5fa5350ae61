//! The straight path through the marketplace: register, approve, deploy, subscribe, call, count.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Api, ApiKey, Behaviour, Client, Database, Installation, Tenant, Upstream, eventually, from_now,
};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(10);

/// A published API of one tenant, deployed on two replicas, and an application of another tenant that may call it.
struct Market {
    installation: Installation,
    hospital: Tenant,
    clinic: Tenant,
    api: Api,
    deployment: String,
    left: Upstream,
    right: Upstream,
    application: String,
    subscription: String,
    key: ApiKey,
}

impl Market {
    async fn open(database: Database, plan: Value) -> Self {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let clinic = installation.tenant("clinic").await;
        let (left, right) = (Upstream::healthy("left").await, Upstream::healthy("right").await);
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &plan).await;
        let targets = [left.url(), right.url()];
        let deployment = hospital.deploy(&api, "/scheduling", &targets, &json!({})).await;
        let application = clinic.application("Portal").await;
        let subscription = clinic.subscribe(&application, &api, &plan).await;
        let key = clinic.key(&application).await;
        installation.settled().await;
        Self {
            deployment: deployment["id"].as_str().unwrap().to_owned(),
            subscription: subscription["id"].as_str().unwrap().to_owned(),
            installation,
            hospital,
            clinic,
            api,
            left,
            right,
            application,
            key,
        }
    }

    fn caller(&self) -> Client {
        self.installation.gateway().with_header("x-api-key", &self.key.secret)
    }

    async fn metrics(&self, asker: &Client) -> Value {
        asker.get(&format!("/apis/{}/metrics?period=1h", self.api.id)).await.ok()
    }
}

testkit::on_both_databases! {
    async fn an_api_goes_from_its_description_to_calls_of_another_tenant(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let clinic = installation.tenant("clinic").await;
        let (left, right) = (Upstream::healthy("left").await, Upstream::healthy("right").await);

        // A description with mistakes is refused with their places.
        let mut broken = testkit::openapi_json("Scheduling");
        broken["paths"]["/appointments"]["get"].as_object_mut().unwrap().remove("responses");
        broken["openapi"] = json!("3.0.3");
        let text = serde_json::to_string_pretty(&broken).unwrap();
        let specification = json!({ "specification": { "format": "openapi", "content": text } });
        let draft = Tenant::api_draft("Scheduling", &specification);
        let answer = hospital.provider().post("/apis", &draft).await;
        let problem = answer.assert_problem(422, "specification_invalid");
        let found = problem["errors"].as_array().unwrap();
        let missing = found.iter().find(|error| {
            error["location"].as_str().is_some_and(|place| place.contains("/appointments"))
        });
        let missing = missing.unwrap_or_else(|| panic!("not located: {problem}"));
        assert!(missing["rule"].is_string(), "{missing}");
        assert!(missing["line"].as_u64().unwrap() > 1 && missing["column"].as_u64().unwrap() > 0);
        assert!(!problem["validationResults"]["valid"].as_bool().unwrap());

        // A good one waits for a reviewer, and is nobody else's business until then.
        let api = hospital.register("Scheduling", &json!({})).await;
        unseen(&clinic, &api).await;
        let asked = json!({ "name": "Asked", "approval": "owner" });
        let plan = hospital.offer_plan(&api, &asked).await;
        clinic.consumer().get(&format!("/plans/{plan}")).await.assert_problem(404, "plan_not_found");
        let target = [left.url(), right.url()];
        let deployment = Tenant::deployment_draft(&api, "/scheduling", &target, &json!({}));
        let early = hospital.provider().post("/deployments", &deployment).await;
        early.assert_problem(409, "version_not_active");
        let application = clinic.application("Portal").await;
        let request = json!({ "applicationId": application, "apiId": api.id, "planId": plan });
        let early = clinic.consumer().post("/subscriptions", &request).await;
        early.assert_problem(404, "api_not_found");

        hospital.approve(&api).await;
        let versions = hospital.provider().get(&format!("/apis/{}/versions", api.id)).await.items();
        assert_eq!(versions[0]["approvalDetails"]["comments"], "fine");
        let found = eventually("the catalogue knows it", SOON, || async {
            let found = clinic.consumer().get("/apis/search?query=appointmnets").await.items();
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.await[0]["api"]["id"], api.id.as_str());
        let deployed = hospital.provider().post("/deployments", &deployment).await.created();
        assert!(deployed["configVersion"].as_u64().unwrap() > 0);

        // The owner decides who subscribes.
        let subscription = clinic.subscribe(&application, &api, &plan).await;
        assert_eq!(subscription["status"], "pending");
        let key = clinic.key(&application).await;
        assert!(key.secret.starts_with("cad_"), "{}", key.secret);
        installation.settled().await;
        let caller = installation.gateway().with_header("x-api-key", &key.secret);
        let answer = caller.get("/scheduling/appointments").await;
        answer.assert_problem(403, "subscription_required");
        let approve = format!("/subscriptions/{}/approve", subscription["id"].as_str().unwrap());
        let own = clinic.consumer().post(&approve, &json!({})).await;
        own.assert_problem(403, "forbidden");
        let own = clinic.admin().post(&approve, &json!({})).await;
        own.assert_problem(403, "forbidden");
        let waiting = hospital.reviewer().get("/approvals").await.ok();
        assert_eq!(waiting["subscriptions"]["items"][0]["id"], subscription["id"]);
        let approved = hospital.provider().post(&approve, &json!({ "comments": "welcome" })).await;
        assert_eq!(approved.ok()["status"], "active");

        let first = eventually("calls are let through", SOON, || async {
            let answer = caller.get("/scheduling/appointments?day=1").await;
            (answer.status == 200).then_some(answer)
        });
        let first = first.await;
        assert_eq!(first.json()["path"], "/appointments?day=1");
        let headers = &first.json()["headers"];
        assert!(headers["x-api-key"].is_null(), "the key reached the upstream");
        assert!(headers["via"].is_string() && headers["x-forwarded-for"].is_string(), "{headers}");
        assert!(first.header("x-request-id").is_some());

        // The key is shown once.
        let path = format!("/applications/{application}/credentials");
        let listed = clinic.consumer().get(&path).await;
        assert!(!listed.text().contains(&key.secret));
        let listed = &listed.items()[0];
        assert!(key.secret.starts_with(listed["prefix"].as_str().unwrap()), "{listed}");
        assert!(key.secret.ends_with(listed["lastFour"].as_str().unwrap()), "{listed}");
    }

    async fn nobody_approves_what_they_submitted(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let stranger = installation.tenant("clinic").await;
        let roles = json!(["provider", "reviewer"]);
        let body = json!({ "email": "both@hospital.example", "name": "Both", "roles": roles });
        let invited = hospital.admin().post("/admin/users", &body).await.created();
        let body = json!({ "token": invited["invitationToken"], "password": testkit::PASSWORD });
        installation.anonymous().post("/auth/accept-invitation", &body).await.ok();
        let both =
            installation.anonymous().sign_in("both@hospital.example", testkit::PASSWORD).await;
        let draft = Tenant::api_draft("Scheduling", &json!({}));
        let made = both.post("/apis", &draft).await.created();
        let path = format!("/apis/{}", made["id"].as_str().unwrap());
        for step in ["approve", "reject"] {
            let own = both.post(&format!("{path}/{step}"), &json!({ "comments": "mine" })).await;
            own.assert_problem(409, "own_submission");
            let foreign = stranger.reviewer().post(&format!("{path}/{step}"), &json!({})).await;
            foreign.assert_problem(404, "api_not_found");
        }
        let body = json!({ "comments": "no", "rejectionReasons": ["no contact"] });
        let rejected = hospital.reviewer().post(&format!("{path}/reject"), &body).await.ok();
        assert_eq!(rejected["status"], "rejected");
        assert_eq!(rejected["approvalDetails"]["rejectionReasons"], json!(["no contact"]));
        unseen(&stranger, &Api {
            id: made["id"].as_str().unwrap().to_owned(),
            name: "Scheduling".to_owned(),
            version: "1.0.0".to_owned(),
        }).await;
        let again = json!({
            "version": "1.0.0",
            "specification": { "format": "openapi", "content": testkit::openapi_json("Scheduling") },
        });
        let again = both.post(&format!("{path}/versions"), &again).await.created();
        assert_eq!(again["status"], "pending_approval");
        let approved = hospital.reviewer().post(&format!("{path}/approve"), &json!({})).await.ok();
        assert_eq!(approved["status"], "active");
    }

    async fn calls_are_spread_limited_and_refused_as_the_contract_says(database: Database) {
        let limit =
            json!([{ "name": "steady", "per": "application", "requests": 20, "windowSeconds": 60 }]);
        let market = Market::open(database, json!({ "limits": limit })).await;
        let (caller, nobody) = (market.caller(), market.installation.gateway());
        for call in 0..20 {
            let answer = caller.get("/scheduling/appointments").await.expect_status(200);
            assert_eq!(answer.header("x-ratelimit-limit"), Some("20"));
            let left = answer.header("x-ratelimit-remaining").unwrap().parse::<u32>().unwrap();
            // Some of the allowance may have come back meanwhile.
            assert!((19 - call..20).contains(&left), "{left} left after {call}");
            assert!(answer.header("ratelimit-policy").unwrap().contains("\"steady\""));
            assert!(answer.header("ratelimit").unwrap().contains("\"steady\";r="));
            assert!(answer.header("x-ratelimit-reset").is_some());
        }
        let spread = [market.left.calls(), market.right.calls()];
        assert_eq!(spread.iter().sum::<u64>(), 20);
        assert!(spread.iter().all(|calls| (8..=12).contains(calls)), "{spread:?}");
        let refused = eventually("the limit is reached", SOON, || async {
            let answer = caller.get("/scheduling/appointments").await;
            (answer.status != 200).then_some(answer)
        });
        let refused = refused.await;
        refused.assert_problem(429, "rate_limited");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));

        let answer = nobody.get("/scheduling/appointments").await;
        answer.assert_problem(401, "credential_required");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        let wrong = nobody.with_header("x-api-key", "cad_nonsense");
        wrong.get("/scheduling/appointments").await.assert_problem(401, "invalid_credential");
        let in_query = format!("/scheduling/appointments?api_key={}", market.key.secret);
        nobody.get(&in_query).await.assert_problem(401, "credential_required");
        caller.get("/nothing/here").await.assert_problem(404, "route_not_found");
        let both = caller.with_token("cad_other").get("/scheduling/appointments").await;
        both.assert_problem(400, "ambiguous_credentials");
        let other = market.clinic.application("Unsubscribed").await;
        let other = market.clinic.key(&other).await;
        market.installation.settled().await;
        let other = nobody.with_token(&other.secret).get("/scheduling/appointments").await;
        other.assert_problem(403, "subscription_required");
    }

    async fn a_dead_replica_costs_no_call(database: Database) {
        let mut market = Market::open(database, json!({})).await;
        let caller = market.caller();
        market.left.stop().await;
        for _ in 0..20 {
            let answer = caller.get("/scheduling/appointments").await.ok();
            assert_eq!(answer["upstream"], "right");
        }
        market.left.resume().await;
        market.right.behave(Behaviour::Resetting);
        for _ in 0..10 {
            let answer = caller.get("/scheduling/appointments").await.ok();
            assert_eq!(answer["upstream"], "left");
        }
    }

    async fn a_broken_upstream_is_answered_for_in_bounded_time(database: Database) {
        let market = Market::open(database, json!({})).await;
        let bad = Upstream::start("bad", Behaviour::Hanging).await;
        let patch = json!({ "upstream": { "targets": [{ "url": bad.url() }], "timeoutSeconds": 0.5 } });
        let path = format!("/deployments/{}", market.deployment);
        market.hospital.provider().patch(&path, &patch).await.ok();
        market.installation.settled().await;
        let caller = market.caller();
        let began = std::time::Instant::now();
        let answer = caller.get("/scheduling/appointments").await;
        answer.assert_problem(504, "upstream_timeout");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        bad.behave(Behaviour::Resetting);
        let answer = caller.post("/scheduling/appointments", &json!({ "start": "now" })).await;
        assert!([502, 503].contains(&answer.status), "{}", answer.text());
        // The head is out when the lie shows: the client sees an answer that breaks off, never a short one.
        bad.behave(Behaviour::LyingLength);
        let lied = eventually("the target is tried again", SOON, || async {
            match caller.get("/scheduling/appointments").try_send().await {
                Ok(answer) if answer.status == 503 => None,
                other => Some(other),
            }
        });
        match lied.await {
            Err(_) => {}
            Ok(answer) => assert_eq!(answer.status, 502, "{}", answer.text()),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    async fn keys_are_rotated_with_overlap_and_revoked_within_a_second(database: Database) {
        let market = Market::open(database, json!({})).await;
        let path = format!("/applications/{}/credentials", market.application);
        let rotate = format!("{path}/{}/rotate", market.key.id);
        let consumer = market.clinic.consumer();
        let rotated = consumer.post(&rotate, &json!({ "overlapSeconds": 2 })).await.created();
        assert!(rotated["previousEndsAt"].is_string(), "{rotated}");
        let fresh = market.installation.gateway().with_token(rotated["apiKey"].as_str().unwrap());
        let old = market.caller();
        works_within_a_second(&fresh).await;
        old.get("/scheduling/appointments").await.expect_status(200);
        let ended = eventually("the overlap ends", Duration::from_secs(4), || async {
            let answer = old.get("/scheduling/appointments").await;
            (answer.status != 200).then_some(answer)
        });
        ended.await.assert_problem(401, "invalid_credential");
        fresh.get("/scheduling/appointments").await.expect_status(200);
        let twice = consumer.post(&rotate, &json!({})).await;
        twice.assert_problem(409, "credential_not_active");

        let id = rotated["id"].as_str().unwrap();
        consumer.delete(&format!("{path}/{id}")).await.expect_status(204);
        let revoked = eventually("the key is refused", Duration::from_secs(1), || async {
            let answer = fresh.get("/scheduling/appointments").await;
            (answer.status != 200).then_some(answer)
        });
        revoked.await.assert_problem(401, "invalid_credential");
    }

    async fn a_suspended_or_cancelled_subscription_stops_calls_within_a_second(database: Database) {
        let market = Market::open(database, json!({})).await;
        let caller = market.caller();
        caller.get("/scheduling/appointments").await.expect_status(200);
        let path = format!("/subscriptions/{}", market.subscription);
        let owner = market.hospital.provider();
        owner.post(&format!("{path}/suspend"), &json!({ "comments": "audit" })).await.ok();
        stops_within_a_second(&caller).await.assert_problem(403, "subscription_required");
        owner.post(&format!("{path}/approve"), &json!({})).await.ok();
        works_within_a_second(&caller).await;
        let cancelled = market.clinic.consumer().post(&format!("{path}/cancel"), &json!({})).await;
        assert_eq!(cancelled.ok()["status"], "cancelled");
        stops_within_a_second(&caller).await.assert_problem(403, "subscription_required");
        let again = owner.post(&format!("{path}/approve"), &json!({})).await;
        again.assert_problem(409, "invalid_transition");
    }

    async fn a_version_is_deprecated_with_headers_and_answers_410_when_retired(database: Database) {
        let market = Market::open(database, json!({})).await;
        let caller = market.caller();
        let (hospital, path) = (&market.hospital, format!("/apis/{}", market.api.id));
        let second = json!({
            "version": "2.0.0",
            "specification": { "format": "openapi", "content": testkit::openapi_json("Scheduling") },
        });
        hospital.provider().post(&format!("{path}/versions"), &second).await.created();
        let body = json!({ "version": "2.0.0" });
        hospital.reviewer().post(&format!("{path}/approve"), &body).await.ok();
        let second = Api { version: "2.0.0".to_owned(), ..market.api.clone() };
        hospital.deploy(&second, "/scheduling-2", &[market.left.url()], &json!({})).await;
        let body =
            json!({ "version": "1.0.0", "sunsetAt": from_now(3_600), "successor": "2.0.0" });
        let answer = hospital.provider().post(&format!("{path}/deprecate"), &body).await.ok();
        assert_eq!(answer["status"], "deprecated");
        market.installation.settled().await;
        let answer = caller.get("/scheduling/appointments").await.expect_status(200);
        assert!(answer.header("deprecation").unwrap().starts_with('@'));
        assert!(answer.header("sunset").unwrap().ends_with("GMT"));
        let link = answer.header("link").unwrap();
        assert!(link.contains("/scheduling-2") && link.contains("successor-version"), "{link}");
        let late = market.clinic.application("Late").await;
        let plans = market.clinic.consumer().get(&format!("/plans?apiId={}", market.api.id)).await;
        let request = json!({
            "applicationId": late, "apiId": market.api.id, "version": "1.0.0",
            "planId": plans.items()[0]["id"],
        });
        let late = market.clinic.consumer().post("/subscriptions", &request).await;
        late.assert_problem(409, "version_not_active");

        let body = json!({ "version": "1.0.0" });
        hospital.provider().post(&format!("{path}/retire"), &body).await.ok();
        market.installation.settled().await;
        let answer = caller.get("/scheduling/appointments").await;
        answer.assert_problem(410, "version_retired");
        assert!(answer.header("link").unwrap().contains("/scheduling-2"));
    }

    async fn both_sides_see_the_usage_and_strangers_do_not(database: Database) {
        let market = Market::open(database, json!({})).await;
        let pharmacy = market.installation.tenant("pharmacy").await;
        let caller = market.caller();
        let delay = Duration::from_millis(60);
        for number in 0..40 {
            if number == 30 {
                market.left.behave(Behaviour::Slow(delay));
                market.right.behave(Behaviour::Slow(delay));
            }
            caller.get("/scheduling/appointments").await.expect_status(200);
        }
        market.left.behave(Behaviour::Failing(500));
        market.right.behave(Behaviour::Failing(500));
        for _ in 0..10 {
            caller.get("/scheduling/appointments").await.expect_status(500);
        }
        let (provider, consumer) = (market.hospital.provider(), market.clinic.consumer());
        let seen = eventually("the owner sees all calls", Duration::from_secs(5), || async {
            let seen = market.metrics(provider).await;
            (seen["metrics"]["callVolume"] == 50).then_some(seen)
        });
        let seen = seen.await;
        let metrics = &seen["metrics"];
        assert_eq!(metrics["uniqueConsumers"], 1);
        assert_eq!(metrics["errorCount"], 10);
        assert_eq!(metrics["errorRate"], 20.0);
        assert_eq!(metrics["statusCodes"], json!({ "200": 40, "500": 10 }));
        let p95 = metrics["p95ResponseTimeMs"].as_f64().unwrap();
        assert!((58.0..200.0).contains(&p95), "{metrics}");
        let mean = metrics["averageResponseTimeMs"].as_f64().unwrap();
        assert!((11.0..60.0).contains(&mean), "{metrics}");
        assert!(metrics["p99ResponseTimeMs"].as_f64().unwrap() >= p95, "{metrics}");
        let month = provider.get(&format!("/apis/{}/metrics?period=30d", market.api.id)).await.ok();
        let days: u64 = month["trends"].as_array().unwrap().iter()
            .map(|day| day["callVolume"].as_u64().unwrap()).sum();
        assert_eq!(days, 50);
        assert_eq!(market.metrics(consumer).await["metrics"], *metrics);
        let path = format!("/applications/{}/metrics?period=24h", market.application);
        assert_eq!(consumer.get(&path).await.ok()["metrics"]["callVolume"], 50);
        let top = provider.get("/analytics/consumers?period=24h").await.items();
        assert_eq!(top[0]["applicationId"], market.application.as_str());
        assert_eq!(top[0]["callVolume"], 50);

        let stranger = market.metrics(pharmacy.consumer()).await;
        assert_eq!(stranger["metrics"]["callVolume"], 0);
        assert_eq!(stranger["metrics"]["uniqueConsumers"], 0);
        let denied = pharmacy.consumer().get(&path).await;
        denied.assert_problem(404, "application_not_found");
        let theirs = pharmacy.provider().get("/analytics/consumers").await.items();
        assert_eq!(theirs, Vec::<Value>::new());
    }

    async fn who_may_not_see_an_api_meets_it_nowhere(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let friend = installation.tenant("friend").await;
        let stranger = installation.tenant("stranger").await;
        let upstream = Upstream::healthy("only").await;
        let private = hospital.publish("Staff rota", &json!({ "visibility": "private" })).await;
        let shown = json!({ "visibility": "restricted", "visibleTo": [friend.id] });
        let restricted = hospital.publish("Referrals", &shown).await;
        for (api, prefix) in [(&private, "/rota"), (&restricted, "/referrals")] {
            hospital.deploy(api, prefix, &[upstream.url()], &json!({})).await;
        }
        let plan = hospital.offer_plan(&restricted, &json!({})).await;
        let hidden_plan = hospital.offer_plan(&private, &json!({})).await;
        let key = stranger.key(&stranger.application("Curious").await).await;
        let friendly = friend.application("Friendly").await;
        friend.subscribe(&friendly, &restricted, &plan).await;
        let friend_key = friend.key(&friendly).await;
        installation.settled().await;
        eventually("the owner finds it", SOON, || async {
            let found = hospital.consumer().get("/apis/search?query=rota").await.items();
            (!found.is_empty()).then_some(())
        }).await;

        unseen(&stranger, &private).await;
        unseen(&stranger, &restricted).await;
        unseen(&friend, &private).await;
        let found = friend.consumer().get(&format!("/apis/{}", restricted.id)).await.ok();
        assert_eq!(found["visibleTo"], json!([]), "to whom else it is shown is not told");
        for (person, plan) in [(&stranger, &plan), (&stranger, &hidden_plan), (&friend, &hidden_plan)] {
            let answer = person.consumer().get(&format!("/plans/{plan}")).await;
            answer.assert_problem(404, "plan_not_found");
        }
        let application = stranger.application("Another").await;
        for (api, plan) in [(&private, &hidden_plan), (&restricted, &plan)] {
            let body = json!({ "applicationId": application, "apiId": api.id, "planId": plan });
            let answer = stranger.consumer().post("/subscriptions", &body).await;
            answer.assert_problem(404, "api_not_found");
        }
        let gateway = installation.gateway();
        let curious = gateway.with_header("x-api-key", &key.secret);
        for path in ["/rota/appointments", "/referrals/appointments"] {
            gateway.get(path).await.assert_problem(404, "route_not_found");
            curious.get(path).await.assert_problem(404, "route_not_found");
        }
        let friend_caller = gateway.with_header("x-api-key", &friend_key.secret);
        friend_caller.get("/referrals/appointments").await.expect_status(200);
        assert_eq!(upstream.calls(), 1);

        // A friend that is no longer one loses sight and right.
        let patch = json!({ "visibleTo": [stranger.id] });
        hospital.provider().patch(&format!("/apis/{}", restricted.id), &patch).await.ok();
        installation.settled().await;
        friend_caller.get("/referrals/appointments").await.assert_problem(404, "route_not_found");
        friend.consumer().get(&format!("/apis/{}", restricted.id)).await
            .assert_problem(404, "api_not_found");
        stranger.consumer().get(&format!("/apis/{}", restricted.id)).await.ok();
    }

    async fn the_gateway_changes_without_a_failed_call(database: Database) {
        let market = Market::open(database, json!({})).await;
        let third = Upstream::healthy("third").await;
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (caller, stop, calls) = (market.caller(), Arc::clone(&stop), Arc::clone(&calls));
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = caller.get("/scheduling/appointments").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let path = format!("/deployments/{}", market.deployment);
        for round in 0..10 {
            let targets = if round % 2 == 0 {
                json!([{ "url": third.url() }])
            } else {
                json!([{ "url": market.left.url() }, { "url": market.right.url() }])
            };
            let patch = json!({ "upstream": { "targets": targets } });
            market.hospital.provider().patch(&path, &patch).await.ok();
            let began = std::time::Instant::now();
            market.installation.settled().await;
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            let before = calls.load(Ordering::Relaxed);
            eventually("calls go on", SOON, || async {
                (calls.load(Ordering::Relaxed) > before + 20).then_some(())
            }).await;
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        assert!(third.calls() > 0 && market.left.calls() > 0);
        let all = third.calls() + market.left.calls() + market.right.calls();
        assert_eq!(all, calls.load(Ordering::Relaxed), "no call was lost or sent twice");
        let total = all;
        eventually("all of them are counted", SOON, || async {
            let seen = market.metrics(market.hospital.provider()).await;
            (seen["metrics"]["callVolume"] == total).then_some(())
        }).await;
    }

    async fn the_server_ends_in_good_order_and_goes_on_where_it_was(database: Database) {
        let mut market = Market::open(database, json!({})).await;
        let caller = market.caller();
        market.left.behave(Behaviour::Slow(Duration::from_millis(700)));
        market.right.behave(Behaviour::Slow(Duration::from_millis(700)));
        let mut slow = tokio::task::JoinSet::new();
        slow.spawn(async move { caller.get("/scheduling/appointments").await.status });
        eventually("the call is in flight", SOON, || async {
            (market.left.calls() + market.right.calls() == 1).then_some(())
        }).await;
        let status = market.installation.terminate().await;
        assert!(status.success(), "{status}: {}", market.installation.log());
        assert_eq!(slow.join_all().await, [200]);
        market.installation.launch_gateway().await;
        market.installation.wait_for_control_api().await;
        market.left.behave(Behaviour::Healthy);
        market.right.behave(Behaviour::Healthy);
        market.caller().get("/scheduling/appointments").await.expect_status(200);
        eventually("both calls are counted", SOON, || async {
            let seen = market.metrics(market.hospital.provider()).await;
            (seen["metrics"]["callVolume"] == 2).then_some(())
        }).await;
    }
}

async fn works_within_a_second(caller: &Client) {
    eventually("the call is let through", Duration::from_secs(1), || async {
        (caller.get("/scheduling/appointments").await.status == 200).then_some(())
    })
    .await;
}

async fn stops_within_a_second(caller: &Client) -> testkit::Answer {
    eventually("the call is refused", Duration::from_secs(1), || async {
        let answer = caller.get("/scheduling/appointments").await;
        (answer.status != 200).then_some(answer)
    })
    .await
}

/// Asks for an API in every way there is to read of it, and fails when one of them knows it.
async fn unseen(tenant: &Tenant, api: &Api) {
    for role in ["tenant-admin", "provider", "reviewer", "consumer", "auditor"] {
        let person = tenant.person(role);
        for path in ["", "/versions", "/specification", "/specification/summary", "/metrics"] {
            let answer = person.get(&format!("/apis/{}{path}", api.id)).await;
            answer.assert_problem(404, "api_not_found");
        }
        let answer = person.get(&format!("/plans?apiId={}", api.id)).await;
        answer.assert_problem(404, "api_not_found");
    }
    let word = api.name.split(' ').next().unwrap();
    for path in ["/apis".to_owned(), format!("/apis?query={word}"), "/apis?tag=clinic".to_owned()] {
        let listed = tenant.consumer().get(&path).await.ok();
        let ids: Vec<_> =
            listed["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert!(!ids.contains(&&json!(api.id)), "{path}");
    }
    let found = tenant.consumer().get(&format!("/apis/search?query={word}")).await.ok();
    assert!(!found.to_string().contains(&api.id), "{found}");
    for change in ["PUT", "PATCH", "DELETE"] {
        let call = tenant.provider().call(change.parse().unwrap(), &format!("/apis/{}", api.id));
        let call = match change {
            "PUT" => call.json(&json!({
                "name": "x", "description": "", "owner": "x", "contactEmail": "a@b.example",
            })),
            "PATCH" => call.json(&json!({ "description": "x" })),
            _ => call,
        };
        call.await.assert_problem(404, "api_not_found");
    }
}
