//! Requests compared with the specification, from the deployment's setting to the caller's answer.

use serde_json::{Value, json};

use crate::Market;

testkit::on_both_databases! {
    async fn a_deployment_decides_whether_requests_must_fit(database: Database) {
        let market = Market::open(database, json!({})).await;
        let (provider, caller) = (market.hospital.provider(), market.caller());
        let path = format!("/deployments/{}", market.deployment);
        let bad = json!({ "start": 7 });
        assert_eq!(provider.get(&path).await.ok()["validation"], "off");
        caller.post("/scheduling/appointments", &bad).await.expect_status(200);

        let changed = provider.patch(&path, &json!({ "validation": "warn" })).await.ok();
        assert_eq!(changed["validation"], "warn");
        market.installation.settled().await;
        let answer = caller.post("/scheduling/appointments", &bad).await.expect_status(200);
        assert_eq!(answer.header("caduceus-validation"), Some("warn; errors=1"));

        provider.patch(&path, &json!({ "validation": "enforce" })).await.ok();
        market.installation.settled().await;
        let answer = caller.post("/scheduling/appointments", &bad).await;
        answer.assert_problem(422, "validation_failed");
        let errors: Value = answer.json()["errors"].clone();
        assert_eq!(errors, json!([{ "field": "/body/start", "message": "must be a string" }]));
        caller.post("/scheduling/appointments", &json!({ "start": "9:00" })).await.expect_status(200);
        caller.get("/scheduling/appointments/7").await.expect_status(200);
        caller.get("/scheduling/elsewhere").await.assert_problem(404, "operation_not_found");
        let answer = caller.delete("/scheduling/appointments").await;
        answer.assert_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET, POST"));

        let refused = provider.patch(&path, &json!({ "validation": "sometimes" })).await;
        assert!(refused.status == 400 || refused.status == 422, "{}", refused.status);
        provider.patch(&path, &json!({ "validation": null })).await.ok();
        assert_eq!(provider.get(&path).await.ok()["validation"], "off");
    }
}
