//! Parameters in every style, and forms.

use std::borrow::Cow;

use super::written;
use crate::{
    Limits,
    request::{BodyCheck, BodyNeed, Effort, Findings, RequestHead, RequestRules},
};

fn rules(path: &str, parameters: &str) -> RequestRules {
    let document = format!(
        r#"{{"openapi":"3.1.0","info":{{"title":"t","version":"1"}},"paths":{{"{path}":{{"get":{{
            "parameters":[{parameters}],"responses":{{"204":{{"description":"d"}}}}}}}}}}}}"#
    );
    let rules = RequestRules::compile(document.as_bytes(), &Limits::default()).unwrap();
    serde_json::from_str(&serde_json::to_string(&rules).unwrap()).unwrap()
}

fn parameter(location: &str, style: &str, explode: bool, schema: &str) -> String {
    format!(
        r#"{{"name":"p","in":"{location}","required":true,"style":"{style}","explode":{explode},"schema":{schema}}}"#
    )
}

fn found(
    rules: &RequestRules,
    template: &str,
    path: &str,
    query: &str,
    fields: &[(&str, &str)],
) -> Vec<String> {
    let header = |name: &str| {
        fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| Cow::Borrowed(*value))
    };
    let mut findings = Findings::default();
    let operation = rules.operation("GET", template).unwrap();
    rules.check_head(operation, &RequestHead { path, query, header: &header }, &mut findings);
    written(&findings)
}

const NUMBERS: &str = r#"{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":2}"#;
const COLOUR: &str = r#"{"type":"object","required":["R","G"],"additionalProperties":false,
    "properties":{"R":{"type":"integer"},"G":{"type":"integer"},"T":{"type":"array","items":{"type":"boolean"}}}}"#;

