//! The right to call: how it begins, changes and ends.

use std::time::Duration;

use serde_json::json;
use testkit::{Answer, Api, Client, eventually, from_now};

use crate::Market;

testkit::on_both_databases! {
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

    async fn keys_and_subscriptions_end_by_themselves(database: Database) {
        let market = Market::open(database, json!({})).await;
        let consumer = market.clinic.consumer();
        let path = format!("/applications/{}/credentials", market.application);
        let body = json!({ "type": "api_key", "expiresAt": from_now(2) });
        let short = consumer.post(&path, &body).await.created();
        let short = market.installation.gateway().with_token(short["apiKey"].as_str().unwrap());
        let other = market.clinic.application("Short").await;
        let plans = consumer.get(&format!("/plans?apiId={}", market.api.id)).await.items();
        let request = json!({
            "applicationId": other, "apiId": market.api.id, "planId": plans[0]["id"],
            "expiresAt": from_now(2),
        });
        let subscription = consumer.post("/subscriptions", &request).await.created();
        let other = market.clinic.key(&other).await;
        market.installation.settled().await;
        let other = market.installation.gateway().with_header("x-api-key", &other.secret);
        for caller in [&short, &other] {
            caller.get("/scheduling/appointments").await.expect_status(200);
        }
        for (caller, status, code) in
            [(&short, 401, "invalid_credential"), (&other, 403, "subscription_expired")]
        {
            let ended = eventually("the right ends", Duration::from_secs(5), || async {
                let answer = caller.get("/scheduling/appointments").await;
                (answer.status != 200).then_some(answer)
            });
            ended.await.assert_problem(status, code);
        }
        let path = format!("/subscriptions/{}", subscription["id"].as_str().unwrap());
        eventually("its state follows", Duration::from_secs(40), || async {
            (consumer.get(&path).await.ok()["status"] == "expired").then_some(())
        }).await;
        for past in [from_now(-5), "1970-01-01T00:00:00Z".to_owned()] {
            let request = json!({
                "applicationId": market.application, "apiId": market.api.id,
                "planId": plans[0]["id"], "expiresAt": past,
            });
            let answer = consumer.post("/subscriptions", &request).await;
            answer.assert_problem(422, "validation_failed");
        }
    }

    async fn a_quota_outlives_the_server(database: Database) {
        let quota = json!({ "quota": { "requests": 5, "period": "month" } });
        let mut market = Market::open(database, quota).await;
        for left in [4, 3, 2] {
            let answer = market.caller().get("/scheduling/appointments").await.expect_status(200);
            let left = i32::to_string(&left);
            assert_eq!(answer.header("x-ratelimit-remaining"), Some(&*left));
        }
        market.installation.restart().await;
        for _ in 0..2 {
            market.caller().get("/scheduling/appointments").await.expect_status(200);
        }
        let refused = market.caller().get("/scheduling/appointments").await;
        refused.assert_problem(429, "quota_exceeded");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        market.installation.restart().await;
        let refused = market.caller().get("/scheduling/appointments").await;
        refused.assert_problem(429, "quota_exceeded");
    }

    async fn changes_that_come_together_all_reach_the_gateway(database: Database) {
        let market = Market::open(database, json!({})).await;
        let plans = format!("/plans?apiId={}", market.api.id);
        let plan = market.clinic.consumer().get(&plans).await.items()[0]["id"].clone();
        let mut consumers = tokio::task::JoinSet::new();
        for number in 0..40 {
            let consumer = market.clinic.consumer().clone();
            let (api, plan) = (market.api.id.clone(), plan.clone());
            consumers.spawn(async move {
                let body = json!({ "name": format!("Application {number}") });
                let id = consumer.post("/applications", &body).await.created()["id"].clone();
                let body = json!({ "applicationId": id, "apiId": api, "planId": plan });
                consumer.post("/subscriptions", &body).await.created();
                let path = format!("/applications/{}/credentials", id.as_str().unwrap());
                let body = json!({ "type": "api_key" });
                consumer.post(&path, &body).await.created()["apiKey"].as_str().unwrap().to_owned()
            });
        }
        let keys = consumers.join_all().await;
        market.installation.settled().await;
        for key in keys {
            let caller = market.installation.gateway().with_header("x-api-key", &key);
            caller.get("/scheduling/appointments").await.expect_status(200);
        }
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
}

async fn works_within_a_second(caller: &Client) {
    eventually("the call is let through", Duration::from_secs(1), || async {
        (caller.get("/scheduling/appointments").await.status == 200).then_some(())
    })
    .await;
}

async fn stops_within_a_second(caller: &Client) -> Answer {
    eventually("the call is refused", Duration::from_secs(1), || async {
        let answer = caller.get("/scheduling/appointments").await;
        (answer.status != 200).then_some(answer)
    })
    .await
}
