//! Agreements: who has to approve them.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use testkit::{AuthenticatorApp, Client, Installation, PASSWORD, Upstream};

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

    async fn whoever_approves_signs_where_the_plan_asks_for_it(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let (hospital, clinic) = (installation.tenant("hospital").await, installation.tenant("clinic").await);
        let api = hospital.publish("Records", &json!({})).await;
        let provider = hospital.provider();
        let plan = json!({ "apiId": api.id, "name": "Signed", "approval": "automatic", "signed": true });
        provider.post("/plans", &plan).await.assert_problem(422, "validation_failed");
        let plan = hospital.offer_plan(&api, &json!({ "approval": "two_person", "signed": true })).await;
        let application = clinic.application("Board").await;
        let asked = clinic.subscribe(&application, &api, &plan).await;
        let path = format!("/subscriptions/{}", asked["id"].as_str().unwrap());
        let approve = format!("{path}/approve");
        let signature = |password: &str| {
            json!({ "signature": { "meaning": "Approved by data protection", "currentPassword": password } })
        };

        let field = |problem: Value| problem["errors"][0]["field"].as_str().unwrap().to_owned();
        let refused = provider.post(&approve, &json!({})).await;
        assert_eq!(field(refused.assert_problem(422, "validation_failed")), "signature");
        let refused = provider.post(&approve, &signature("a guess")).await;
        assert_eq!(field(refused.assert_problem(422, "validation_failed")), "signature.currentPassword");
        let unsaid = json!({ "signature": { "meaning": "", "currentPassword": PASSWORD } });
        provider.post(&approve, &unsaid).await.assert_problem(422, "validation_failed");
        clinic.admin().post(&approve, &signature(PASSWORD)).await.assert_problem(403, "forbidden");
        let rehearsed = provider.post(&format!("{approve}?dryRun=true"), &signature(PASSWORD)).await;
        assert_eq!(rehearsed.ok()["signatures"].as_array().unwrap().len(), 1);
        assert_eq!(provider.get(&path).await.ok()["signatures"], json!([]));

        let noted = provider.post(&approve, &signature(PASSWORD)).await.ok();
        let me = provider.get("/me").await.ok();
        let first = &noted["signatures"][0];
        assert_eq!((&first["by"], &first["name"]), (&me["userId"], &me["name"]));
        assert_eq!(first["meaning"], "Approved by data protection");
        assert_eq!(first["sha256"].as_str().unwrap().len(), 64);

        // Who has a second factor shows it as well, each code once.
        let admin = hospital.admin();
        let app = turn_on_second_factor(admin).await;
        let refused = admin.post(&approve, &signature(PASSWORD)).await;
        assert_eq!(field(refused.assert_problem(422, "validation_failed")), "signature.code");
        let mut signed = signature(PASSWORD);
        signed["signature"]["code"] = json!("000000");
        let refused = admin.post(&approve, &signed).await;
        assert_eq!(field(refused.assert_problem(422, "validation_failed")), "signature.code");
        signed["signature"]["code"] = json!(app.code(1));
        let done = admin.post(&approve, &signed).await.ok();
        assert_eq!(done["status"], "active");
        let signatures = done["signatures"].as_array().unwrap();
        assert_eq!(signatures.len(), 2);
        assert_eq!(signatures[0]["sha256"], signatures[1]["sha256"], "both signed the same");
        assert_ne!(signatures[0]["by"], signatures[1]["by"]);

        // Names of the owner's people stay there, and the trail says what was signed.
        let seen = clinic.consumer().get(&path).await.ok();
        assert_eq!(seen["signatures"], json!([]));
        assert!(!clinic.consumer().get("/subscriptions").await.text().contains("data protection"));
        let trail = admin.get("/audit/events?action=subscription.approve").await;
        assert_eq!(trail.items()[0]["details"]["signature"]["sha256"], signatures[1]["sha256"]);
        admin.post(&format!("{path}/suspend"), &json!({})).await.ok();
        let kept = provider.get(&path).await.ok();
        assert_eq!(kept["signatures"], done["signatures"], "what was signed stays signed");
    }

    async fn the_register_tells_both_sides_who_uses_what(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let (hospital, clinic) = (installation.tenant("hospital").await, installation.tenant("clinic").await);
        let stranger = installation.tenant("stranger").await;
        let classification = json!({ "containsPhi": true, "dataCategories": ["laboratory", "demographics"] });
        let api = hospital.publish("Records", &json!({ "classification": classification })).await;
        let plan = hospital.offer_plan(&api, &json!({ "name": "Open" })).await;
        let asked = |application: &str, more: Value| {
            let mut body = json!({ "applicationId": application, "apiId": api.id, "planId": plan });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let application = clinic.application("=Board").await;
        let refused = asked(&application, json!({ "dataCategories": ["genetics"] }));
        let refused = clinic.consumer().post("/subscriptions", &refused).await;
        assert_eq!(refused.assert_problem(422, "validation_failed")["errors"][0]["field"], "dataCategories");
        let terms = json!({ "purposeOfUse": "TREAT", "dataCategories": ["laboratory", "laboratory"] });
        let made = clinic.consumer().post("/subscriptions", &asked(&application, terms)).await.created();
        assert_eq!(made["dataCategories"], json!(["laboratory"]));
        let other = clinic.application("Other").await;
        let all = clinic.consumer().post("/subscriptions", &asked(&other, json!({}))).await.created();
        assert_eq!(all["dataCategories"], json!(["laboratory", "demographics"]));
        let approved = hospital.offer_plan(&api, &json!({ "name": "Asked", "approval": "owner" })).await;
        let third = clinic.application("Third").await;
        clinic.subscribe(&third, &api, &approved).await;

        for side in [hospital.auditor(), clinic.auditor(), hospital.admin()] {
            let register = side.get("/agreements").await.ok();
            let items = register["items"].as_array().unwrap();
            assert_eq!(items.len(), 2, "what waits is no agreement yet: {register}");
            let entry = &items[1];
            assert_eq!(entry["id"], made["id"]);
            for (field, value) in [
                ("apiName", "Records"), ("version", "1.0.0"), ("planName", "Open"), ("applicationName", "=Board"),
                ("ownerName", "Tenant hospital"), ("consumerName", "Tenant clinic"), ("purposeOfUse", "TREAT"),
            ] {
                assert_eq!(entry[field], value, "{field}");
            }
            assert_eq!(entry["classification"]["containsPhi"], true);
            let first = side.get("/agreements?limit=1").await.ok();
            assert_eq!(first["items"][0]["id"], all["id"]);
            let next = format!("/agreements?limit=1&cursor={}", first["nextCursor"].as_str().unwrap());
            assert_eq!(side.get(&next).await.ok()["items"][0]["id"], made["id"]);
        }
        assert_eq!(stranger.auditor().get("/agreements").await.ok()["items"], json!([]));
        clinic.consumer().get("/agreements").await.assert_problem(403, "forbidden");

        let cookie = installation.sign_in_to_portal("auditor@clinic.example").await;
        let page = async |path: &str| installation.operations().get(path).header("cookie", &cookie).await.text();
        assert!(page("/agreements").await.contains("of Tenant hospital"));
        let csv = page("/agreements.csv").await;
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 3, "{csv}");
        assert!(lines[2].contains(",Records,1.0.0,Open,Tenant hospital,Tenant clinic,\"'=Board\",TREAT,laboratory,phi,"), "{csv}");
    }

    async fn passwords_are_not_guessed_by_signing(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let api = hospital.publish("Records", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({ "approval": "owner", "signed": true })).await;
        let application = hospital.application("Board").await;
        let asked = hospital.subscribe(&application, &api, &plan).await;
        let approve = format!("/subscriptions/{}/approve", asked["id"].as_str().unwrap());
        let guess = json!({ "signature": { "meaning": "Fine", "currentPassword": "a guess" } });
        let mut refused = 0;
        while hospital.provider().post(&approve, &guess).await.status == 422 {
            refused += 1;
            assert!(refused < 100, "guesses are bounded");
        }
        let right = json!({ "signature": { "meaning": "Fine", "currentPassword": PASSWORD } });
        hospital.provider().post(&approve, &right).await.assert_problem(429, "too_many_attempts");
        assert_eq!(hospital.admin().post(&approve, &right).await.ok()["status"], "active");
    }

    async fn an_approval_is_signed_in_the_portal(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let api = hospital.publish("Records", &json!({})).await;
        let plan = hospital.offer_plan(&api, &json!({ "approval": "owner", "signed": true })).await;
        let application = hospital.application("Board").await;
        let asked = hospital.subscribe(&application, &api, &plan).await;
        let id = asked["id"].as_str().unwrap();
        let cookie = installation.sign_in_to_portal("provider@hospital.example").await;
        let page = format!("/approvals/agreements/{id}");
        let shown = installation.operations().get(&page).header("cookie", &cookie).await.text();
        assert!(shown.contains("Your signature, if you approve"), "{shown}");
        let hidden = |name: &str| {
            let (_, rest) = shown.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let decide = async |password: &str| {
            let fields = [
                ("csrf", hidden("csrf")), ("once", hidden("once")), ("revision", hidden("revision")),
                ("decision", "approve".to_owned()), ("meaning", "I approve".to_owned()),
                ("current-password", password.to_owned()),
            ];
            let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+").replace('=', "%3D"))).collect();
            let call = installation.operations().call(http::Method::POST, &page).body(body.join("&"));
            let call = call.header("content-type", "application/x-www-form-urlencoded");
            call.header("cookie", &cookie).header("sec-fetch-site", "same-origin").await
        };
        let refused = decide("a guess").await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.text().contains("The password is wrong."), "{}", refused.text());
        assert!(!refused.text().contains("a guess"));
        decide(PASSWORD).await.expect_status(303);
        let shown = installation.operations().get(&page).header("cookie", &cookie).await.text();
        assert!(shown.contains("provider,") && shown.contains(": I approve"), "{shown}");
    }
}

async fn turn_on_second_factor(person: &Client) -> AuthenticatorApp {
    let begun =
        person.post("/me/second-factor", &json!({ "currentPassword": PASSWORD })).await.ok();
    let app = AuthenticatorApp::with(begun["secret"].as_str().unwrap());
    person.post("/me/second-factor/confirm", &json!({ "code": app.code(0) })).await.ok();
    app
}
