//! What operators see of calls, with the real binary: the access log and traces.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking; the collector ends with the test"
)]

use std::{fs, time::Duration};

use serde_json::{Value, json};
use testkit::{Database, Installation, Upstream, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const SOON: Duration = Duration::from_secs(20);

/// Takes one export and answers with `status`; says what was sent.
async fn take_export(stream: &mut TcpStream, status: &str) -> Option<(String, Value)> {
    let mut text = Vec::new();
    let head = loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(text.drain(..end + 4).collect()).unwrap().to_lowercase();
        }
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let (_, rest) = head.split_once("content-length: ").unwrap();
    let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
    while text.len() < length {
        stream.read_buf(&mut text).await.unwrap();
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    Some((head, serde_json::from_slice(&text).unwrap()))
}

/// A collector that is overloaded at first.
async fn collector() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (exports, taken) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut is_overloaded = true;
        while let Ok((mut stream, _)) = listener.accept().await {
            let status = if is_overloaded { "503 Busy" } else { "200 OK" };
            while let Some(export) = take_export(&mut stream, status).await {
                if std::mem::replace(&mut is_overloaded, false) {
                    break;
                }
                drop(exports.send(export));
            }
        }
    });
    (endpoint, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_calls_in_the_access_log_and_as_traces() {
    let folder = tempfile::tempdir().unwrap();
    let (log, token) = (folder.path().join("access.log"), folder.path().join("token"));
    fs::write(&token, "Bearer collector-token\n").unwrap();
    let (endpoint, mut exports) = collector().await;
    let changes = json!({
        "log": { "access": log },
        "tracing": {
            "endpoint": endpoint,
            "sampleRatio": 1.0,
            "headers": { "authorization": format!("${{file:{}}}", token.display()) },
        },
    });
    let binary = env!("CARGO_BIN_EXE_caduceus");
    let installation = Installation::start_with(binary, Database::sqlite(), changes).await;
    let hospital = installation.tenant("hospital").await;
    let upstream = Upstream::healthy("only").await;
    let api = hospital.publish("Scheduling", &json!({})).await;
    let plan = hospital.offer_plan(&api, &json!({})).await;
    hospital.deploy(&api, "/scheduling", &[upstream.url()], &json!({})).await;
    let application = hospital.application("Caller").await;
    hospital.subscribe(&application, &api, &plan).await;
    let key = hospital.key(&application).await.secret;
    installation.settled().await;

    let caller = installation.gateway().with_header("x-api-key", &key);
    caller.get("/scheduling/patients/4711?name=rossi").await.ok();

    let line = eventually("the call is in the access log", SOON, || async {
        let text = fs::read_to_string(&log).ok()?;
        serde_json::from_str::<Value>(text.lines().next()?).ok()
    })
    .await;
    assert_eq!((&line["tenant"], &line["api"]), (&"hospital".into(), &"Scheduling".into()));
    let (head, export) = tokio::time::timeout(SOON, exports.recv()).await.unwrap().unwrap();
    assert!(head.contains("authorization: bearer collector-token"), "{head}");
    let spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    let find = |kind: u64| spans.iter().find(|span| span["kind"] == kind).unwrap();
    let (server, client) = (find(2), find(3));
    assert_eq!(server["traceId"], line["traceId"]);
    assert_eq!(client["parentSpanId"], server["spanId"]);
    let all = format!("{line}{export}");
    assert!(!all.contains("4711") && !all.contains("rossi") && !all.contains(&key), "{all}");
    let metrics = "caduceus_gateway_spans_exported_total 2";
    eventually("the export is counted", SOON, || async {
        let text = installation.operations().get("/metrics").await.text();
        text.contains(metrics).then_some(())
    })
    .await;
}
