//! Calls through the gateway: spread, limited, answered for, counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Behaviour, Upstream, eventually};

use crate::{Market, SOON};

testkit::on_both_databases! {
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

    async fn both_sides_see_the_usage_and_strangers_do_not(database: Database) {
        let market = Market::open(database, json!({})).await;
        let pharmacy = market.installation.tenant("pharmacy").await;
        let caller = market.caller();
        let standing = format!("/apis/{}/availability", market.api.id);
        let before = pharmacy.consumer().get(&standing).await.ok();
        assert_eq!(before["answered"], json!(null), "of no calls nothing is said");
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
        let mut failed = Vec::new();
        for _ in 0..10 {
            let answer = caller.get("/scheduling/appointments").await.expect_status(500);
            failed.insert(0, answer.header("x-request-id").unwrap().to_owned());
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
        assert!((58.0..2_000.0).contains(&p95), "{metrics}");
        let standing = pharmacy.consumer().get(&standing).await.ok();
        assert_eq!(standing["answered"], 80.0, "whoever sees the API sees how it does");
        assert!((58.0..2_000.0).contains(&standing["p95ResponseTimeMs"].as_f64().unwrap()));
        let hours = standing["hours"].as_array().unwrap();
        assert_eq!(hours.len(), 24);
        assert!(!standing.to_string().contains("50,"), "but not how often it is called");
        let mean = metrics["averageResponseTimeMs"].as_f64().unwrap();
        assert!((11.0..p95).contains(&mean), "{metrics}");
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

        assert_eq!(seen["versions"][0]["version"], "1.0.0");
        let operation = &seen["operations"][0];
        assert_eq!((&operation["method"], &operation["path"]), (&json!("GET"), &json!("/appointments")));
        assert_eq!((&operation["callVolume"], &operation["errorCount"]), (&json!(50), &json!(10)));
        assert_eq!(seen["consumers"][0]["applicationName"], "Portal");
        assert_eq!(market.metrics(consumer).await["consumers"], json!([]), "for the owner only");
        let narrowed = |part: String| {
            let path = format!("/apis/{}/metrics?period=1h&{part}", market.api.id);
            async move { provider.get(&path).await }
        };
        let index = operation["operation"].as_u64().unwrap();
        for (part, calls) in [
            (format!("version=1.0.0&operation={index}"), 50),
            (format!("operation={}", index + 1), 0),
            (format!("applicationId={}", market.application), 50),
            (format!("applicationId={}", market.application.replace(char::is_numeric, "0")), 0),
        ] {
            let found = narrowed(part.clone()).await.ok();
            assert_eq!(found["metrics"]["callVolume"], calls, "{part}");
        }
        narrowed("version=9.9.9".to_owned()).await.assert_problem(404, "version_not_found");

        // Failures are found by the ids of their requests, and say nothing of what was asked.
        let errors = format!("/apis/{}/errors", market.api.id);
        let found = provider.get(&errors).await.items();
        let ids: Vec<_> = found.iter().map(|one| one["requestId"].as_str().unwrap()).collect();
        assert_eq!(ids, failed);
        assert_eq!((&found[0]["status"], &found[0]["fault"]), (&json!(500), &json!("upstream")));
        assert_eq!((&found[0]["path"], &found[0]["applicationName"]), (&json!("/appointments"), &json!("Portal")));
        let page = provider.get(&format!("{errors}?limit=4")).await.ok();
        let next = format!("{errors}?limit=4&cursor={}", page["nextCursor"].as_str().unwrap());
        assert_eq!(provider.get(&next).await.items()[0]["requestId"], failed[4].as_str());
        assert_eq!(consumer.get(&errors).await.items().len(), 10);
        let own = format!("/applications/{}/errors", market.application);
        assert_eq!(consumer.get(&own).await.items().len(), 10);
        assert_eq!(pharmacy.consumer().get(&errors).await.items(), Vec::<Value>::new());
        pharmacy.consumer().get(&own).await.assert_problem(404, "application_not_found");

        let stranger = market.metrics(pharmacy.consumer()).await;
        assert_eq!(stranger["metrics"]["callVolume"], 0);
        assert_eq!(stranger["metrics"]["uniqueConsumers"], 0);
        let denied = pharmacy.consumer().get(&path).await;
        denied.assert_problem(404, "application_not_found");
        let theirs = pharmacy.provider().get("/analytics/consumers").await.items();
        assert_eq!(theirs, Vec::<Value>::new());
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
            // A second is usual; a busy machine takes longer.
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
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

    async fn what_a_pool_is_told_reads_back_and_holds(database: Database) {
        let market = Market::open(database, json!({})).await;
        let provider = market.hospital.provider();
        let path = format!("/deployments/{}", market.deployment);
        let before = provider.get(&path).await.ok();
        assert_eq!(before["upstream"]["protocol"], "auto");
        assert_eq!(before["upstream"]["resilience"]["retryBudget"]["percent"], 20);
        let changes = json!({ "upstream": {
            "balance": "consistent_hash", "hashOn": { "header": "X-Ward" },
            "healthCheck": { "kind": "tcp", "intervalSeconds": 1 },
            "resilience": { "perTryTimeoutSeconds": 0.25, "breaker": { "minimumCalls": 5 } },
        } });
        let after = provider.patch(&path, &changes).await.ok();
        let upstream = &after["upstream"];
        assert_eq!(upstream["hashOn"], json!({ "header": "X-Ward" }));
        assert_eq!(upstream["healthCheck"]["kind"], "tcp");
        assert_eq!(upstream["resilience"]["perTryTimeoutSeconds"], 0.25);
        assert_eq!(upstream["resilience"]["breaker"]["failurePercent"], 50);
        assert_eq!(provider.get(&path).await.ok()["upstream"], *upstream);
        market.installation.settled().await;
        let caller = market.caller();
        for _ in 0..4 {
            caller.get("/scheduling/appointments").await.expect_status(200);
        }
        // Back to what holds when nothing is said.
        let nothing = json!({ "upstream": {
            "balance": "round_robin", "hashOn": null, "healthCheck": null, "resilience": null,
        } });
        let again = provider.patch(&path, &nothing).await.ok();
        assert_eq!(again["upstream"]["resilience"], before["upstream"]["resilience"]);
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
