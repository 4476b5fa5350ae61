//! Targets that are known by a name, and names that change their minds.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use http::Response;
use model::UpstreamUrl;

use crate::{
    standalone::Standalone,
    support::{Client, TestTarget, deployment, snapshot},
};

#[test]
fn calls_follow_a_name_to_its_new_address() {
    let answering = |name: &'static str| move |_: &_| Response::new(name.into());
    let before = TestTarget::answering_at((Ipv4Addr::new(127, 0, 0, 2), 0), answering("before"));
    let port = before.address.port();
    let _after = TestTarget::answering_at((Ipv4Addr::new(127, 0, 0, 3), port), answering("after"));

    let state = tempfile::tempdir().unwrap();
    let hosts = state.path().join("hosts");
    let say = |address: &str| std::fs::write(&hosts, format!("{address} lab.example\n")).unwrap();
    say("127.0.0.2");
    let mut entry = deployment(&[before.address]);
    entry.upstream.targets[0].url =
        UpstreamUrl::parse(&format!("http://lab.example:{port}")).unwrap();
    let gateway = Standalone::start_with_hosts(&hosts, &snapshot(1, vec![entry]), &state);
    let mut client = Client::connect(gateway.address);
    assert_eq!(client.get("/lab", 1).text(), "before");

    say("127.0.0.3");
    // No call fails on the way.
    let mut answers = || {
        std::thread::sleep(Duration::from_millis(20));
        let answer = client.get("/lab", 1);
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    };
    let end = Instant::now() + Duration::from_secs(20);
    while answers() == "before" {
        assert!(Instant::now() < end, "names are asked for every ten seconds");
    }
    let seen = before.seen().len();

    // A name that nobody knows any more leads where it led last.
    std::fs::write(&hosts, "").unwrap();
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        assert_eq!(answers(), "after");
    }
    assert_eq!(before.seen().len(), seen);
}
