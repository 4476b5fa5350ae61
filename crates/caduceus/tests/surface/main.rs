//! Every route, walked by the server's own description, for what the contract asks of all of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and may rewrite the checked-in description"
)]

mod row_security;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, Call, Client, exchange};
use world::World;

const MATRIX: &str = include_str!("../../../authz/permissions.tsv");

/// One operation of the description.
struct Route {
    method: Method,
    path: String,
    operation: String,
    is_public: bool,
    is_write: bool,
    media_types: Vec<String>,
}

async fn routes(nobody: &Client) -> Vec<Route> {
    let document = nobody.get("/openapi.json").await.ok();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let content = operation["requestBody"]["content"].as_object();
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                operation: operation["operationId"].as_str().unwrap().to_owned(),
                is_public: operation["security"] == json!([]),
                is_write: parameters.iter().any(|parameter| parameter["name"] == "dryRun"),
                media_types: content.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
            });
        }
    }
    assert!(routes.len() > 70, "the description lists {} operations", routes.len());
    routes
}

impl Route {
    fn has_json_body(&self) -> bool {
        self.media_types.iter().any(|media_type| media_type == "application/json")
    }

    /// The path, with the parameters that the world has for it.
    fn path_in(&self, world: &World) -> String {
        world.targets.path(&self.operation, &self.path)
    }

    /// A request that is well-formed.
    fn request(&self, client: &Client, world: &World, path: &str) -> Call {
        let call = client.call(self.method.clone(), path);
        if self.has_json_body() { call.json(&world.body(&self.operation)) } else { call }
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Who asks when it is not about who asks.
    fn asker<'a>(&self, world: &'a World) -> &'a Client {
        if self.is_public { world.installation.anonymous() } else { world.admin() }
    }
}

#[track_caller]
fn refused(route: &Route, answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}: {}", route.name(), answer.text());
    answer.assert_problem(status, code)
}

