//! Agreements: who has to approve them.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use serde_json::json;
use testkit::{Installation, Upstream};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");

testkit::on_both_databases! {
    async fn two_people_approve_what_takes_two(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let (hospital, clinic) = (installation.tenant("hospital").await, installation.tenant("clinic").await);
        let upstream = Upstream::healthy("only").await;
        let api = hospital.publish("Records", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({ "approval": "two_person" })).await;
        hospital.deploy(&api, "/records", &[upstream.url()], &json!({})).await;
        let application = clinic.application("Board").await;
        let asked = clinic.subscribe(&application, &api, &plan).await;
        assert_eq!(asked["status"], "pending");
        let key = clinic.key(&application).await;
        installation.settled().await;
        let caller = installation.gateway().with_header("x-api-key", &key.secret);
        let path = format!("/subscriptions/{}", asked["id"].as_str().unwrap());
        let approve = format!("{path}/approve");
        let (first, second) = (hospital.provider(), hospital.admin());

        let words = json!({ "comments": "The purpose is treatment." });
        let noted = first.post(&approve, &words).await.ok();
        assert_eq!((&noted["status"], &noted["decidedBy"]), (&json!("pending"), &json!(null)));
        assert_eq!(noted["firstApproval"]["by"], first.get("/me").await.ok()["userId"]);
        installation.settled().await;
        caller.get("/records/appointments").await.expect_status(403);
        first.post(&approve, &words).await.assert_problem(409, "own_approval");
        clinic.admin().post(&approve, &words).await.assert_problem(403, "forbidden");
        assert!(second.get("/approvals").await.text().contains(asked["id"].as_str().unwrap()));

        let page = format!("/approvals/agreements/{}", asked["id"].as_str().unwrap());
        for (who, what) in [
            (first, "You have approved this."),
            (second, "another person has to approve as well"),
        ] {
            let email = who.get("/me").await.ok()["email"].as_str().unwrap().to_owned();
            let cookie = installation.sign_in_to_portal(&email).await;
            let page = installation.operations().get(&page).header("cookie", &cookie).await;
            assert!(page.text().contains(what), "{}", page.text());
        }

        let done = second.post(&approve, &words).await.ok();
        assert_eq!((&done["status"], &done["firstApproval"]), (&json!("active"), &noted["firstApproval"]));
        assert_eq!(done["decidedBy"], second.get("/me").await.ok()["userId"]);
        installation.settled().await;
        caller.get("/records/appointments").await.expect_status(200);
        let trail = second.get("/audit/events?action=subscription.approve").await.items();
        let said: Vec<_> = trail.iter().rev().map(|entry| entry["details"]["approval"].clone()).collect();
        assert_eq!(said.iter().filter(|one| !one.is_null()).collect::<Vec<_>>(), ["first", "second"]);

        // What was suspended goes on after two people say so again.
        first.post(&format!("{path}/suspend"), &words).await.ok();
        let again = second.post(&approve, &words).await.ok();
        assert_eq!(again["status"], "suspended");
        second.post(&approve, &words).await.assert_problem(409, "own_approval");
        assert_eq!(first.post(&approve, &words).await.ok()["status"], "active");
    }

    async fn one_of_two_can_reject(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let api = hospital.publish("Records", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({ "approval": "two_person" })).await;
        let application = hospital.application("Board").await;
        let asked = hospital.subscribe(&application, &api, &plan).await;
        let path = format!("/subscriptions/{}", asked["id"].as_str().unwrap());
        hospital.provider().post(&format!("{path}/approve"), &json!({})).await.ok();
        let words = json!({ "comments": "No purpose." });
        let rejected = hospital.admin().post(&format!("{path}/reject"), &words).await.ok();
        assert_eq!(rejected["status"], "rejected");
    }
}
