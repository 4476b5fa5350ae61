//! Header fields on their way through, in both directions.

use http::Response;
use model::Network;

use crate::support::{TestGateway, TestTarget, api_key, deployment, snapshot};

fn target() -> TestTarget {
    TestTarget::answering(|seen| {
        let mut response = Response::builder()
            .header("connection", "x-hop, keep-alive")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("x-kept", "2")
            .header("x-request-id", "theirs");
        if seen.uri.ends_with("/empty") {
            response = response.status(204);
            return response.body("".into()).unwrap();
        }
        response.body("hello".into()).unwrap()
    })
}

#[test]
fn hop_by_hop_fields_end_here_in_both_directions() {
    let target = target();
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let headers = [
        ("X-API-Key", &*api_key(1)),
        ("Connection", "x-request-id, x-forwarded-for, X-Mine, via"),
        ("X-Mine", "1"),
        ("X-Other", "2"),
        ("TE", "trailers"),
        ("Keep-Alive", "300"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy-Connection", "keep-alive"),
    ];
    let answer = gateway.client().call("GET", "/lab", &headers, b"");
    let seen = target.last();
    for gone in [
        "connection",
        "x-mine",
        "te",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "x-api-key",
    ] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    for (name, value) in
        [("x-other", "2"), ("via", "1.1 caduceus"), ("x-forwarded-for", "127.0.0.1")]
    {
        assert_eq!(seen.header(name), Some(value));
    }
    assert_eq!(seen.header("x-request-id"), answer.header("x-request-id"));
    assert_eq!(seen.header("host"), Some(&*target.address.to_string()));
    for gone in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!((answer.header("x-kept"), answer.header("via")), (Some("2"), Some("1.1 caduceus")));
    assert_ne!(answer.header("x-request-id"), Some("theirs"));
}

#[test]
fn a_credential_never_reaches_a_target() {
    let target = target();
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let bearer = format!("bEARER {}", api_key(1));
    assert_eq!(
        gateway.client().call("GET", "/lab", &[("Authorization", &bearer)], b"").status,
        200
    );
    let seen = target.last();
    let secret = api_key(1);
    assert!(!seen.headers.values().flatten().any(|value| value.contains(&secret)));
    assert_eq!((seen.header("authorization"), seen.uri.as_str()), (None, "/lab"));
}

#[test]
fn identifiers_of_calls_are_kept_when_well_formed() {
    let target = target();
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let key = api_key(1);
    let call = |id: &str, trace: &str| {
        let headers = [
            ("X-API-Key", key.as_str()),
            ("X-Request-Id", id),
            ("traceparent", trace),
            ("tracestate", "a=b"),
        ];
        gateway.client().call("GET", "/lab", &headers, b"")
    };
    assert_eq!(call(id, trace).header("x-request-id"), Some(id));
    let seen = target.last();
    assert_eq!((seen.header("x-request-id"), seen.header("traceparent")), (Some(id), Some(trace)));
    assert_eq!(seen.header("tracestate"), Some("a=b"));

    let made = call("not-a-uuid", "nonsense");
    let seen = target.last();
    assert_eq!(seen.header("x-request-id"), made.header("x-request-id"));
    assert_ne!(made.header("x-request-id"), Some("not-a-uuid"));
    assert_eq!(seen.header("traceparent").map(str::len), Some(55));
    assert_eq!(seen.header("tracestate"), None);
}

#[test]
fn only_trusted_proxies_are_believed() {
    let target = target();
    let headers = [
        ("X-API-Key", &*api_key(1)),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Forwarded-Prefix", "/x"),
        ("Forwarded", "for=203.0.113.7"),
    ];
    let stranger = TestGateway::serving(deployment(&[target.address]));
    assert_eq!(stranger.client().call("GET", "/lab", &headers, b"").status, 200);
    let seen = target.last();
    assert_eq!(seen.headers["x-forwarded-for"], ["127.0.0.1"]);
    assert_eq!(seen.headers["x-forwarded-proto"], ["http"]);
    assert_eq!(seen.headers["x-forwarded-host"], ["api.example.org"]);
    assert_eq!(seen.headers["forwarded"], ["for=127.0.0.1;host=\"api.example.org\";proto=http"]);
    assert_eq!(seen.header("x-forwarded-prefix"), None);

    let trusting =
        TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
            settings.trusted_proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
        });
    assert_eq!(trusting.client().call("GET", "/lab", &headers, b"").status, 200);
    let seen = target.last();
    assert_eq!(seen.headers["x-forwarded-for"], ["203.0.113.7", "127.0.0.1"]);
    assert_eq!(seen.headers["x-forwarded-proto"], ["https"]);
    assert_eq!(seen.headers["x-forwarded-host"], ["shop.example"]);
    assert_eq!(seen.headers["forwarded"].len(), 2);
}

#[test]
fn answers_without_a_body_keep_the_connection_in_step() {
    let target = target();
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let mut client = gateway.client();
    let key = api_key(1);
    for _ in 0..3 {
        let head = client.call("HEAD", "/lab", &[("X-API-Key", &key)], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
        let empty = client.get("/lab/empty", 1);
        assert_eq!((empty.status, empty.header("content-length")), (204, None));
        assert_eq!(client.get("/lab", 1).text(), "hello");
        assert_eq!(client.call("HEAD", "/nowhere", &[], b"").status, 404);
    }
}

#[test]
fn switching_protocols_is_refused() {
    let target = target();
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let headers =
        [("X-API-Key", &*api_key(1)), ("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let answer = gateway.client().call("GET", "/lab", &headers, b"");
    answer.assert_problem(400, "upgrade_not_supported");
    assert!(target.seen().is_empty());
}

#[test]
fn the_prefix_is_taken_off_when_the_route_says_so() {
    let target = target();
    let mut entry = deployment(&[target.address]);
    entry.route = model::Route::new(Some("api.example.org"), "/lab/v1", true).unwrap();
    let gateway = TestGateway::serving(entry);
    for (path, forwarded) in [
        ("/lab/v1", "/"),
        ("/lab/v1/", "/"),
        ("/lab/v1?a=b", "/?a=b"),
        ("/lab/v1/x/y?a=/lab/v1", "/x/y?a=/lab/v1"),
    ] {
        assert_eq!(gateway.get(path).status, 200);
        assert_eq!(target.last().uri, forwarded);
    }
    gateway.get("/lab/v10").assert_problem(404, "route_not_found");
}
