//! Bad input: each is answered with the contract's error in bounded time, and changes nothing.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Answer, Behaviour, Client, Installation, Tenant, Upstream, exchange, flood};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
/// Longer than any answer may take here, on a busy machine.
const PROMPTLY: Duration = Duration::from_secs(10);

/// What can be counted from outside, audit trail included.
async fn totals(hospital: &Tenant) -> Vec<Value> {
    let mut totals = Vec::new();
    for (person, path) in [
        (hospital.provider(), "/apis?limit=200"),
        (hospital.provider(), "/deployments"),
        (hospital.consumer(), "/applications"),
        (hospital.consumer(), "/subscriptions"),
        (hospital.admin(), "/admin/users"),
        (hospital.auditor(), "/audit/events?limit=200"),
    ] {
        totals.push(person.get(path).await.ok());
    }
    totals
}

fn described(content: &Value) -> Value {
    Tenant::api_draft(
        "Hostile",
        &json!({ "specification": { "format": "openapi", "content": content } }),
    )
}

/// Registers an API by this content, which must be refused.
async fn refuses(provider: &Client, what: &str, content: &Value) -> Answer {
    let began = Instant::now();
    let answer = provider.post("/apis", &described(content)).await;
    assert!(began.elapsed() < PROMPTLY, "{what} took {:?}", began.elapsed());
    let problem = answer.assert_problem(422, "specification_invalid");
    let error = &problem["errors"][0];
    assert!(error["rule"].is_string() && error["line"].as_u64().unwrap() > 0, "{what}: {problem}");
    answer
}

