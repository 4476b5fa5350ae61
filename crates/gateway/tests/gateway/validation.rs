//! Requests compared with their operation: refused, or let through with a warning.

use std::sync::Arc;

use model::{DeploymentEntry, ValidationEntry};
use proptest::prelude::*;
use spec::{Limits, RequestRules};

use crate::support::{Answer, TestGateway, TestTarget, api_key, deployment, operation, wait_for};

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: { title: Lab, version: "1" }
paths:
  /results:
    get:
      parameters:
        - { name: limit, in: query, schema: { type: integer, minimum: 1, maximum: 100 } }
        - { name: codes, in: query, style: pipeDelimited, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: filter, in: query, style: deepObject, schema: { type: object, properties: { from: { type: string, format: date } } } }
        - { name: X-Purpose, in: header, required: true, schema: { enum: [treatment, research] } }
        - { name: session, in: cookie, schema: { type: string, format: uuid } }
      responses: { "200": { description: ok } }
    post:
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: "#/components/schemas/Result" } }
          application/fhir+json: { schema: { $ref: "#/components/schemas/Result" } }
          application/x-www-form-urlencoded: { schema: { type: object, required: [value], properties: { value: { type: number } } } }
          multipart/form-data: { schema: { type: object } }
      responses: { "201": { description: ok } }
  /results/{id}:
    get:
      parameters: [ { name: id, in: path, required: true, schema: { type: integer, format: int32 } } ]
      responses: { "200": { description: ok } }
    delete:
      parameters: [ { name: id, in: path, required: true, schema: { type: integer } } ]
      responses: { "204": { description: ok } }
components:
  schemas:
    Result:
      type: object
      required: [patient, value]
      additionalProperties: false
      properties:
        id: { type: string, readOnly: true }
        patient:
          type: object
          required: [birthDate]
          properties: { birthDate: { type: string, format: date }, name: { type: string, maxLength: 5, pattern: "^(\\w+)+$" } }
        value: { type: number, format: double, maximum: 1000 }
        notes: { type: array, items: { type: string } }
"##;

const FINE: &str = r#"{"patient":{"birthDate":"1990-01-31"},"value":7}"#;

fn validated(target: &TestTarget, enforced: bool) -> DeploymentEntry {
    let rules = RequestRules::compile(DOCUMENT.as_bytes(), &Limits::default()).unwrap();
    let mut entry = deployment(&[target.address]);
    let bodies = [
        "application/json",
        "application/fhir+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ];
    entry.operations = vec![
        operation("GET", "/results", &[], &[]),
        operation("POST", "/results", &bodies, &[]),
        operation("GET", "/results/{id}", &[], &[]),
        operation("DELETE", "/results/{id}", &[], &[]),
    ];
    entry.max_body_bytes = 4 << 20;
    let rules: Arc<str> = serde_json::to_string(&rules).unwrap().into();
    entry.validation = Some(ValidationEntry { enforced, rules });
    entry
}

struct World {
    target: TestTarget,
    gateway: TestGateway,
}

impl World {
    fn new(enforced: bool) -> Self {
        let target = TestTarget::named("lab");
        let gateway = TestGateway::serving(validated(&target, enforced));
        Self { target, gateway }
    }

    fn call(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let key = api_key(1);
        let mut all = vec![("X-API-Key", key.as_str())];
        all.extend_from_slice(fields);
        self.gateway.client().call(method, path, &all, body)
    }

    fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", "/lab/results", &[("Content-Type", "application/json")], body.as_ref())
    }

    fn search(&self, query: &str) -> Answer {
        self.call("GET", &format!("/lab/results?{query}"), &[("X-Purpose", "research")], b"")
    }
}

#[track_caller]
fn assert_fields(answer: &Answer, fields: &[&str]) {
    answer.assert_problem(422, "validation_failed");
    let problem = answer.json();
    let errors = problem["errors"].as_array().unwrap();
    let found: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(found, fields, "{problem}");
    assert!(errors.iter().all(|error| !error["message"].as_str().unwrap().is_empty()));
}

