//! Who may sign in, how, and for how long.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use serde_json::json;
use testkit::{AuthenticatorApp, Database, Installation, PASSWORD, Tenant, eventually, from_now};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");

async fn start(database: Database) -> (Installation, Tenant) {
    let installation = Installation::start(BINARY, database).await;
    let hospital = installation.tenant("hospital").await;
    (installation, hospital)
}

testkit::on_both_databases! {
    async fn a_legal_hold_keeps_what_is_old(database: Database) {
        let mut installation = Installation::start(BINARY, database).await;
        let admin = installation.admin().clone();
        let admin = &admin;
        let settings = |changes: serde_json::Value| async move {
            admin.patch("/admin/settings", &changes).await.ok()
        };
        for wrong in [json!({ "auditRetentionDays": 364 }), json!({ "legalHold": 1 })] {
            admin.patch("/admin/settings", &wrong).await.assert_problem(422, "validation_failed");
        }
        let held = settings(json!({ "auditRetentionDays": 400, "legalHold": true })).await;
        assert_eq!((&held["auditRetentionDays"], &held["legalHold"]), (&json!(400), &json!(true)));
        let replaced = admin.put("/admin/settings", &json!({ "name": "N", "usageRetentionDays": 40 })).await;
        assert_eq!(replaced.ok()["legalHold"], true, "a hold is lifted only by saying so");
        settings(json!({ "auditRetentionDays": 400 })).await;
        // One entry of two years ago, and one of last year.
        let old = |id: &str, days: i64| {
            let at: jiff::Timestamp = from_now(-86_400 * days).parse().unwrap();
            let at = at.as_microsecond();
            format!(
                "INSERT INTO audit_event SELECT '{id}', tenant_id, {at}, actor, actor_tenant, 'old.{days}', target, outcome,
                 request_id, details FROM audit_event LIMIT 1;"
            )
        };
        let entries = old("aud_01000000000000000000000001", 730) + &old("aud_01000000000000000000000002", 390);
        installation.sql(&entries).await;
        let count = |days: u32| async move {
            admin.get(&format!("/audit/events?action=old.{days}")).await.items().len()
        };
        assert_eq!((count(730).await, count(390).await), (1, 1));
        // Housekeeping begins with the process.
        installation.restart().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(count(730).await, 1, "held");
        settings(json!({ "legalHold": false })).await;
        installation.restart().await;
        eventually("the old entry is removed", Duration::from_secs(10), || async {
            (count(730).await == 0).then_some(())
        })
        .await;
        assert_eq!(count(390).await, 1);
    }

    async fn what_is_stored_of_a_person_can_be_had(database: Database) {
        let (installation, hospital) = start(database).await;
        let (admin, provider, reviewer) = (hospital.admin(), hospital.provider(), hospital.reviewer());
        let api = hospital.publish("Records", &json!({})).await;
        let plan = json!({ "approval": "two_person", "signed": true });
        let plan = hospital.offer_plan(&api, &plan).await;
        let application = hospital.application("Board").await;
        let asked = hospital.subscribe(&application, &api, &plan).await;
        let approve = format!("/subscriptions/{}/approve", asked["id"].as_str().unwrap());
        for (who, meaning) in [(provider, "Fine by us"), (admin, "Fine by me")] {
            let signature = json!({ "meaning": meaning, "currentPassword": PASSWORD });
            who.post(&approve, &json!({ "signature": signature })).await.ok();
        }

        let me = provider.get("/me").await.ok();
        let own = provider.get("/me/personal-data").await.ok();
        assert_eq!((&own["account"]["email"], &own["complete"]), (&me["email"], &json!(true)));
        assert_eq!(own["sessions"][0]["id"], me["sessionId"]);
        let deeds: Vec<_> = own["deeds"].as_array().unwrap().iter()
            .map(|deed| (deed["kind"].as_str().unwrap(), deed["text"].as_str().unwrap())).collect();
        for deed in [("api", "Records"), ("version", "1.0.0"), ("signature", "Fine by us"), ("decision", "")] {
            assert!(deeds.contains(&deed), "{deed:?}: {deeds:?}");
        }
        assert!(own["audit"].as_array().unwrap().iter().any(|entry| entry["action"] == "api.register"));
        let text = own.to_string();
        for other in ["Fine by me", "argon2", PASSWORD, "reviewer@hospital.example"] {
            assert!(!text.contains(other), "{other} in {text}");
        }
        assert_eq!(reviewer.get("/me/personal-data").await.ok()["deeds"], json!([]));

        let path = format!("/admin/users/{}/personal-data", me["userId"].as_str().unwrap());
        assert_eq!(admin.get(&path).await.ok()["deeds"], own["deeds"]);
        reviewer.get(&path).await.assert_problem(403, "forbidden");
        let other = installation.tenant("clinic").await;
        other.admin().get(&path).await.assert_problem(404, "user_not_found");
        let trail = admin.get("/audit/events?action=user.export").await.items();
        let noted = |outcome: &str| trail.iter().find(|entry| entry["outcome"] == outcome).unwrap();
        assert_eq!(trail.len(), 2, "who reads of others is noted, and who tries to: {trail:?}");
        assert_eq!(noted("success")["target"], me["userId"]);
        assert_eq!(noted("denied")["actor"], reviewer.get("/me").await.ok()["userId"]);

        let cookie = installation.sign_in_to_portal("provider@hospital.example").await;
        let file = installation.operations().get("/account/personal-data.json").header("cookie", &cookie).await;
        assert_eq!(file.header("content-disposition"), Some("attachment; filename=\"personal-data.json\""));
        assert_eq!(file.ok()["account"]["email"], me["email"]);

        // Whoever is removed leaves what others need: who signed, and a trail in which only a number stands for them.
        admin.delete(&format!("/admin/users/{}", me["userId"].as_str().unwrap())).await;
        admin.get(&path).await.assert_problem(404, "user_not_found");
        let listed = admin.get("/admin/users?limit=200").await.text();
        assert!(!listed.contains("provider@hospital.example"));
        let notices = admin.get("/audit/events?limit=200").await.text();
        assert!(!notices.contains("provider@hospital.example"), "{notices}");
    }

    async fn a_password_change_can_be_repeated_under_its_key(database: Database) {
        let (_installation, hospital) = start(database).await;
        let body = json!({ "currentPassword": PASSWORD, "newPassword": "a new one, long enough" });
        for _ in 0..2 {
            let call = hospital.consumer().put("/me/password", &body);
            call.header("idempotency-key", "password").await.expect_status(204);
        }
    }

    async fn an_account_is_locked_after_wrong_passwords(database: Database) {
        let (installation, hospital) = start(database).await;
        let nobody = installation.anonymous();
        let email = "consumer@hospital.example";
        let attempt = |email: &'static str, password: &'static str| async move {
            let fields = [("grant_type", "password"), ("username", email), ("password", password)];
            nobody.ask_token(&fields).await
        };
        for _ in 0..5 {
            attempt(email, "a wrong password").await.assert_problem(401, "unauthenticated");
        }
        let locked = attempt(email, PASSWORD).await;
        locked.assert_problem(429, "too_many_attempts");
        assert!(locked.header("retry-after").unwrap().parse::<u64>().unwrap() > 1);
        let unknown = attempt("nobody@hospital.example", PASSWORD).await;
        unknown.assert_problem(401, "unauthenticated");
        attempt("auditor@hospital.example", PASSWORD).await.ok();
        hospital.consumer().get("/me").await.ok();
        let trail = hospital.auditor().get("/audit/events?action=token.issue").await.items();
        let denied = trail.iter().filter(|entry| entry["outcome"] == "denied").count();
        assert_eq!(denied, 5);
        for wrong in [
            &[("grant_type", "magic")][..],
            &[("grant_type", "password")],
            &[("grant_type", "client_credentials"), ("client_id", "x")],
            &[("grant_type", "password"), ("username", "a"), ("password", "b"), ("scope", "god")],
        ] {
            assert_eq!(nobody.ask_token(wrong).await.status, 400, "{wrong:?}");
        }
    }

    async fn guesses_count_for_who_is_behind_a_proxy_and_not_for_the_proxy(database: Database) {
        let changes = json!({ "control": { "trustedProxies": ["127.0.0.1/32"] } });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let from = |address| installation.anonymous().with_header("x-forwarded-for", address);
        let guess = [("grant_type", "password"), ("username", "x@y.example"), ("password", "wrong one")];
        let attacker = from("1.2.3.4, 203.0.113.9");
        for _ in 0..30 {
            attacker.ask_token(&guess).await.assert_problem(401, "unauthenticated");
        }
        attacker.ask_token(&guess).await.assert_problem(429, "too_many_attempts");
        // Whatever was said before the proxy's own word.
        let disguised = from("198.51.100.1, 203.0.113.9");
        disguised.ask_token(&guess).await.assert_problem(429, "too_many_attempts");
        from("203.0.113.10").ask_token(&guess).await.assert_problem(401, "unauthenticated");
    }

    async fn a_session_ends_when_it_is_ended(database: Database) {
        let (installation, hospital) = start(database).await;
        let email = "consumer@hospital.example";
        let second = installation.anonymous().sign_in(email, PASSWORD).await;
        let sessions = second.get("/admin/sessions").await.items();
        assert_eq!(sessions.len(), 2);
        let own = sessions.iter().find(|session| session["isCurrent"] == true).unwrap();
        let other = sessions.iter().find(|session| session["isCurrent"] == false).unwrap();
        let other = format!("/admin/sessions/{}", other["id"].as_str().unwrap());
        hospital.provider().delete(&other).await.assert_problem(404, "session_not_found");
        second.delete(&other).await.expect_status(204);
        hospital.consumer().get("/me").await.assert_problem(401, "unauthenticated");
        second.get("/me").await.ok();
        let own = format!("/admin/sessions/{}", own["id"].as_str().unwrap());
        hospital.admin().delete(&own).await.expect_status(204);
        second.get("/me").await.assert_problem(401, "unauthenticated");
        let tenant = hospital.admin().get("/admin/sessions?scope=tenant").await.items();
        assert_eq!(tenant.len(), 4, "{tenant:?}");
    }

    async fn a_new_password_ends_the_other_sessions(database: Database) {
        let (installation, hospital) = start(database).await;
        let email = "consumer@hospital.example";
        let second = installation.anonymous().sign_in(email, PASSWORD).await;
        let wrong = json!({ "currentPassword": "not mine", "newPassword": "long enough for it" });
        second.put("/me/password", &wrong).await.assert_problem(422, "validation_failed");
        let short = json!({ "currentPassword": PASSWORD, "newPassword": "short" });
        second.put("/me/password", &short).await.assert_problem(422, "validation_failed");
        let good = json!({ "currentPassword": PASSWORD, "newPassword": "long enough for it" });
        second.put("/me/password", &good).await.expect_status(204);
        second.get("/me").await.ok();
        hospital.consumer().get("/me").await.assert_problem(401, "unauthenticated");
        let old = [("grant_type", "password"), ("username", email), ("password", PASSWORD)];
        installation.anonymous().ask_token(&old).await.assert_problem(401, "unauthenticated");
        installation.anonymous().sign_in(email, "long enough for it").await;
    }

    async fn a_found_session_is_no_way_to_guess_the_password(database: Database) {
        let (_installation, hospital) = start(database).await;
        let guess = json!({ "currentPassword": "a guess", "newPassword": "long enough for it" });
        let refused = eventually("guessing is refused", Duration::from_secs(60), || async {
            let answer = hospital.consumer().put("/me/password", &guess).await;
            (answer.status != 422).then_some(answer)
        });
        refused.await.assert_problem(429, "too_many_attempts");
        let right = json!({ "currentPassword": PASSWORD, "newPassword": "long enough for it" });
        let right = hospital.consumer().put("/me/password", &right).await;
        right.assert_problem(429, "too_many_attempts");
    }

    async fn an_invitation_is_accepted_once(database: Database) {
        let (installation, hospital) = start(database).await;
        let nobody = installation.anonymous();
        let body = json!({ "email": "new@hospital.example", "name": "New", "roles": ["consumer"] });
        let invited = hospital.admin().post("/admin/users", &body).await.created();
        assert_eq!(invited["status"], "invited");
        let fields =
            [("grant_type", "password"), ("username", "new@hospital.example"), ("password", PASSWORD)];
        nobody.ask_token(&fields).await.assert_problem(401, "unauthenticated");
        let accept = json!({ "token": invited["invitationToken"], "password": PASSWORD });
        let weak = json!({ "token": invited["invitationToken"], "password": "short" });
        let path = "/auth/accept-invitation";
        nobody.post(path, &weak).await.assert_problem(422, "validation_failed");
        nobody.post(path, &accept).await.ok();
        nobody.post(path, &accept).await.assert_problem(401, "unauthenticated");
        let person = nobody.sign_in("new@hospital.example", PASSWORD).await;
        assert_eq!(person.get("/me").await.ok()["roles"], json!(["consumer"]));
        hospital.admin().post("/admin/users", &body).await.assert_problem(409, "already_exists");
        let mighty = json!({ "email": "x@hospital.example", "name": "X", "roles": ["platform-admin"] });
        hospital.admin().post("/admin/users", &mighty).await.assert_problem(422, "validation_failed");
        let users = format!("/admin/users/{}", invited["id"].as_str().unwrap());
        hospital.admin().patch(&users, &json!({ "roles": ["auditor"] })).await.ok();
        person.get("/applications").await.assert_problem(403, "forbidden");
        hospital.admin().patch(&users, &json!({ "active": false })).await.ok();
        person.get("/me").await.assert_problem(401, "unauthenticated");
    }

    async fn a_second_factor_is_asked_for_and_each_code_is_good_once(database: Database) {
        let (installation, hospital) = start(database).await;
        let (nobody, person) = (installation.anonymous(), hospital.consumer());
        let email = person.get("/me").await.ok()["email"].as_str().unwrap().to_owned();
        let path = "/me/second-factor";
        let proof = json!({ "currentPassword": PASSWORD });
        let wrong = json!({ "currentPassword": "another password" });
        person.post(path, &wrong).await.assert_problem(422, "validation_failed");
        let no_code = json!({ "code": "123456" });
        person.post("/me/second-factor/confirm", &no_code).await.assert_problem(409, "no_second_factor_begun");
        person.post("/me/second-factor/recovery-codes", &proof).await.assert_problem(409, "no_second_factor");

        let begun = person.post(path, &proof).await.ok();
        let secret = begun["secret"].as_str().unwrap().to_owned();
        assert!(begun["uri"].as_str().unwrap().contains(&format!("secret={secret}&issuer=")));
        nobody.sign_in(&email, PASSWORD).await;
        let guess = json!({ "code": "000000" });
        person.post("/me/second-factor/confirm", &guess).await.assert_problem(422, "validation_failed");
        let app = AuthenticatorApp::with(&secret);
        let used = app.code(0);
        let first = json!({ "code": used });
        let made = person.post("/me/second-factor/confirm", &first).await.ok();
        let recovery: Vec<String> = serde_json::from_value(made["recoveryCodes"].clone()).unwrap();
        assert_eq!(recovery.len(), 10);
        let standing = person.get(path).await.ok();
        assert_eq!((&standing["active"], &standing["recoveryCodesLeft"]), (&json!(true), &json!(10)));

        let sign_in = async |code: Option<&str>| {
            let mut fields = vec![("grant_type", "password"), ("username", &*email), ("password", PASSWORD)];
            fields.extend(code.map(|code| ("code", code)));
            nobody.ask_token(&fields).await
        };
        sign_in(None).await.assert_problem(401, "second_factor_required");
        sign_in(Some(&used)).await.assert_problem(401, "unauthenticated");
        // Clocks may differ by a step.
        let code = app.code(1);
        sign_in(Some(&code)).await.ok();
        sign_in(Some(&code)).await.assert_problem(401, "unauthenticated");
        let spoken = recovery[0].to_uppercase().replace('-', " ");
        sign_in(Some(&spoken)).await.ok();
        sign_in(Some(&recovery[0])).await.assert_problem(401, "unauthenticated");
        assert_eq!(person.get(path).await.ok()["recoveryCodesLeft"], 9);
        let entries = hospital.admin().get("/audit/events?action=token.issue").await.items();
        let by = |how: &str| entries.iter().filter(|entry| entry["details"]["secondFactor"] == how).count();
        assert_eq!((by("totp"), by("recovery_code")), (1, 1));

        // Codes cannot be guessed: the right password does not begin the count anew.
        let mut refused = 0;
        for number in 0..8 {
            sign_in(None).await;
            refused = sign_in(Some(&format!("{number:06}"))).await.status;
            if refused == 429 {
                break;
            }
        }
        assert_eq!(refused, 429, "the account pauses");
        sign_in(Some(&recovery[1])).await.assert_problem(429, "too_many_attempts");
        let mut rest = person.post("/me/second-factor/recovery-codes", &proof).await.ok();
        assert_eq!(rest["recoveryCodes"].as_array_mut().unwrap().len(), 10);
        person.post("/me/second-factor/remove", &proof).await.expect_status(204);
        assert_eq!(person.get(path).await.ok()["active"], false);
    }

    async fn of_too_many_sessions_in_browsers_the_oldest_end(database: Database) {
        let changes = json!({ "portal": { "sessionsPerPerson": 2 } });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let hospital = installation.tenant("hospital").await;
        let email = hospital.consumer().get("/me").await.ok()["email"].as_str().unwrap().to_owned();
        let site = installation.operations();
        let sign_in = || installation.sign_in_to_portal(&email);
        let cookies = [sign_in().await, sign_in().await, sign_in().await];
        for (cookie, status) in cookies.iter().zip([303, 200, 200]) {
            site.get("/account").header("cookie", cookie).await.expect_status(status);
        }
        hospital.consumer().get("/me").await.ok();
    }

    async fn whoever_lost_the_password_is_invited_anew(database: Database) {
        let (installation, hospital) = start(database).await;
        let (nobody, admin) = (installation.anonymous(), hospital.admin());
        let people = admin.get("/admin/users").await.ok();
        let person = people["items"].as_array().unwrap().iter().find(|one| one["roles"] == json!(["consumer"]));
        let person = person.unwrap();
        let (id, email) = (person["id"].as_str().unwrap(), person["email"].as_str().unwrap());
        let path = format!("/admin/users/{id}/invitation");
        hospital.consumer().get("/me").await.ok();
        let lost = admin.post(&path, &json!({})).await.ok();
        hospital.consumer().get("/me").await.assert_problem(401, "unauthenticated");
        let old = [("grant_type", "password"), ("username", email), ("password", PASSWORD)];
        nobody.ask_token(&old).await.assert_problem(401, "unauthenticated");
        let found = admin.post(&path, &json!({})).await.ok();
        assert_eq!((&found["status"], &found["id"]), (&json!("invited"), &person["id"]));
        let accept = |invited: &serde_json::Value| {
            json!({ "token": invited["invitationToken"], "password": "quite another password" })
        };
        let to = "/auth/accept-invitation";
        nobody.post(to, &accept(&lost)).await.assert_problem(401, "unauthenticated");
        nobody.post(to, &accept(&found)).await.ok();
        nobody.ask_token(&old).await.assert_problem(401, "unauthenticated");
        let again = nobody.sign_in(email, "quite another password").await;
        assert_eq!(again.get("/me").await.ok()["roles"], person["roles"]);
        let other = installation.tenant("elsewhere").await;
        other.admin().post(&path, &json!({})).await.assert_problem(404, "user_not_found");
    }

    async fn the_installation_is_set_up_once_and_keeps_an_administrator(database: Database) {
        let (installation, _hospital) = start(database).await;
        let body = json!({
            "token": "whatever", "tenant": { "slug": "again", "name": "Again" },
            "admin": { "email": "a@b.example", "name": "A", "password": PASSWORD },
        });
        let again = installation.anonymous().post("/auth/setup", &body).await;
        again.assert_problem(409, "already_set_up");
        let me = installation.admin().get("/me").await.ok();
        let own = format!("/admin/users/{}", me["userId"].as_str().unwrap());
        installation.admin().delete(&own).await.assert_problem(409, "last_administrator");
        let demoted = installation.admin().patch(&own, &json!({ "roles": ["consumer"] })).await;
        demoted.assert_problem(409, "last_administrator");
        let settings = json!({ "name": "Region North", "supportEmail": "help@north.example" });
        installation.admin().patch("/admin/settings", &settings).await.ok();
        let me = installation.admin().get("/me").await.ok();
        assert_eq!((&me["installation"], &me["supportEmail"]), (
            &json!("Region North"), &json!("help@north.example")
        ));
    }

    async fn tokens_stay_good_when_the_signing_key_is_rotated(database: Database) {
        let (installation, hospital) = start(database).await;
        let admin = installation.admin();
        let before = installation.anonymous().get("/auth/jwks").await.ok();
        let made = admin.post("/admin/signing-keys/rotate", &json!({})).await.created();
        let after = installation.anonymous().get("/auth/jwks").await.ok();
        let kids: Vec<_> =
            after["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
        assert!(kids.contains(&&made["kid"]) && kids.contains(&&before["keys"][0]["kid"]));
        assert!(!after.to_string().contains("\"d\""), "a private part is published");
        hospital.consumer().get("/me").await.ok();
        let fresh = installation.anonymous().sign_in("consumer@hospital.example", PASSWORD).await;
        fresh.get("/me").await.ok();
        assert_ne!(fresh.token().split('.').next(), hospital.consumer().token().split('.').next());
        let (rest, signature) = fresh.token().rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let forged: String = signature.chars().rev().collect();
        let (_, claims) = rest.split_once('.').unwrap();
        // {"alg":"none"} and {"alg":"HS256"} in front of the same claims.
        for forged in [
            format!("{rest}.{forged}"),
            format!("{rest}."),
            format!("eyJhbGciOiJub25lIn0.{claims}."),
            format!("eyJhbGciOiJIUzI1NiJ9.{claims}.{signature}"),
            claims.to_owned(),
            String::from("e30.e30.e30"),
        ] {
            let forged = fresh.with_token(&forged).get("/me").await;
            forged.assert_problem(401, "unauthenticated");
        }
    }

    async fn a_program_signs_in_with_its_own_narrow_roles(database: Database) {
        let (installation, hospital) = start(database).await;
        let application = hospital.application("Robot").await;
        let path = format!("/applications/{application}/credentials");
        let body = json!({ "type": "oauth_client", "name": "robot", "expiresAt": from_now(3_600) });
        let client = hospital.consumer().post(&path, &body).await.created();
        let text = |name: &str| client[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("clientId"), text("clientSecret"));
        let fields =
            [("grant_type", "client_credentials"), ("client_id", &*id), ("client_secret", &*secret)];
        let token = installation.anonymous().ask_token(&fields).await.ok();
        assert_eq!((&token["token_type"], &token["scope"]), (&json!("Bearer"), &json!("consumer")));
        let robot = installation.anonymous().with_token(token["access_token"].as_str().unwrap());
        assert_eq!(robot.get("/me").await.ok()["applicationId"], application.as_str());
        robot.get("/applications").await.ok();
        robot.get("/admin/users").await.assert_problem(403, "forbidden");
        let wrong = [fields[0], fields[1], ("client_secret", "cad_wrong")];
        installation.anonymous().ask_token(&wrong).await.assert_problem(401, "unauthenticated");
        hospital.consumer().delete(&format!("{path}/{id}")).await.expect_status(204);
        installation.anonymous().ask_token(&fields).await.assert_problem(401, "unauthenticated");
        robot.get("/me").await.assert_problem(401, "unauthenticated");
    }

    async fn a_closed_tenant_neither_signs_in_nor_calls(database: Database) {
        let (installation, owner) = start(database).await;
        let hospital = installation.tenant("closing").await;
        let upstream = testkit::Upstream::healthy("only").await;
        let api = owner.publish("Scheduling", &json!({})).await;
        let plan = owner.offer_plan(&api, &json!({})).await;
        owner.deploy(&api, "/scheduling", &[upstream.url()], &json!({})).await;
        let application = hospital.application("Portal").await;
        hospital.subscribe(&application, &api, &plan).await;
        let key = hospital.key(&application).await.secret;
        installation.settled().await;
        let caller = installation.gateway().with_header("x-api-key", &key);
        caller.get("/scheduling/appointments").await.expect_status(200);

        let path = format!("/admin/tenants/{}", hospital.id);
        installation.admin().patch(&path, &json!({ "active": false })).await.ok();
        installation.settled().await;
        let refused = caller.get("/scheduling/appointments").await;
        refused.assert_problem(401, "invalid_credential");
        hospital.consumer().get("/me").await.assert_problem(401, "unauthenticated");
        let fields = [
            ("grant_type", "password"), ("username", "consumer@closing.example"),
            ("password", PASSWORD),
        ];
        installation.anonymous().ask_token(&fields).await.assert_problem(401, "unauthenticated");
        installation.admin().patch(&path, &json!({ "active": true })).await.ok();
        installation.settled().await;
        caller.get("/scheduling/appointments").await.expect_status(200);
    }
}