testkit::on_both_databases! {
    async fn a_hundred_megabytes_are_not_read(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let before = totals(&hospital).await;
        let resident = resident_mib(&installation);
        let (address, token) = (installation.anonymous().address(), hospital.provider().token());
        let length = 100 * 1024 * 1024;
        for path in ["/apis", "/applications", "/specifications/validate"] {
            let head = format!(
                "POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\n"
            );
            let announced = format!("{head}Content-Length: {length}\r\n\r\n");
            let (answer, sent) = flood(address, &announced, length).await;
            let code = if path == "/applications" { "forbidden" } else { "body_too_large" };
            let status = if path == "/applications" { 403 } else { 413 };
            answer.assert_problem(status, code);
            assert!(sent < length, "everything was taken");
            // One chunk that says it is as long, without saying how long the body is.
            let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n6400000\r\n");
            let (answer, sent) = flood(address, &chunked, length).await;
            answer.assert_problem(status, code);
            assert!(sent < length, "everything was taken");
        }
        let grown = resident_mib(&installation).saturating_sub(resident);
        assert!(grown < 80, "{grown} MiB more are resident");
        let after = totals(&hospital).await;
        assert_eq!(before[..5], after[..5]);
    }

    async fn deep_and_endless_documents_are_refused(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let before = totals(&hospital).await;
        let provider = hospital.provider();

        // The body itself.
        for depth in [200, 100_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                for path in ["/apis", "/specifications/validate"] {
                    let call = provider.call("POST".parse().unwrap(), path);
                    let call = call.header("content-type", "application/json").body(body.clone());
                    let answer = call.await;
                    assert!([400, 422].contains(&answer.status), "{}", answer.status);
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    answer.assert_problem(answer.status, &code);
                }
            }
        }

        // The document in it.
        let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        refuses(provider, "deep JSON lists", &json!(deep("[", "]"))).await;
        refuses(provider, "deep JSON objects", &json!(deep("{\"a\":", "}"))).await;
        refuses(provider, "deep YAML", &json!(format!("a: {}", deep("[", "]")))).await;
        refuses(provider, "indented YAML", &json!((0..3_000).map(|at| {
            format!("{}a:\n", " ".repeat(at))
        }).collect::<String>())).await;
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..40 {
            let earlier = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{earlier}]\n"));
        }
        bomb.push_str("openapi: 3.1.0\ninfo: { title: x, version: '1' }\npaths: {}\n");
        refuses(provider, "an alias bomb", &json!(bomb)).await;
        refuses(provider, "an alias to itself", &json!("openapi: &a [*a]\n")).await;
        refuses(provider, "text", &json!("just words")).await;
        refuses(provider, "nothing", &json!("")).await;
        refuses(provider, "a NUL", &json!("openapi: 3.1.0\u{0}\n")).await;
        refuses(provider, "a list", &json!([1, 2])).await;
        refuses(provider, "another format", &json!("swagger: '2.0'\ninfo: {}\n")).await;
        let wide: String = (0..60_000).map(|at| format!("x-{at}: 1\n")).collect();
        refuses(provider, "many fields", &json!(wide)).await;
        assert_eq!(totals(&hospital).await, before);
    }

    async fn references_in_circles_end(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let provider = hospital.provider();
        let mut circle = testkit::openapi_json("Circle");
        circle["components"]["parameters"] = json!({
            "A": { "$ref": "#/components/parameters/B" },
            "B": { "$ref": "#/components/parameters/A" },
        });
        circle["paths"]["/appointments"]["get"]["parameters"] =
            json!([{ "$ref": "#/components/parameters/A" }]);
        refuses(provider, "parameters in a circle", &json!(circle.to_string())).await;
        let mut itself = testkit::openapi_json("Itself");
        itself["components"]["responses"] = json!({ "A": { "$ref": "#/components/responses/A" } });
        itself["paths"]["/appointments"]["get"]["responses"]["200"] =
            json!({ "$ref": "#/components/responses/A" });
        refuses(provider, "a response that is itself", &json!(itself.to_string())).await;

        // A schema may hold itself, and remote references are never fetched.
        let upstream = Upstream::healthy("remote").await;
        let mut tree = testkit::openapi_json("Tree");
        tree["components"]["schemas"]["Appointment"] = json!({
            "type": "object",
            "properties": {
                "next": { "$ref": "#/components/schemas/Appointment" },
                "remote": { "$ref": format!("{}/schema.json", upstream.url()) },
            },
        });
        let began = Instant::now();
        let body = json!({ "specification": { "format": "openapi", "content": tree } });
        let answer = provider.post("/specifications/validate", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(began.elapsed() < PROMPTLY);
        assert_eq!(upstream.calls(), 0);
    }

    async fn addresses_that_nobody_listed_are_not_asked(database: Database) {
        let upstream = Upstream::healthy("specification").await;
        let host_and_port = upstream.url().trim_start_matches("http://").to_owned();
        let port = host_and_port.rsplit_once(':').unwrap().1;
        // The operator lists a name and one address, but no private ranges.
        let changes = json!({
            "network": { "allowedRanges": [] },
            "specifications": { "allowedHosts": ["localhost", "127.0.0.1", "169.254.169.254"] },
        });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let hospital = installation.tenant("hospital").await;
        let before = totals(&hospital).await;
        let provider = hospital.provider();
        for url in [
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            format!("http://localhost:{port}/openapi.json"),
            format!("http://LOCALHOST:{port}/openapi.json"),
            format!("http://127.0.0.1:{port}/openapi.json"),
            format!("http://2130706433:{port}/openapi.json"),
            format!("http://0x7f.1:{port}/openapi.json"),
            format!("http://[::1]:{port}/openapi.json"),
            format!("http://[::ffff:127.0.0.1]:{port}/openapi.json"),
            format!("http://user:pass@localhost:{port}/openapi.json"),
            "http://unlisted.example/openapi.json".to_owned(),
            "http://localhost.unlisted.example/openapi.json".to_owned(),
            "file:///etc/passwd".to_owned(),
            "ftp://localhost/openapi.json".to_owned(),
            "gopher://localhost/x".to_owned(),
        ] {
            let specification = json!({ "format": "openapi", "url": url });
            let draft = Tenant::api_draft("Hostile", &json!({ "specification": specification }));
            let began = Instant::now();
            for (path, body) in [
                ("/apis", &draft),
                ("/specifications/validate", &json!({ "specification": specification })),
            ] {
                let answer = provider.post(path, body).await;
                assert_eq!(answer.status, 422, "{url}: {}", answer.text());
                let code = answer.json()["code"].as_str().unwrap().to_owned();
                assert!(["validation_failed", "specification_unreachable"].contains(&&*code));
                let problem = answer.assert_problem(422, &code);
                assert_eq!(problem["errors"][0]["field"], "specification.url", "{url}");
                assert!(!answer.text().contains("root:"), "{}", answer.text());
            }
            assert!(began.elapsed() < PROMPTLY, "{url} took {:?}", began.elapsed());
        }
        assert_eq!(upstream.calls(), 0);
        assert_eq!(totals(&hospital).await, before);
    }

    async fn a_listed_host_is_asked_and_its_redirects_are_not_followed(database: Database) {
        let upstream = Upstream::healthy("specification").await;
        let changes = json!({ "specifications": { "allowedHosts": ["127.0.0.1"] } });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let hospital = installation.tenant("hospital").await;
        let before = totals(&hospital).await;
        let url = format!("{}/openapi.json", upstream.url());
        let specification = json!({ "specification": { "format": "openapi", "url": url } });
        let draft = Tenant::api_draft("Fetched", &specification);
        // It answers, with something that is no description.
        let answer = hospital.provider().post("/apis", &draft).await;
        answer.assert_problem(422, "specification_invalid");
        for status in [301, 302, 307, 404, 500] {
            upstream.behave(Behaviour::Failing(status));
            let answer = hospital.provider().post("/apis", &draft).await;
            answer.assert_problem(422, "specification_unreachable");
        }
        for behaviour in [Behaviour::Resetting, Behaviour::LyingLength] {
            upstream.behave(behaviour);
            let answer = hospital.provider().post("/apis", &draft).await;
            answer.assert_problem(422, "specification_unreachable");
        }
        assert_eq!(totals(&hospital).await, before);
    }

    async fn upstreams_at_private_addresses_are_refused_unless_listed(database: Database) {
        let changes = json!({ "network": { "allowedRanges": ["10.1.0.0/16"] } });
        let installation = Installation::start_with(BINARY, database, changes).await;
        let hospital = installation.tenant("hospital").await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let before = totals(&hospital).await;
        for url in [
            "http://127.0.0.1:8080", "http://localhost:8080", "http://169.254.169.254",
            "http://10.0.0.5", "http://192.168.1.1", "http://172.16.0.1", "http://100.64.0.1",
            "http://0.0.0.0:80", "http://[::1]:80", "http://[fd00::1]", "http://[fe80::1]",
            "http://[::ffff:10.0.0.5]", "http://224.0.0.1", "http://255.255.255.255",
            "http://2130706433", "http://0177.0.0.1", "ftp://example.org", "http://",
            "http://a b", "http://user:pass@example.org", "http://example.org/path?query=1#x", "",
        ] {
            let draft = Tenant::deployment_draft(&api, "/x", &[url.to_owned()], &json!({}));
            let answer = hospital.provider().post("/deployments", &draft).await;
            assert_eq!(answer.status, 422, "{url}: {}", answer.text());
            let problem = answer.assert_problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["field"], "upstream.targets[0].url", "{url}");
        }
        assert_eq!(totals(&hospital).await, before);
        let listed = ["http://10.1.2.3:8080".to_owned()];
        hospital.deploy(&api, "/x", &listed, &json!({})).await;
    }

    async fn wrong_types_and_values_name_their_field(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let api = hospital.publish("Scheduling", &json!({})).await;
        let before = totals(&hospital).await;
        let api_with = |changes: Value| Tenant::api_draft("Other", &changes);
        let target = ["http://127.0.0.1:9".to_owned()];
        let deployment = |changes: Value| Tenant::deployment_draft(&api, "/x", &target, &changes);
        let pool = |mut changes: Value| {
            changes["targets"] = json!([{ "url": target[0] }]);
            deployment(json!({ "upstream": changes }))
        };
        let route = |prefix: &str| json!({ "route": { "pathPrefix": prefix } });
        let limit = |limit: Value| json!({ "apiId": api.id, "name": "P", "limits": [limit] });
        let cases = [
            ("/apis", api_with(json!({ "name": 7 })), "name"),
            ("/apis", api_with(json!({ "name": "" })), "name"),
            ("/apis", api_with(json!({ "name": "x".repeat(10_000) })), "name"),
            ("/apis", api_with(json!({ "name": "a\u{0}b" })), "name"),
            ("/apis", api_with(json!({ "name": null })), "name"),
            ("/apis", api_with(json!({ "version": "one" })), "version"),
            ("/apis", api_with(json!({ "contactEmail": "nobody" })), "contactEmail"),
            ("/apis", api_with(json!({ "tags": "clinic" })), "tags"),
            ("/apis", api_with(json!({ "tags": [1] })), "tags[0]"),
            ("/apis", api_with(json!({ "tags": ["Not A Slug!"] })), "tags[0]"),
            ("/apis", api_with(json!({ "tags": vec!["x"; 500] })), "tags"),
            ("/apis", api_with(json!({ "categories": ["unknown"] })), "categories[0]"),
            ("/apis", api_with(json!({ "visibility": "secret" })), "visibility"),
            ("/apis", api_with(json!({ "visibility": "restricted" })), "visibleTo"),
            ("/apis", api_with(json!({ "documentationUrl": "javascript:alert(1)" })), "documentationUrl"),
            ("/apis", api_with(json!({ "description": "x".repeat(30_000) })), "description"),
            ("/apis", api_with(json!({ "specification": {} })), "specification"),
            ("/apis", api_with(json!({ "specification": { "format": "openapi" } })), "specification"),
            ("/apis", api_with(json!({ "specification": { "format": "pdf", "content": "x" } })), "specification.format"),
            ("/deployments", deployment(json!({ "apiId": "nonsense" })), "apiId"),
            ("/deployments", deployment(json!({ "upstream": { "targets": [] } })), "upstream.targets"),
            ("/deployments", deployment(json!({ "upstream": { "targets": [{ "url": target[0] }], "timeoutSeconds": 1e300 } })), "upstream.timeoutSeconds"),
            ("/deployments", deployment(json!({ "upstream": { "targets": [{ "url": target[0] }], "retries": 200 } })), "upstream.retries"),
            ("/deployments", deployment(json!({ "upstream": { "targets": [{ "url": target[0], "weight": -1 }] } })), "upstream.targets[0].weight"),
            ("/deployments", deployment(json!({ "upstream": { "targets": [{ "url": target[0] }], "balance": "luck" } })), "upstream.balance"),
            ("/deployments", pool(json!({ "resilience": { "breakers": {} } })), "upstream.resilience"),
            ("/deployments", pool(json!({ "resilience": { "breaker": { "windowSeconds": 61 } } })), "upstream.resilience.breaker.windowSeconds"),
            ("/deployments", pool(json!({ "resilience": { "retryBudget": { "percent": 101 } } })), "upstream.resilience.retryBudget.percent"),
            ("/deployments", pool(json!({ "resilience": { "perTryTimeoutSeconds": 0 } })), "upstream.resilience.perTryTimeoutSeconds"),
            ("/deployments", pool(json!({ "resilience": { "slowStartSeconds": -1 } })), "upstream.resilience.slowStartSeconds"),
            ("/deployments", pool(json!({ "resilience": { "maxConcurrent": 0 } })), "upstream.resilience.maxConcurrent"),
            ("/deployments", pool(json!({ "hashOn": "address" })), "upstream.hashOn"),
            ("/deployments", pool(json!({ "balance": "consistent_hash", "hashOn": { "header": "a b" } })), "upstream.hashOn.header"),
            ("/deployments", pool(json!({ "protocol": "spdy" })), "upstream.protocol"),
            ("/deployments", pool(json!({ "tls": { "caCertificates": "none" } })), "upstream.tls.caCertificates"),
            ("/deployments", pool(json!({ "tls": { "serverName": "a b" } })), "upstream.tls.serverName"),
            ("/deployments", pool(json!({ "tls": { "verify": false } })), "upstream.tls"),
            ("/deployments", pool(json!({ "healthCheck": {} })), "upstream.healthCheck.path"),
            ("/deployments", pool(json!({ "healthCheck": { "kind": "tcp", "path": "/x" } })), "upstream.healthCheck.path"),
            ("/deployments", pool(json!({ "healthCheck": { "kind": "icmp" } })), "upstream.healthCheck.kind"),
            ("/deployments", deployment(json!({ "maxBodyBytes": 0 })), "maxBodyBytes"),
            ("/deployments", deployment(json!({ "maxBodyBytes": 1.5 })), "maxBodyBytes"),
            ("/deployments", deployment(route("x")), "route.pathPrefix"),
            ("/deployments", deployment(route("/a/../b")), "route.pathPrefix"),
            ("/deployments", deployment(route("/a%2fb")), "route.pathPrefix"),
            ("/deployments", deployment(route("/a\r\nX: y")), "route.pathPrefix"),
            ("/plans", limit(json!({ "name": "a", "per": "moon", "requests": 1 })), "limits[0].per"),
            ("/plans", limit(json!({ "name": "a", "per": "tenant", "requests": 0, "windowSeconds": 1 })), "limits[0]"),
            ("/plans", limit(json!({ "name": "a", "per": "tenant", "requests": 5_000_000_000_u64, "windowSeconds": 1 })), "limits[0].requests"),
            ("/plans", limit(json!({ "name": "a", "per": "tenant" })), "limits[0]"),
            ("/plans", json!({ "apiId": api.id, "name": "P", "quota": { "requests": -1, "period": "day" } }), "quota.requests"),
            ("/plans", json!({ "apiId": api.id, "name": "P", "approval": "never" }), "approval"),
        ];
        for (path, body, field) in cases {
            let answer = hospital.provider().post(path, &body).await;
            assert_eq!(answer.status, 422, "{field}: {body}: {}", answer.text());
            let problem = answer.assert_problem(422, "validation_failed");
            let named = problem["errors"][0]["field"].as_str().unwrap();
            assert!(named.starts_with(field), "{field} is named {named}: {problem}");
        }
        assert_eq!(totals(&hospital).await, before);
    }

    async fn a_body_that_never_comes_is_not_waited_for_without_end(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let token = installation.admin().token();
        let request = format!(
            "POST /api/v1/admin/categories HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"
        );
        let waiting = exchange(installation.anonymous().address(), request.as_bytes());
        let answer = tokio::time::timeout(Duration::from_secs(40), waiting).await.unwrap();
        answer.assert_problem(408, "request_timeout");
        assert_eq!(installation.admin().get("/categories").await.items(), Vec::<Value>::new());
    }

    async fn broken_requests_do_not_hurt_the_server(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        for address in [installation.anonymous().address(), installation.gateway().address()] {
            for request in [
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
                "GET /api/v1/me HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
                "NONSENSE\r\n\r\n",
                "GET /\u{1}\u{2} HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
            ] {
                let answer = exchange(address, request.as_bytes()).await;
                assert!((400..506).contains(&answer.status), "{request:?}: {}", answer.status);
            }
            let many: String = (0..5_000).map(|at| format!("X-{at}: y\r\n")).collect();
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
            let answer = exchange(address, request.as_bytes()).await;
            assert!([400, 431].contains(&answer.status), "{}", answer.status);
        }
        installation.operations().get("/livez").await.expect_status(200);
        installation.admin().get("/me").await.ok();
        let text = installation.operations().get("/metrics").await.expect_status(200).text();
        assert!(text.trim_end().ends_with("# EOF"), "{text}");
    }
}

/// Resident memory of the server.
fn resident_mib(installation: &Installation) -> u64 {
    let path = format!("/proc/{}/status", installation.process_id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}
