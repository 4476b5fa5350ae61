//! Notices go out by e-mail, to a server that others wrote, whatever it does.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{process::Command, time::Duration};

use serde_json::{Value, json};
use testkit::{Database, Installation, MailServer, PASSWORD, Tenant, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(20);
const REVIEWER: &str = "reviewer@hospital.example";
/// Every letter is due now.
const HURRY: &str = "UPDATE letter SET due_at = 0";

fn mail_settings(port: u16, changes: &Value) -> Value {
    let mut smtp =
        json!({ "host": "127.0.0.1", "port": port, "tls": "none", "from": "apis@market.example" });
    for (name, value) in changes.as_object().unwrap() {
        smtp[name] = value.clone();
    }
    json!({ "notices": { "smtp": smtp }, "portal": { "publicUrl": "https://apis.example/" } })
}

async fn start(database: Database, server: &MailServer) -> (Installation, Tenant) {
    let settings = mail_settings(server.port(), &json!({}));
    let installation = Installation::start_with(BINARY, database, settings).await;
    let hospital = installation.tenant("hospital").await;
    (installation, hospital)
}

/// What the server took for the reviewer, without the invitation.
fn reviews(server: &MailServer) -> Vec<Value> {
    let mut mails = server.mails_to(REVIEWER);
    mails.retain(|mail| mail["headers"]["subject"] != "You are invited");
    mails
}

async fn wait_for_reviews(server: &MailServer, count: usize) -> Vec<Value> {
    eventually(&format!("{count} e-mails about reviews"), SOON, || async {
        let mails = reviews(server);
        (mails.len() >= count).then_some(mails)
    })
    .await
}

/// Waits until a metric of the courier has a value.
async fn wait_for_metric(installation: &Installation, line: &str, within: Duration) {
    eventually(line, within, || async {
        let metrics = installation.operations().get("/metrics").await.text();
        metrics.lines().any(|found| found == line).then_some(())
    })
    .await;
}

testkit::on_both_databases! {
    async fn a_letter_says_what_happened_and_where_to_act(database: Database) {
        let server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        let api = hospital.register("Scheduling <b>", &json!({})).await;
        let mail = wait_for_reviews(&server, 1).await.remove(0);
        let headers = &mail["headers"];
        assert_eq!(headers["subject"], "A version waits for your review");
        assert_eq!(headers["auto-submitted"], "auto-generated");
        assert_eq!(headers["to"], "reviewer <reviewer@hospital.example>");
        assert_eq!(headers["from"], "Caduceus <apis@market.example>");
        let id = headers["message-id"].as_str().unwrap();
        assert!(id.starts_with("<ltr_") && id.ends_with("@market.example>"), "{id}");
        assert!(headers["date"].is_string());
        let link = format!("https://apis.example/approvals/versions/{}/1.0.0", api.id);
        for part in ["plain", "html"] {
            let text = mail[part].as_str().unwrap();
            assert!(text.contains(&link) && text.contains("waits for a review"), "{text}");
        }
        assert!(mail["html"].as_str().unwrap().contains("Scheduling &lt;b&gt;"), "{mail}");
        assert_eq!(hospital.reviewer().get("/me/notice-settings").await.ok()["sendsMail"], true);
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
    }

    async fn an_invitation_is_accepted_with_its_letter_and_the_token_is_nowhere_else(database: Database) {
        let server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        let body = json!({ "email": "new@hospital.example", "name": "New", "roles": ["consumer"] });
        let invited = hospital.admin().post("/admin/users", &body).await.created();
        let token = invited["invitationToken"].as_str().unwrap();
        let mail = server.wait_for("new@hospital.example", 1).await.remove(0);
        assert!(!mail["headers"].to_string().contains(token));
        let plain = mail["plain"].as_str().unwrap();
        assert!(plain.contains("https://apis.example/invitation"), "{plain}");
        let given = plain.lines().map(str::trim).find(|line| *line == token).unwrap();
        let body = json!({ "token": given, "password": PASSWORD });
        installation.anonymous().post("/auth/accept-invitation", &body).await.ok();
        let person = installation.anonymous().sign_in("new@hospital.example", PASSWORD).await;
        let inbox = person.get("/me/notices").await.ok();
        assert_eq!(inbox["items"][0]["kind"], "invitation");
        assert!(!inbox.to_string().contains(token));
        let trail = hospital.auditor().get("/audit/events?limit=200").await.text();
        assert!(!installation.log().contains(token) && !trail.contains(token));
    }

    async fn everybody_decides_what_is_sent_and_what_comes_together(database: Database) {
        let server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        let path = "/me/notice-settings";
        let daily = json!({ "mailings": { "versionSubmitted": "daily" } });
        hospital.reviewer().put(path, &daily).await.ok();
        let off = json!({ "mailings": { "versionDecided": "off" } });
        hospital.provider().put(path, &off).await.ok();
        for name in ["One", "Two", "Three"] {
            hospital.publish(name, &json!({})).await;
        }
        eventually("all is told", SOON, || async {
            let inbox = hospital.provider().get("/me/notices?unread=true").await.items();
            (inbox.len() == 3).then_some(())
        }).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        assert_eq!(reviews(&server), Vec::<Value>::new());
        let inbox = hospital.reviewer().get("/me/notices").await.items();
        let second = inbox.iter().find(|notice| notice["text"].to_string().contains("Two 1.0.0")).unwrap();
        let path = format!("/me/notices/{}/read", second["id"].as_str().unwrap());
        hospital.reviewer().post(&path, &json!({})).await.expect_status(204);
        installation.sql(HURRY).await;
        let mail = wait_for_reviews(&server, 1).await.remove(0);
        assert_eq!(mail["headers"]["subject"], "Your notices");
        let plain = mail["plain"].as_str().unwrap();
        assert!(plain.contains("One 1.0.0") && plain.contains("Three 1.0.0"), "{plain}");
        assert!(!plain.contains("Two 1.0.0"), "it was read meanwhile: {plain}");
        let provider = server.mails_to("provider@hospital.example");
        assert!(provider.iter().all(|mail| mail["headers"]["subject"] == "You are invited"));
        // The next one begins a new letter.
        hospital.register("Four", &json!({})).await;
        eventually("the fourth is told", SOON, || async {
            installation.sql(HURRY).await;
            (reviews(&server).len() == 2).then_some(())
        }).await;
    }

    async fn a_flood_is_gathered(database: Database) {
        let server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        for number in 0..25 {
            hospital.register(&format!("API {number:02}"), &json!({})).await;
        }
        eventually("all is told", SOON, || async {
            let inbox = hospital.reviewer().get("/me/notices?unread=true&limit=200").await.items();
            (inbox.len() == 25).then_some(())
        }).await;
        let is_gathered = |mail: &Value| mail["headers"]["subject"] == "Your notices";
        wait_for_reviews(&server, 19).await;
        eventually("the rest comes together", SOON, || async {
            installation.sql(HURRY).await;
            reviews(&server).iter().any(is_gathered).then_some(())
        }).await;
        let mails = reviews(&server);
        let alone = mails.iter().filter(|mail| !is_gathered(mail)).count();
        // The reviewer's invitation may have been one of the twenty.
        assert!((19..=20).contains(&alone), "{alone} letters within an hour");
        let text: String = mails.iter().map(|mail| mail["plain"].to_string()).collect();
        assert!((0..25).all(|number| text.contains(&format!("API {number:02} "))), "{text}");
    }

    async fn what_a_server_puts_off_is_tried_again_and_what_it_refuses_is_not(database: Database) {
        let mut server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        server.behave("defer");
        hospital.register("One", &json!({})).await;
        wait_for_metric(&installation, "caduceus_letters_deferred_total 1", SOON).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 1", SOON).await;
        server.behave("refuse-sender");
        installation.sql(HURRY).await;
        wait_for_metric(&installation, "caduceus_letters_deferred_total 2", SOON).await;
        server.behave("accept");
        installation.sql(HURRY).await;
        assert_eq!(wait_for_reviews(&server, 1).await.len(), 1);
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        server.behave("refuse");
        hospital.register("Two", &json!({})).await;
        wait_for_metric(&installation, "caduceus_letters_failed_total 1", SOON).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        let log = installation.log();
        assert!(log.contains("the mail server refuses the recipient (550)"), "{log}");
        assert!(!log.contains("reviewer@hospital.example"), "an address is logged");
        assert_eq!(hospital.reviewer().get("/me/notices").await.ok()["unreadCount"], 2);
    }

    async fn a_server_that_is_away_is_waited_for_and_not_for_ever(database: Database) {
        let server = MailServer::start();
        let port = server.port();
        let (installation, hospital) = start(database, &server).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        drop(server);
        hospital.register("One", &json!({})).await;
        wait_for_metric(&installation, "caduceus_letters_deferred_total 1", SOON).await;
        let server = MailServer::start_with(&["--port", &port.to_string()]);
        eventually("the letter is sent", SOON, || async {
            installation.sql(HURRY).await;
            (reviews(&server).len() == 1).then_some(())
        }).await;
        drop(server);
        hospital.register("Two", &json!({})).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 1", SOON).await;
        eventually("the letter is given up", Duration::from_secs(40), || async {
            let sql = "UPDATE letter SET due_at = 0, tried_since = 0 WHERE status = 'waiting'";
            installation.sql(sql).await;
            let metrics = installation.operations().get("/metrics").await.text();
            metrics.contains("caduceus_letters_failed_total 1\n").then_some(())
        }).await;
        let log = installation.log();
        assert!(log.contains("the mail server cannot be reached"), "{log}");
    }

    async fn a_letter_is_sent_again_rather_than_lost_when_the_process_is_killed(database: Database) {
        let mut server = MailServer::start();
        let (mut installation, hospital) = start(database, &server).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        // The server has it, and never says so.
        server.behave("swallow");
        hospital.register("One", &json!({})).await;
        wait_for_reviews(&server, 1).await;
        installation.kill9();
        server.behave("accept");
        installation.restart().await;
        // The lease of the dead process is taken over by the next one on the same machine.
        installation.sql(HURRY).await;
        let mails = wait_for_reviews(&server, 2).await;
        assert_eq!(mails[0]["headers"]["message-id"], mails[1]["headers"]["message-id"]);
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        assert_eq!(reviews(&server).len(), 2);
    }

    async fn nothing_is_lost_however_often_the_process_is_killed(database: Database) {
        let server = MailServer::start();
        let (mut installation, hospital) = start(database, &server).await;
        for round in 0..5 {
            for number in 0..3 {
                hospital.register(&format!("API {round}{number}"), &json!({})).await;
            }
            // At another moment of the work each time.
            tokio::time::sleep(Duration::from_millis(23 * round)).await;
            installation.restart().await;
        }
        eventually("every letter was sent", Duration::from_secs(40), || async {
            installation.sql(HURRY).await;
            let text: String = reviews(&server).iter().map(|mail| mail["plain"].to_string()).collect();
            let names = (0..5).flat_map(|round| (0..3).map(move |number| format!("API {round}{number} ")));
            names.into_iter().all(|name| text.contains(&name)).then_some(())
        }).await;
    }

    async fn one_process_sends_at_a_time(database: Database) {
        let server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        installation.sql("DELETE FROM lease; INSERT INTO lease VALUES ('letters', 'another', 9000000000000000)").await;
        // Those that are looked at again with the next one were due, and were not taken.
        let waiting = async || {
            let metrics = installation.operations().get("/metrics").await.text();
            let line = metrics.lines().find(|line| line.starts_with("caduceus_letters_waiting "));
            line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap_or(0)
        };
        let mut before = 0;
        for name in ["One", "Two"] {
            hospital.register(name, &json!({})).await;
            before = eventually("another one waits", SOON, || async {
                Some(waiting().await).filter(|count| *count > before)
            })
            .await;
        }
        assert_eq!(reviews(&server), Vec::<Value>::new());
        installation.sql("UPDATE lease SET ends_at = 0").await;
        wait_for_reviews(&server, 2).await;
    }

    async fn a_server_that_fails_every_letter_is_left_alone_for_a_while(database: Database) {
        let mut server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        server.behave("refuse-sender");
        installation.sql("DELETE FROM lease; INSERT INTO lease VALUES ('letters', 'another', 9000000000000000)").await;
        let names = ["One", "Two", "Three", "Four"];
        for name in names {
            hospital.register(name, &json!({})).await;
        }
        eventually("all are told", SOON, || async {
            let inbox = hospital.reviewer().get("/me/notices?unread=true").await.items();
            (inbox.len() == names.len()).then_some(())
        }).await;
        installation.sql("DELETE FROM lease").await;
        let reason = "the mail server fails one letter after another (550)";
        eventually(reason, SOON, || async { installation.log().contains(reason).then_some(()) }).await;
        server.behave("accept");
        eventually("all are sent", SOON, || async {
            installation.sql(HURRY).await;
            (reviews(&server).len() == names.len()).then_some(())
        }).await;
    }

    async fn whoever_left_is_not_written_to(database: Database) {
        let mut server = MailServer::start();
        let (installation, hospital) = start(database, &server).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        server.behave("defer");
        hospital.register("One", &json!({})).await;
        wait_for_metric(&installation, "caduceus_letters_deferred_total 1", SOON).await;
        let users = installation.admin().get("/admin/users?limit=200").await.items();
        let reviewer = users.iter().find(|user| user["email"] == REVIEWER).unwrap();
        let path = format!("/admin/users/{}", reviewer["id"].as_str().unwrap());
        installation.admin().patch(&path, &json!({ "active": false })).await.ok();
        server.behave("accept");
        installation.sql(HURRY).await;
        wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
        assert_eq!(reviews(&server), Vec::<Value>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_tell_and_send_everything_once() {
    let server = MailServer::start();
    let (installation, hospital) = start(Database::postgres().await, &server).await;
    let mut twin = installation.twin(mail_settings(server.port(), &json!({})));
    twin.launch_gateway().await;
    twin.wait_for_control_api().await;
    for number in 0..15 {
        hospital.register(&format!("API {number:02}"), &json!({})).await;
    }
    wait_for_reviews(&server, 15).await;
    for running in [&installation, &twin] {
        wait_for_metric(running, "caduceus_letters_waiting 0", SOON).await;
    }
    assert_eq!(reviews(&server).len(), 15);
    assert_eq!(hospital.reviewer().get("/me/notices").await.ok()["unreadCount"], 15);
}

/// A certificate for 127.0.0.1, its key, and the folder that they are in.
fn certificate() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("password"), "open sesame\n").unwrap();
    (folder, certificate, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_protected_and_the_sender_signs_in() {
    let (folder, certificate, key) = certificate();
    let files = ["--certificate", &certificate, "--key", &key];
    let user = ["--user", "caduceus", "--password", "open sesame"];
    for (tls, more) in [("starttls", &[][..]), ("implicit", &["--implicit"][..])] {
        let server = MailServer::start_with(&[&files[..], &user[..], more].concat());
        let smtp = json!({
            "tls": tls, "caCertificates": certificate, "user": "caduceus",
            "passwordFile": folder.path().join("password"),
        });
        let settings = mail_settings(server.port(), &smtp);
        let installation = Installation::start_with(BINARY, Database::sqlite(), settings).await;
        let hospital = installation.tenant("hospital").await;
        hospital.register("One", &json!({})).await;
        let mail = wait_for_reviews(&server, 1).await.remove(0);
        assert_eq!((&mail["tls"], &mail["authenticated"]), (&json!(true), &json!(true)), "{tls}");
        assert!(!installation.log().contains("open sesame"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_a_server_that_is_not_trusted() {
    let (_folder, certificate, key) = certificate();
    let files = ["--certificate", &certificate, "--key", &key];
    let (_other, stranger, _) = crate::certificate();
    // One that nobody vouches for, one that somebody else vouches for, and one that speaks no TLS.
    for (arguments, trusted, reason) in [
        (&files[..], None, "does not go over to TLS"),
        (&files[..], Some(&stranger), "does not go over to TLS"),
        (&[][..], Some(&certificate), "does not go over to TLS"),
    ] {
        let server = MailServer::start_with(arguments);
        let settings =
            mail_settings(server.port(), &json!({ "tls": "starttls", "caCertificates": trusted }));
        let installation = Installation::start_with(BINARY, Database::sqlite(), settings).await;
        let hospital = installation.tenant("hospital").await;
        hospital.register("One", &json!({})).await;
        eventually("it is noticed", SOON, || async {
            installation.log().contains(reason).then_some(())
        })
        .await;
        assert_eq!(server.mails_to(REVIEWER), Vec::<Value>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_greeting_is_waited_for_and_a_hanging_server_is_not() {
    let mut server = MailServer::start();
    let (installation, hospital) = start(Database::sqlite(), &server).await;
    wait_for_metric(&installation, "caduceus_letters_waiting 0", SOON).await;
    server.behave("slow");
    hospital.register("One", &json!({})).await;
    wait_for_reviews(&server, 1).await;
    server.behave("hang");
    hospital.register("Two", &json!({})).await;
    let patience = Duration::from_secs(50);
    wait_for_metric(&installation, "caduceus_letters_deferred_total 1", patience).await;
    assert!(installation.log().contains("the mail server does not answer in time"));
    server.behave("turn-away");
    eventually("it is turned away", SOON, || async {
        installation.sql(HURRY).await;
        installation.log().contains("cannot be reached or turns us away").then_some(())
    })
    .await;
    server.behave("accept");
    eventually("it is sent at last", SOON, || async {
        installation.sql(HURRY).await;
        (reviews(&server).len() == 2).then_some(())
    })
    .await;
}

#[test]
fn doctor_tries_the_mail_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = MailServer::start();
    let path = folder.path().join("caduceus.yaml");
    std::fs::write(&path, mail_settings(server.port(), &json!({})).to_string()).unwrap();
    let doctor = || {
        let output = Command::new(BINARY)
            .args(["doctor", "--config"])
            .arg(&path)
            .env("CADUCEUS_DATA_DIR", folder.path().join("data"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (_, said) = doctor();
    assert!(said.contains("is ready to take e-mails"), "{said}");
    server.behave("turn-away");
    let (code, said) = doctor();
    assert!(code == Some(1) && said.contains("turns us away (554)"), "{said}");
}