#[test]
fn what_fits_is_forwarded_as_it_is() {
    let world = World::new(true);
    for kind in ["application/json", "application/fhir+json; charset=utf-8"] {
        let answer =
            world.call("POST", "/lab/results?x=1", &[("Content-Type", kind)], FINE.as_bytes());
        assert_eq!((answer.status, answer.text()), (200, "lab"));
        assert_eq!(answer.header("caduceus-validation"), None);
        assert_eq!(world.target.last().body, FINE);
        assert_eq!(world.target.last().uri, "/lab/results?x=1");
    }
    let query = "limit=100&codes=1|2&filter[from]=2024-02-29&unknown=x";
    assert_eq!(world.search(query).status, 200);
    assert_eq!(world.call("GET", "/lab/results/7", &[], b"").status, 200);
    assert_eq!(world.call("HEAD", "/lab/results/7", &[], b"").status, 200);
}

#[test]
fn bodies_that_do_not_fit_are_refused() {
    let world = World::new(true);
    for (body, fields) in [
        (r#"{"value":1}"#, &["/body/patient"][..]),
        (r#"{"patient":{"birthDate":"31.1.1990"},"value":1}"#, &["/body/patient/birthDate"]),
        (
            r#"{"patient":{"birthDate":"1990-02-30","name":"😀😀😀😀😀😀"},"value":1}"#,
            &["/body/patient/birthDate", "/body/patient/name", "/body/patient/name"],
        ),
        (
            r#"{"patient":{"birthDate":"1990-01-31"},"value":1e400}"#,
            &["/body/value", "/body/value"],
        ),
        (r#"{"patient":{"birthDate":"1990-01-31"},"value":1,"id":"x"}"#, &["/body/id"]),
        (r#"{"patient":{"birthDate":"1990-01-31"},"value":1,"x":"x"}"#, &["/body"]),
        (
            r#"{"patient":{"birthDate":"1990-01-31"},"value":1,"notes":["a",null]}"#,
            &["/body/notes/1"],
        ),
        ("[]", &["/body"]),
    ] {
        assert_fields(&world.post(body), fields);
    }
    assert_fields(&world.post(""), &["/body"]);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_fields(&world.call("POST", "/lab/results", &form, b"value=x"), &["/body/value"]);
    assert_eq!(world.call("POST", "/lab/results", &form, b"value=1.5").status, 200);
    let parts = [("Content-Type", "multipart/form-data; boundary=x")];
    assert_eq!(world.call("POST", "/lab/results", &parts, b"--x--").status, 200);
    assert_eq!(world.target.seen().len(), 2);
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let world = World::new(true);
    assert_fields(
        &world.search("limit=101&codes=1|x&filter[from]=x"),
        &["/query/limit", "/query/codes/1", "/query/filter/from"],
    );
    assert_fields(&world.call("GET", "/lab/results", &[], b""), &["/header/X-Purpose"]);
    let fields = [("X-Purpose", "curiosity"), ("Cookie", "a=b; session=x")];
    assert_fields(
        &world.call("GET", "/lab/results", &fields, b""),
        &["/header/X-Purpose", "/cookie/session"],
    );
    assert_fields(&world.call("GET", "/lab/results/x", &[], b""), &["/path/id"]);
    assert_fields(&world.call("GET", "/lab/results/2147483648", &[], b""), &["/path/id"]);
    assert_fields(&world.call("DELETE", "/lab/results/7", &[], b"{}"), &["/body"]);
    assert_eq!(world.target.seen().len(), 0);
}

#[test]
fn operations_that_are_not_declared_are_refused() {
    let world = World::new(true);
    world.call("GET", "/lab/nothing", &[], b"").assert_problem(404, "operation_not_found");
    let answer = world.call("PUT", "/lab/results/7", &[], b"");
    answer.assert_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("DELETE, GET"));
    world
        .call("POST", "/lab/results", &[("Content-Type", "text/plain")], b"x")
        .assert_problem(415, "unsupported_media_type");
    let answer = world.call(
        "POST",
        "/lab/results",
        &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
        b"x",
    );
    answer.assert_problem(415, "unsupported_content_encoding");
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    assert_eq!(world.target.seen().len(), 0);
}

#[test]
fn malformed_json_is_located_and_never_repeated() {
    let world = World::new(true);
    for (body, place) in [
        ("{\"secret\":", "line 1, column 11"),
        ("{\"patient\":{},\n \"value\": secret}", "line 2, column 11"),
        (r#"{"secret":1,"secret":2}"#, "line 1, column 24"),
    ] {
        let answer = world.post(body);
        answer.assert_problem(400, "malformed_json");
        assert!(answer.json()["detail"].as_str().unwrap().contains(place), "{}", answer.text());
        assert!(!answer.text().contains("secret"));
    }
    world.post("[".repeat(60_000)).assert_problem(400, "malformed_json");
    world.post(b"\"\xff\"").assert_problem(400, "malformed_json");
}

#[test]
fn large_bodies_are_checked_beside_the_event_loop() {
    let world = World::new(true);
    let notes = "\"some words of a note\",".repeat(20_000);
    let fine =
        format!(r#"{{"patient":{{"birthDate":"1990-01-31"}},"value":7,"notes":[{notes}"end"]}}"#);
    assert_eq!(world.post(&fine).status, 200);
    assert_eq!(world.target.last().body, fine);
    assert_fields(&world.post(fine.replace("\"end\"", "7")), &["/body/notes/20000"]);
    let bomb = format!(
        r#"{{"patient":{{"birthDate":"1990-01-31","name":"{}!"}},"value":7}}"#,
        "a".repeat(200_000)
    );
    assert_fields(&world.post(bomb), &["/body/patient/name", "/body/patient/name"]);
    let too_large = format!(
        r#"{{"patient":{{"birthDate":"1990-01-31"}},"value":7,"notes":["{}"]}}"#,
        "x".repeat(1 << 20)
    );
    world.post(too_large).assert_problem(413, "body_too_large");
}

fn chunked(world: &World, chunks: &[&[u8]]) -> Answer {
    let mut client = world.gateway.client();
    client.send(format!(
        "POST /lab/results HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        api_key(1)
    ));
    for chunk in chunks {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    client.answer_to("POST").unwrap()
}

#[test]
fn chunked_bodies_are_put_together() {
    let world = World::new(true);
    let (one, two) = FINE.as_bytes().split_at(20);
    assert_eq!(chunked(&world, &[one, two]).status, 200);
    assert_eq!(world.target.last().body, FINE);
    assert_eq!(world.target.last().header("content-length"), Some(FINE.len().to_string().as_str()));
    assert_fields(&chunked(&world, &[b"{", b"}"]), &["/body/patient", "/body/value"]);
    assert_fields(&chunked(&world, &[]), &["/body"]);
    chunked(&world, &[&vec![b' '; 600_000], &vec![b' '; 600_000]])
        .assert_problem(413, "body_too_large");
}

#[test]
fn warnings_are_told_and_counted_and_nothing_is_refused() {
    let world = World::new(false);
    for (answer, errors) in [
        (world.post(r#"{"value":"x"}"#), 2),
        (world.post("{"), 1),
        (world.call("GET", "/lab/nothing", &[], b""), 1),
        (world.call("PUT", "/lab/results", &[], b""), 1),
        (world.call("GET", "/lab/results?limit=0", &[], b""), 2),
    ] {
        assert_eq!((answer.status, answer.text()), (200, "lab"));
        assert_eq!(
            answer.header("caduceus-validation"),
            Some(format!("warn; errors={errors}").as_str())
        );
    }
    assert_eq!(world.post(FINE).header("caduceus-validation"), None);
    let large = "x".repeat(2 << 20);
    assert_eq!(world.post(&large).header("caduceus-validation"), Some("warn; errors=1"));
    assert_eq!(world.target.last().body, large);
    let half = vec![b' '; 600_000];
    let answer = chunked(&world, &[&half, &half, b"{}"]);
    assert_eq!(
        (answer.status, answer.header("caduceus-validation")),
        (200, Some("warn; errors=1"))
    );
    assert_eq!(world.target.last().body.len(), 1_200_002);
    let metrics = world.gateway.metrics();
    for line in [
        r#"invalid_requests_total{tenant="north",api="Lab results",version="1.0.0",route="/results",action="passed"} 5"#,
        r#"invalid_requests_total{tenant="north",api="Lab results",version="1.0.0",route="other",action="passed"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn without_validation_nothing_is_compared() {
    let target = TestTarget::named("lab");
    let mut entry = validated(&target, true);
    entry.validation = None;
    let gateway = TestGateway::serving(entry);
    let world = World { target, gateway };
    assert_eq!(world.post("{").status, 200);
    assert_eq!(world.call("PUT", "/lab/nothing", &[], b"").status, 200);
}

#[test]
fn rules_that_cannot_be_read_protect_by_refusing() {
    let target = TestTarget::named("lab");
    for (enforced, status) in [(true, 503), (false, 200)] {
        let mut entry = validated(&target, enforced);
        entry.validation = Some(ValidationEntry { enforced, rules: "".into() });
        let gateway = TestGateway::serving(entry);
        let key = api_key(1);
        let answer = gateway.client().call("GET", "/lab/results/7", &[("X-API-Key", &key)], b"");
        assert_eq!(answer.status, status);
    }
}

#[test]
fn a_body_kept_for_validation_can_be_sent_again() {
    let broken = crate::support::raw_target(|mut stream| {
        crate::support::read_head(&mut stream);
    });
    let target = TestTarget::named("lab");
    let mut entry = validated(&target, true);
    let rules = DOCUMENT.replace("    post:", "    put:");
    let rules = RequestRules::compile(rules.as_bytes(), &Limits::default()).unwrap();
    entry.validation = Some(ValidationEntry {
        enforced: true,
        rules: serde_json::to_string(&rules).unwrap().into(),
    });
    entry.operations[1].method = "PUT".to_owned();
    entry.upstream = deployment(&[broken, target.address]).upstream;
    let gateway = TestGateway::serving(entry);
    let notes = "\"note\",".repeat(20_000);
    let body =
        format!(r#"{{"patient":{{"birthDate":"1990-01-31"}},"value":7,"notes":[{notes}"end"]}}"#);
    let key = api_key(1);
    for _ in 0..2 {
        let fields = [("X-API-Key", key.as_str()), ("Content-Type", "application/json")];
        let answer = gateway.client().call("PUT", "/lab/results", &fields, body.as_bytes());
        assert_eq!(answer.status, 200);
        assert_eq!(target.last().body, body);
    }
}

#[test]
fn refusals_are_recorded_as_the_clients_fault() {
    let world = World::new(true);
    world.post("{}");
    wait_for(|| world.gateway.metrics().contains(r#"action="refused"} 1"#).then_some(()));
    let record = &world.gateway.usage(1)[0];
    assert_eq!(
        (record.status, record.fault, record.operation),
        (422, model::Fault::Client, Some(1))
    );
    assert_eq!(record.request_bytes, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_of_a_request_is_ever_told(
        text in "[a-z]{0,4}QX7[a-z]{0,4}",
        number in 737_300_000_u64..737_399_999,
        cut in any::<prop::sample::Index>(),
    ) {
        let world = World::new(true);
        let body = format!(
            r#"{{"{text}":"{text}","patient":{{"birthDate":"{text}","name":{number},"{text}":1}},"value":{number},"notes":["{text}",{number},{{"{text}":0}}]}}"#
        );
        let path = format!("/lab/results/{text}");
        let fields = [("X-Purpose", text.as_str()), ("Cookie", &format!("session={text}"))];
        let answers = [
            world.post(&body),
            world.post(&body[..cut.index(body.len())]),
            world.call("GET", "/lab/results", &fields, b""),
            world.search(&format!("limit={number}&codes={text}&filter[{text}]={text}&filter[from]={text}")),
        ];
        for answer in answers {
            prop_assert!(answer.status == 422 || answer.status == 400, "{answer:?}");
            let said = format!("{:?}{}", answer.headers, answer.text());
            prop_assert!(!said.contains("QX7") && !said.contains(&number.to_string()), "{said}");
        }
        let answer = world.call("GET", &path, &[], b"");
        // The path that was called stands in the answer as its instance, as in every other one.
        let errors = answer.json()["errors"].to_string();
        prop_assert!(!errors.contains("QX7"), "{errors}");
        prop_assert!(!world.gateway.metrics().contains("QX7"));
    }
}
