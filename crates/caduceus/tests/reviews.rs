//! People of subscribers say how an API is, once each, and nobody else does.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use serde_json::json;
use testkit::Installation;

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");

testkit::on_both_databases! {
    async fn subscribers_review_an_api_once_each_and_others_do_not(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let (hospital, clinic) = (installation.tenant("hospital").await, installation.tenant("clinic").await);
        let stranger = installation.tenant("stranger").await;
        let api = hospital.publish("Beds", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({})).await;
        let path = format!("/apis/{}/reviews", api.id);
        let good = json!({ "stars": 4, "words": "Quick." });

        clinic.consumer().post(&path, &good).await.assert_problem(409, "not_subscribed");
        let application = clinic.application("Board").await;
        clinic.subscribe(&application, &api, &plan).await;
        for words in ["x".repeat(4_001)] {
            let long = json!({ "stars": 4, "words": words });
            clinic.consumer().post(&path, &long).await.assert_problem(422, "validation_failed");
        }
        let none = json!({ "stars": 0 });
        clinic.consumer().post(&path, &none).await.assert_problem(422, "validation_failed");
        clinic.provider().post(&path, &good).await.assert_problem(403, "forbidden");
        hospital.admin().post(&path, &good).await.assert_problem(409, "not_subscribed");
        stranger.consumer().post(&path, &good).await.assert_problem(409, "not_subscribed");

        let dry = clinic.consumer().post(&format!("{path}?dryRun=true"), &good).await;
        dry.created();
        let made = clinic.consumer().post(&path, &good).await.created();
        clinic.consumer().post(&path, &good).await.assert_problem(409, "already_exists");
        clinic.admin().post(&path, &json!({ "stars": 5 })).await.created();
        let seen = stranger.auditor().get(&path).await.ok();
        assert_eq!(seen["rating"], json!({ "average": 4.5, "count": 2 }));
        let first = seen["items"].as_array().unwrap().iter().find(|one| one["stars"] == 4).unwrap();
        assert_eq!((&first["words"], &first["tenantName"]), (&json!("Quick."), &json!("Tenant clinic")));

        let own = format!("{path}/{}", made["id"].as_str().unwrap());
        clinic.admin().put(&own, &json!({ "stars": 1 })).await.assert_problem(403, "forbidden");
        clinic.admin().delete(&own).await.assert_problem(403, "forbidden");
        let stale = clinic.consumer().put(&own, &json!({ "stars": 2 })).header("if-match", "\"7\"").await;
        stale.assert_problem(412, "stale_revision");
        clinic.consumer().put(&own, &json!({ "stars": 2 })).await.ok();
        assert_eq!(clinic.consumer().get(&path).await.ok()["rating"]["average"], 3.5);
        installation.admin().delete(&own).await.expect_status(204);
        assert_eq!(clinic.consumer().get(&path).await.ok()["rating"]["count"], 1);

        let secret = hospital.publish("Secret", &json!({ "visibility": "private" })).await;
        let hidden = format!("/apis/{}/reviews", secret.id);
        clinic.consumer().get(&hidden).await.assert_problem(404, "api_not_found");
        clinic.consumer().post(&hidden, &good).await.assert_problem(404, "api_not_found");
        let trail = clinic.auditor().get("/audit/events?action=review.create").await.items();
        assert_eq!(trail.iter().filter(|entry| entry["outcome"] == "success").count(), 2, "{trail:?}");
    }
}