testkit::on_both_databases! {
    async fn every_route_asks_for_a_token_and_for_the_right_role(database: Database) {
        let world = World::create(database).await;
        let nobody = world.installation.anonymous();
        let matrix = matrix();
        for route in routes(nobody).await {
            let allowed = &matrix[route.operation.as_str()];
            assert_eq!(allowed.contains("nobody"), route.is_public, "{}", route.operation);
            if route.is_public {
                continue;
            }
            let path = route.path_in(&world);
            let strangers = [
                nobody.clone(),
                nobody.with_token("nonsense"),
                nobody.with_header("authorization", "Basic cm9vdDpyb290"),
            ];
            for stranger in &strangers {
                let answer = stranger.call(route.method.clone(), &path).await;
                refused(&route, &answer, 401, "unauthenticated");
                assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
            }
            for role in ["tenant-admin", "provider", "reviewer", "consumer", "auditor"] {
                if !allowed.contains(role) {
                    let person = world.hospital.person(role);
                    let answer = person.call(route.method.clone(), &path).await;
                    refused(&route, &answer, 403, "forbidden");
                }
            }
        }
    }

    async fn every_route_refuses_what_it_does_not_have(database: Database) {
        let world = World::create(database).await;
        let routes = routes(world.installation.anonymous()).await;
        let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for route in &routes {
            methods.entry(&route.path).or_default().insert(route.method.as_str());
        }
        for route in &routes {
            let path = route.path_in(&world);
            let asker = route.asker(&world);

            let answer = route.request(asker, &world, &format!("{path}?surprise=1")).await;
            refused(route, &answer, 400, "invalid_query");

            let request = route.request(asker, &world, &path).header("api-version", "9.9");
            let answer = request.await;
            let problem = refused(route, &answer, 400, "unsupported_api_version");
            assert!(problem["detail"].as_str().unwrap().contains("1.0"), "{problem}");

            let known = &methods[route.path.as_str()];
            for wrong in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
                if known.contains(wrong) {
                    continue;
                }
                let answer = asker.call(wrong.parse().unwrap(), &path).await;
                refused(route, &answer, 405, "method_not_allowed");
                let allowed = answer.header("allow").unwrap();
                let allowed: BTreeSet<_> = allowed.split(", ").collect();
                assert_eq!(allowed, *known, "{}", route.path);
            }

            if route.path.contains('{') {
                for nothing in ["nonsense", "%00", "api_0", "'%20OR%201=1"] {
                    let path = route.path.replace("{id}", nothing).replace("{credentialId}", nothing);
                    let answer = route.request(asker, &world, &path).await;
                    assert_eq!(answer.status, 404, "{}: {}", route.name(), answer.text());
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    assert!(code.ends_with("_not_found"), "{}: {code}", route.name());
                    answer.assert_problem(404, &code);
                }
            }
        }
        let answer = world.admin().get("/nothing/here").await;
        answer.assert_problem(404, "route_not_found");
    }

    async fn every_body_is_read_strictly(database: Database) {
        let world = World::create(database).await;
        let before = world.state().await;
        for route in routes(world.installation.anonymous()).await {
            if route.media_types.is_empty() {
                continue;
            }
            let path = route.path_in(&world);
            let asker = route.asker(&world);
            let call = || asker.call(route.method.clone(), &path);

            let answer = call().header("content-type", "text/plain").body("hello").await;
            refused(&route, &answer, 415, "unsupported_media_type");

            let token = if route.is_public { String::new() } else { asker.token() };
            let request = format!(
                "{} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: {}\r\nContent-Length: 1000000000\r\n\r\n{{",
                route.method, route.media_types[0],
            );
            let answer = exchange(asker.address(), request.as_bytes()).await;
            refused(&route, &answer, 413, "body_too_large");

            if !route.has_json_body() {
                continue;
            }
            for malformed in ["{", "{\"a\": }", "nope", "{} {}", "\u{0}"] {
                let json = call().header("content-type", "application/json");
                let answer = json.body(malformed).await;
                refused(&route, &answer, 400, "malformed_json");
            }
            let mut body = world.body(&route.operation);
            body["surprise"] = json!(1);
            let answer = call().json(&body).await;
            let problem = refused(&route, &answer, 422, "validation_failed");
            assert!(problem["errors"][0]["message"].as_str().unwrap().contains("surprise"));
            for wrong in [json!([1]), json!("text"), json!(7)] {
                let answer = call().json(&wrong).await;
                let problem = refused(&route, &answer, 422, "validation_failed");
                assert!(problem["errors"][0]["field"].is_string(), "{problem}");
            }
        }
        assert_eq!(world.state().await, before);
    }

    async fn a_dry_run_of_every_write_is_answered_and_stores_nothing(database: Database) {
        let world = World::create(database).await;
        let before = world.state().await;
        let mut writes = 0;
        for route in routes(world.installation.anonymous()).await {
            assert_eq!(
                route.is_write, route.method != Method::GET && !route.is_public, "{}", route.name()
            );
            if !route.is_write {
                continue;
            }
            for dry in ["dryRun=true", "dry%52un=true", "dryRun=%74rue"] {
                let path = format!("{}?{dry}", route.path_in(&world));
                let answer = route.request(world.admin(), &world, &path).await;
                assert!((200..300).contains(&answer.status), "{}: {}", route.name(), answer.text());
                assert!(answer.header("x-request-id").is_some());
                let after = world.state().await;
                for (before, after) in before.iter().zip(&after) {
                    assert_eq!(before, after, "{} {dry} stored something", route.name());
                }
            }
            writes += 1;
        }
        assert!(writes > 35, "{writes} writes");
        let path = "/applications?dryRun=perhaps";
        let answer = world.admin().post(path, &json!({ "name": "Named" })).await;
        answer.assert_problem(400, "invalid_query");
    }

    async fn every_read_is_answered_and_can_be_traced(database: Database) {
        let world = World::create(database).await;
        let mut reads = 0;
        for route in routes(world.installation.anonymous()).await {
            if route.method != Method::GET {
                continue;
            }
            let query = match route.operation.as_str() {
                "plan.list" => format!("?apiId={}", world.targets.active),
                "api.search" => "?query=clinic".to_owned(),
                _ => String::new(),
            };
            let path = format!("{}{query}", route.path_in(&world));
            let answer = route.asker(&world).get(&path).header("x-request-id", "trace-me-01").await;
            assert_eq!(answer.status, 200, "{}: {}", route.name(), answer.text());
            assert_eq!(answer.header("x-request-id"), Some("trace-me-01"), "{}", route.name());
            assert_eq!(answer.header("api-version"), Some("1.0"), "{}", route.name());
            let head = route.asker(&world).call(Method::HEAD, &path).await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{}", route.name());
            assert_eq!(head.header("etag"), answer.header("etag"), "{}", route.name());
            let answer = route.asker(&world).get(&path).header("x-request-id", "<script>").await;
            let own = answer.header("x-request-id").unwrap();
            assert_eq!((own.len(), &own[14..15]), (36, "7"), "{}: {own}", route.name());
            reads += 1;
        }
        assert!(reads > 25, "{reads} reads");
    }
}

/// The roles that may perform each action, and `nobody` where no token is needed.
fn matrix() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut lines = MATRIX.lines().map(|line| line.split('\t'));
    let roles: Vec<_> = lines.next().unwrap().skip(1).collect();
    lines
        .map(|mut cells| {
            let action = cells.next().unwrap();
            let allowed = roles.iter().zip(cells).filter(|(_, cell)| *cell == "yes");
            (action, allowed.map(|(role, _)| *role).collect())
        })
        .collect()
}

#[test]
fn the_description_names_every_action_once() {
    let document: Value = serde_json::from_str(&api::openapi_document()).unwrap();
    let operations = document["paths"].as_object().unwrap().values();
    let mut names: Vec<_> = operations
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut actions: Vec<_> = matrix().into_keys().collect();
    actions.sort_unstable();
    assert_eq!(names, actions);
}

#[test]
fn the_description_is_valid() {
    let document = api::openapi_document();
    let report = spec::validate(document.as_bytes(), &spec::Limits::default());
    let errors: Vec<_> =
        report.issues.iter().filter(|issue| issue.severity == spec::Severity::Error).collect();
    assert!(report.is_valid() && errors.is_empty(), "{errors:#?}");
}

#[test]
fn the_checked_in_description_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/v1.json");
    let current = api::openapi_document();
    if std::env::var_os("CADUCEUS_WRITE_OPENAPI").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == current,
        "openapi/v1.json is out of date; write it anew with \
         CADUCEUS_WRITE_OPENAPI=1 cargo test -p caduceus --test surface the_checked_in"
    );
}
