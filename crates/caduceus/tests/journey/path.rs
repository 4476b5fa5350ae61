//! From a description to the first call, and who sees what on the way.

use serde_json::json;
use testkit::{Api, Installation, Tenant, Upstream, eventually};

use crate::{BINARY, SOON};

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