#[test]
fn path_parameters_have_three_styles() {
    for (style, explode, schema, fine, bad) in [
        ("simple", false, r#"{"type":"integer"}"#, "5", "x"),
        ("simple", false, r#"{"type":"string","maxLength":3}"#, "a%20b", "a%20bc"),
        ("simple", false, NUMBERS, "1,2", "1,x"),
        ("simple", true, NUMBERS, "1,2", "1"),
        ("simple", false, COLOUR, "R,1,G,2", "R,1,G"),
        ("simple", true, COLOUR, "R=1,G=2", "R,1,G,2"),
        ("label", false, r#"{"type":"integer"}"#, ".5", "5"),
        ("label", false, NUMBERS, ".1,2", ".1,x"),
        ("label", true, NUMBERS, ".1.2", "1.2"),
        ("label", true, COLOUR, ".R=1.G=2", ".R=1"),
        ("matrix", false, r#"{"type":"integer"}"#, ";p=5", ";q=5"),
        ("matrix", false, NUMBERS, ";p=1,2", "1,2"),
        ("matrix", true, NUMBERS, ";p=1;p=2", ";p=1;q=2"),
        ("matrix", false, COLOUR, ";p=R,1,G,2", ";p=R,1"),
        ("matrix", true, COLOUR, ";R=1;G=2", ";R=1;G=x"),
    ] {
        let rules = rules("/a/{p}/b", &parameter("path", style, explode, schema));
        let found = |value: &str| found(&rules, "/a/{p}/b", &format!("/a/{value}/b"), "", &[]);
        assert_eq!(found(fine), [""; 0], "{style} {explode} {fine}");
        assert!(!found(bad).is_empty(), "{style} {explode} {bad}");
    }
}

#[test]
fn query_parameters_have_four_styles() {
    for (style, explode, schema, fine, bad) in [
        ("form", true, r#"{"type":"integer"}"#, "p=5&q=1", "p=x"),
        ("form", true, r#"{"type":"integer"}"#, "p=5", "p=5&p=6"),
        ("form", true, r#"{"type":"boolean"}"#, "p=true", "p=TRUE"),
        ("form", true, r#"{"type":"string","pattern":"^a b$"}"#, "p=a+b", "p=a%2Bb"),
        ("form", true, NUMBERS, "p=1&p=2", "p=1"),
        ("form", false, NUMBERS, "p=1,2", "p=1&p=2"),
        ("form", true, COLOUR, "R=1&G=2&other=3", "R=1"),
        ("form", false, COLOUR, "p=R,1,G,2", "p=R,1,G,x"),
        ("spaceDelimited", false, NUMBERS, "p=1%202", "p=1%20x"),
        ("spaceDelimited", false, NUMBERS, "p=1+2", "p=1"),
        ("pipeDelimited", false, NUMBERS, "p=1|2", "p=1|x"),
        ("pipeDelimited", false, NUMBERS, "p=1%7c2", "p=1,2"),
        (
            "deepObject",
            true,
            COLOUR,
            "p[R]=1&p%5BG%5D=2&p[T]=true&p[T]=false",
            "p[R]=1&p[G]=2&p[X]=3",
        ),
    ] {
        let rules = rules("/a", &parameter("query", style, explode, schema));
        let found = |query: &str| found(&rules, "/a", "/a", query, &[]);
        assert_eq!(found(fine), [""; 0], "{style} {explode} {fine}");
        assert!(!found(bad).is_empty(), "{style} {explode} {bad}");
        assert_eq!(
            found("other=1"),
            ["/query/p is required"].map(str::to_owned),
            "{style} {explode}"
        );
    }
}

#[test]
fn headers_and_cookies_are_checked() {
    let header = rules("/a", &parameter("header", "simple", false, NUMBERS));
    assert_eq!(found(&header, "/a", "/a", "", &[("P", "1, 2")]), [""; 0]);
    assert_eq!(
        found(&header, "/a", "/a", "", &[("p", "1, x")]),
        ["/header/p/1 must be an integer"]
    );
    assert_eq!(found(&header, "/a", "/a", "", &[]), ["/header/p is required"]);
    let cookie = rules("/a", &parameter("cookie", "form", false, r#"{"type":"integer"}"#));
    assert_eq!(found(&cookie, "/a", "/a", "", &[("cookie", "q=x; p=5")]), [""; 0]);
    assert_eq!(
        found(&cookie, "/a", "/a", "", &[("cookie", "p=x")]),
        ["/cookie/p must be an integer"]
    );
}

#[test]
fn parameters_may_be_json() {
    let content = |schema| {
        format!(
            r#"{{"name":"p","in":"query","content":{{"application/json":{{"schema":{schema}}}}}}}"#
        )
    };
    let rules = rules("/a", &content(COLOUR));
    assert_eq!(found(&rules, "/a", "/a", "p=%7B%22R%22:1,%22G%22:2%7D", &[]), [""; 0]);
    assert_eq!(found(&rules, "/a", "/a", "p=%7B%22R%22:1%7D", &[]), ["/query/p/G is required"]);
    assert_eq!(found(&rules, "/a", "/a", "p=%7B", &[]), ["/query/p must be well-formed JSON"]);
    assert_eq!(found(&rules, "/a", "/a", "", &[]), [""; 0]);
}

#[test]
fn texts_are_read_by_the_types_that_schemas_allow() {
    for (schema, fine, bad) in [
        (r#"{"type":"integer"}"#, "1e2", "007"),
        (r#"{"type":["integer","null"]}"#, "null", "x"),
        (r#"{"oneOf":[{"type":"integer"},{"type":"string","minLength":2}]}"#, "ab", "a"),
        (r#"{"type":"string","enum":["1"]}"#, "1", "2"),
        (r#"{"allOf":[{"type":"number"},{"minimum":3}]}"#, "3.5", "2"),
        (r#"{"enum":["a"]}"#, "a", "b"),
    ] {
        let rules = rules("/a", &parameter("query", "form", true, schema));
        let found = |value: &str| found(&rules, "/a", "/a", &format!("p={value}"), &[]);
        assert_eq!(found(fine), [""; 0], "{schema}");
        assert_eq!(found(bad).len(), 1, "{schema}");
    }
}

#[test]
fn segments_may_hold_several_parameters() {
    let one = |name: &str| {
        format!(r#"{{"name":"{name}","in":"path","required":true,"schema":{{"type":"integer"}}}}"#)
    };
    let rules = rules("/r/{a}-{b}.{c}/x", &[one("a"), one("b"), one("c")].join(","));
    assert_eq!(found(&rules, "/r/{a}-{b}.{c}/x", "/r/1-2.3/x", "", &[]), [""; 0]);
    assert_eq!(
        found(&rules, "/r/{a}-{b}.{c}/x", "/r/1-z.3/x", "", &[]),
        ["/path/b must be an integer"]
    );
}

#[test]
fn broken_encodings_are_told() {
    let rules = rules("/a", &parameter("query", "form", true, r#"{"type":"string"}"#));
    assert_eq!(found(&rules, "/a", "/a", "p=%zz", &[]), ["/query/p must be percent-encoded UTF-8"]);
    assert_eq!(found(&rules, "/a", "/a", "%ff=1", &[]), ["/query must be percent-encoded UTF-8"]);
    let many = "a=1&".repeat(20_000);
    assert_eq!(found(&rules, "/a", "/a", &many, &[]), ["/query has too many parts"]);
}

#[test]
fn forms_are_read_by_their_schema() {
    let document = r#"{"openapi":"3.0.3","info":{"title":"t","version":"1"},"paths":{"/f":{"post":{
        "requestBody":{"content":{"application/x-www-form-urlencoded":{"schema":{"type":"object","required":["n"],"additionalProperties":false,
            "properties":{"n":{"type":"integer"},"l":{"type":"array","items":{"type":"integer"}},"m":{"type":"array","items":{"type":"string"}},
            "o":{"type":"object","required":["k"],"properties":{"k":{"type":"integer"}}}}},
            "encoding":{"m":{"style":"form","explode":false}}},
        "multipart/form-data":{"schema":{"type":"object"}},"text/*":{}}},"responses":{"204":{"description":"d"}}}}}}"#;
    let rules = RequestRules::compile(document.as_bytes(), &Limits::default()).unwrap();
    let operation = rules.operation("POST", "/f").unwrap();
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    let found =
        |body: &str| match rules.check_body(operation, kind, body.as_bytes(), Effort::Little) {
            BodyCheck::Done(findings) => written(&findings),
            other => panic!("{other:?}"),
        };
    assert_eq!(found("n=1&l=1&l=2&m=a,b&o=%7B%22k%22:1%7D"), [""; 0]);
    assert_eq!(
        found("n=x&l=1&l=y"),
        ["/body/l/1 must be an integer", "/body/n must be an integer"]
    );
    assert_eq!(found("o=%7B%7D"), ["/body/o/k is required", "/body/n is required"]);
    assert_eq!(found("n=1&o=x"), ["/body/o must be an object"]);
    assert_eq!(
        found("n=1&z=1"),
        ["/body must not have properties that are not declared (see property 2)"]
    );
    assert_eq!(found("n=%"), ["/body must be percent-encoded UTF-8"]);
    assert_eq!(rules.body_need(operation, kind), BodyNeed::Whole);
    assert_eq!(rules.body_need(operation, "multipart/form-data"), BodyNeed::Nothing);
    assert_eq!(rules.body_need(operation, "text/plain"), BodyNeed::Nothing);
    assert!(!rules.requires_body(operation));
}
