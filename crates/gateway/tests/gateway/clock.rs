//! The machine's clock is set forwards and backwards: keys and quotas follow it, limits do not, and no call fails for it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use gateway::Gateway;
use jiff::Timestamp;
use model::{Clock, LimitScope, Quota, QuotaPeriod};

use crate::support::{Client, TestTarget, deployment, keys, rate, read_usage, settings, snapshot};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Noon in the middle of a month.
const NOON: i64 = 1_778_846_400;

/// A clock that shows what it is set to, in seconds since 1970.
fn settable() -> (Clock, Arc<AtomicI64>) {
    let shown = Arc::new(AtomicI64::new(NOON));
    let clock = {
        let shown = Arc::clone(&shown);
        Clock::from_source(move || Timestamp::from_second(shown.load(Ordering::SeqCst)).unwrap())
    };
    (clock, shown)
}

#[test]
fn a_clock_that_is_set_costs_no_call() {
    let target = TestTarget::named("reached");
    let (clock, shown) = settable();
    let mut entry = deployment(&[target.address]);
    entry.limits = vec![rate("few", LimitScope::Application, 6, 600)];
    let mut told = snapshot(1, vec![entry]);
    told.compiled_at = clock.now();
    told.credentials[1].expires_at = Some(Timestamp::from_second(NOON + HOUR).unwrap());
    told.agreements[2].quota = Some(Quota { requests: 2, period: QuotaPeriod::Day });
    let state = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(&state), &keys(), clock).unwrap();
    gateway.take(&told.update()).unwrap();
    let mut client = Client::connect(gateway.local_addr());
    let mut get = |consumer: u8| client.get("/lab", consumer);

    assert_eq!([get(1).status, get(2).status, get(3).status], [200; 3]);
    assert_eq!(get(3).status, 200);
    get(3).assert_problem(429, "quota_exceeded");
    // Forwards: a key ends, a quota begins anew, and a rate does not notice.
    shown.store(NOON + DAY, Ordering::SeqCst);
    assert_eq!(get(1).status, 200);
    get(2).assert_problem(401, "invalid_credential");
    assert_eq!(get(3).status, 200);
    // Backwards: the key is good again, and neither quota nor rate is given twice.
    shown.store(NOON - DAY, Ordering::SeqCst);
    assert_eq!([get(1).status, get(2).status, get(3).status], [200; 3]);
    get(3).assert_problem(429, "quota_exceeded");
    shown.store(NOON + 2 * HOUR, Ordering::SeqCst);
    get(3).assert_problem(429, "quota_exceeded");
    for _ in 0..3 {
        assert_eq!(get(1).status, 200);
    }
    let refused = get(1);
    refused.assert_problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=600).contains(&wait), "{wait}");

    gateway.shut_down(std::time::Duration::from_secs(1));
    let answered = read_usage(state.path());
    assert!(answered.iter().all(|record| record.status < 500));
    let times = [NOON, NOON + DAY, NOON - DAY, NOON + 2 * HOUR].map(|second| second * 1_000_000);
    assert!(times.iter().all(|time| answered.iter().any(|record| record.at_micros == *time)));
}
