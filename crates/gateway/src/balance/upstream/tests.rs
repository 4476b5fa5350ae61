use model::{DeploymentId, Resilience, Seconds, TargetId, UpstreamUrl};
use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::metrics::Metrics;

const SECOND: u64 = 1_000_000_000;

fn pool(weights: &[u16], adjust: impl FnOnce(&mut model::Upstream)) -> Upstream {
    let numbers: Vec<_> = (1..).zip(weights).map(|(number, weight)| (number, *weight)).collect();
    pool_of(&numbers, adjust)
}

/// A pool of targets with these numbers and weights.
fn pool_of(targets: &[(u128, u16)], adjust: impl FnOnce(&mut model::Upstream)) -> Upstream {
    let target = |(number, weight): &(u128, u16)| model::Target {
        id: TargetId::from_bits(*number),
        url: UpstreamUrl::parse(&format!("http://10.0.0.{number}")).unwrap(),
        weight: *weight,
    };
    let mut upstream = model::Upstream {
        targets: targets.iter().map(target).collect(),
        balance: Balance::RoundRobin,
        hash_on: None,
        protocol: model::Protocol::Auto,
        tls: model::UpstreamTls::default(),
        health_check: None,
        timeout_ms: 1_000,
        retries: 1,
        resilience: Resilience::default(),
    };
    adjust(&mut upstream);
    let metrics = Metrics::new(1, 100).upstream_for_tests(DeploymentId::from_bits(1));
    Upstream::compile(&upstream, None, &metrics, &mut Endpoints::default()).unwrap()
}

fn balanced(weights: &[u16], balance: Balance) -> Upstream {
    pool(weights, |upstream| upstream.balance = balance)
}

/// Begins a call; where it went, and its place.
fn begin(upstream: &Upstream, key: Option<u64>, now: u64) -> (usize, Place) {
    let mut place = upstream.enter(now).unwrap();
    upstream.choose(Tried::default(), key, &mut place, now).unwrap();
    (usize::from(place.target.unwrap()), place)
}

/// How many of `calls` calls, one after the other, go to each target.
fn counts(upstream: &Upstream, calls: u64, now: u64) -> Vec<u64> {
    let mut counts = vec![0; upstream.targets.len()];
    for _ in 0..calls {
        let (at, place) = begin(upstream, None, now);
        counts[at] += 1;
        upstream.leave(&place, now);
    }
    counts
}

fn fail(upstream: &Upstream, at: usize, times: usize, now: u64) {
    (0..times).for_each(|_| upstream.failed(&upstream.targets[at], now));
}

#[test]
fn every_way_of_balancing_follows_the_weights() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequests] {
        let counts = counts(&balanced(&[3, 1, 0], balance), 40_000, 0);
        assert!(counts[0].abs_diff(30_000) < 600, "{balance:?} {counts:?}");
        assert_eq!(counts[2], 0, "{balance:?}");
    }
}

#[test]
fn the_share_of_a_target_that_is_away_is_spread_evenly() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequests] {
        let upstream = balanced(&[1, 1, 1, 1], balance);
        fail(&upstream, 1, 5, 0);
        let counts = counts(&upstream, 30_000, 1);
        assert_eq!(counts[1], 0, "{balance:?}");
        let even = [0, 2, 3].iter().all(|at| counts[*at].abs_diff(10_000) < 600);
        assert!(even, "{balance:?} {counts:?}");
    }
}

#[test]
fn least_requests_spares_the_busy() {
    let upstream = balanced(&[1, 1, 1], Balance::LeastRequests);
    // Calls to the first target never end.
    let mut stuck = Vec::new();
    let mut counts = [0; 3];
    for _ in 0..3_000 {
        let (at, place) = begin(&upstream, None, 0);
        counts[at] += 1;
        if at == 0 { stuck.push(place) } else { upstream.leave(&place, 0) }
    }
    assert!(counts[0] < 30, "{counts:?}");
    assert_eq!(upstream.targets[0].in_flight() as usize, stuck.len());
}

#[test]
fn calls_that_belong_together_go_to_the_same_target() {
    let upstream = balanced(&[1, 1, 1], Balance::ConsistentHash);
    for key in 0..100 {
        let key = mix(key);
        let first = begin(&upstream, Some(key), 0);
        upstream.leave(&first.1, 0);
        for now in 0..5 {
            let again = begin(&upstream, Some(key), now);
            assert_eq!(again.0, first.0);
            upstream.leave(&again.1, now);
        }
    }
}

#[test]
fn hashing_follows_the_weights() {
    let upstream = balanced(&[3, 1], Balance::ConsistentHash);
    let heavy = (0..10_000)
        .filter(|key| {
            let (at, place) = begin(&upstream, Some(mix(*key)), 0);
            upstream.leave(&place, 0);
            at == 0
        })
        .count();
    assert!(heavy.abs_diff(7_500) < 250, "{heavy}");
}

#[test]
fn only_the_keys_of_a_target_that_leaves_move() {
    let where_to = |upstream: &Upstream, key: u64| {
        let (at, place) = begin(upstream, Some(key), 0);
        upstream.leave(&place, 0);
        upstream.targets[at].id
    };
    let targets = prop::collection::btree_map(1_u128..200, 1_u16..10, 2..20);
    let scene = (targets, any::<prop::sample::Index>(), prop::collection::vec(any::<u64>(), 50));
    TestRunner::default()
        .run(&scene, |(targets, leaving, keys)| {
            let all: Vec<_> = targets.into_iter().collect();
            let gone = leaving.index(all.len());
            let mut rest = all.clone();
            let (gone, _) = rest.remove(gone);
            let hashing = |targets: &[_]| {
                pool_of(targets, |upstream| upstream.balance = Balance::ConsistentHash)
            };
            let (before, after) = (hashing(&all), hashing(&rest));
            for key in keys {
                let (was, is) = (where_to(&before, key), where_to(&after, key));
                prop_assert!(was == is || was == TargetId::from_bits(gone));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn hashing_never_loads_a_target_far_above_its_share() {
    let scene = (prop::collection::vec(1_u16..5, 2..8), 1_usize..300, any::<u64>());
    TestRunner::default()
        .run(&scene, |(weights, calls, key)| {
            let upstream = balanced(&weights, Balance::ConsistentHash);
            // All of them have the same key, and none ends.
            let places: Vec<_> = (0..calls).map(|_| begin(&upstream, Some(key), 0).1).collect();
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (target, weight) in upstream.targets.iter().zip(&weights) {
                let share = places.len() as u64 * u64::from(*weight) * BOUND_PERCENT;
                prop_assert!(u64::from(target.in_flight()) <= share.div_ceil(total * 100));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn targets_are_ejected_for_longer_each_time() {
    let upstream = pool(&[1, 1, 1, 1], |upstream| {
        upstream.resilience.slow_start_seconds = Seconds::whole(0);
    });
    let target = &upstream.targets[0];
    fail(&upstream, 0, 4, 0);
    assert!(target.is_well(0));
    fail(&upstream, 0, 1, 0);
    assert!(!target.is_well(5 * SECOND - 1) && target.is_well(5 * SECOND));
    fail(&upstream, 0, 1, 5 * SECOND);
    assert!(!target.is_well(15 * SECOND - 1) && target.is_well(15 * SECOND));
    target.succeeded();
    fail(&upstream, 0, 4, 15 * SECOND);
    assert!(target.is_well(15 * SECOND));
    assert_eq!(upstream.metrics.ejections.get(), 2);
}

#[test]
fn no_more_than_the_share_is_ejected_and_always_one_can_be() {
    for (count, ejected) in [(1, 1), (2, 1), (3, 1), (4, 2), (10, 5)] {
        let upstream = pool(&vec![1; count], |_upstream| {});
        (0..count).for_each(|at| fail(&upstream, at, 5, 0));
        let spared = upstream.targets.iter().filter(|target| target.is_ejected(0)).count();
        assert_eq!(spared, ejected, "{count}");
    }
}

#[test]
fn a_single_target_takes_calls_even_when_ejected() {
    let upstream = pool(&[1], |_upstream| {});
    fail(&upstream, 0, 10, 0);
    assert_eq!(counts(&upstream, 10, 1), [10]);
}

#[test]
fn a_target_that_returns_is_brought_up_slowly() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequests] {
        let upstream = balanced(&[1, 1], balance);
        fail(&upstream, 0, 5, 0);
        // Ejected for 5 seconds, then brought up within 10.
        let share = |now: u64| {
            // The choice depends on the time, which passes between calls.
            (0..100).map(|step| counts(&upstream, 100, now + step)[0]).sum::<u64>() / 100
        };
        assert_eq!(share(4 * SECOND), 0);
        let (first, later, last) = (share(6 * SECOND), share(10 * SECOND), share(15 * SECOND));
        assert!(first > 0 && first < later && later < last, "{balance:?} {first} {later} {last}");
        assert!(last.abs_diff(50) <= 2, "{balance:?} {last}");
    }
}

#[test]
fn when_too_few_are_well_calls_go_to_all() {
    let upstream = pool(&[1, 1, 1, 1], |upstream| upstream.resilience.panic_percent = 60);
    upstream.targets[0].checked(false, 0, 0);
    assert_eq!(counts(&upstream, 300, 1)[0], 0);
    upstream.targets[1].checked(false, 0, 0);
    assert_eq!(counts(&upstream, 400, 1), [100; 4]);
}

#[test]
fn without_panic_no_call_goes_where_checks_found_nobody() {
    let upstream = pool(&[1, 1], |_upstream| {});
    upstream.targets.iter().for_each(|target| target.checked(false, 0, 0));
    let mut place = upstream.enter(0).unwrap();
    let chosen = upstream.choose(Tried::default(), None, &mut place, 0);
    assert!(chosen.is_err());
}

#[test]
fn another_try_goes_to_another_target() {
    for balance in
        [Balance::RoundRobin, Balance::Random, Balance::LeastRequests, Balance::ConsistentHash]
    {
        let upstream = balanced(&[1, 1, 1], balance);
        for key in 0..50 {
            let (first, mut place) = begin(&upstream, Some(key), key);
            let mut tried = Tried::default().and(&place);
            upstream.choose(tried, Some(key), &mut place, key).unwrap();
            let second = usize::from(place.target.unwrap());
            tried = tried.and(&place);
            upstream.choose(tried, Some(key), &mut place, key).unwrap();
            let third = usize::from(place.target.unwrap());
            assert!(first != second && second != third && first != third, "{balance:?}");
            upstream.leave(&place, key);
        }
        assert!(upstream.targets.iter().all(|target| target.in_flight() == 0));
    }
}

#[test]
fn retries_stay_within_their_budget() {
    let upstream = pool(&[1], |upstream| {
        upstream.resilience.retry_budget.min_per_second = 1;
    });
    // A quiet pool can still retry: one a second.
    assert_eq!((0..100).filter(|_| upstream.take_retry(0)).count(), 10);
    let now = 100 * SECOND;
    counts_ended(&upstream, 1_000, now);
    assert_eq!((0..1_000).filter(|_| upstream.take_retry(now)).count(), 200);
    assert!(upstream.metrics.budget_exhausted.get() > 0);
    assert_eq!(upstream.metrics.retries.get(), 210);
}

fn counts_ended(upstream: &Upstream, calls: u64, now: u64) {
    for _ in 0..calls {
        let (_, mut place) = begin(upstream, None, now);
        place.outcome = Outcome::Well;
        upstream.leave(&place, now);
    }
}

#[test]
fn calls_beyond_the_bound_are_refused_at_once() {
    let upstream = pool(&[1], |upstream| upstream.resilience.max_concurrent = Some(2));
    let one = begin(&upstream, None, 0).1;
    let _two = begin(&upstream, None, 0).1;
    assert_eq!(upstream.enter(0).err(), Some(Refusal::Full));
    upstream.leave(&one, 0);
    assert!(upstream.enter(0).is_ok());
}

#[test]
fn a_pool_that_is_compiled_anew_remembers() {
    let upstream = pool(&[1, 1], |_upstream| {});
    for _ in 0..20 {
        let (_, mut place) = begin(&upstream, None, 0);
        place.outcome = Outcome::Failed;
        upstream.leave(&place, 0);
    }
    assert!(matches!(upstream.enter(1), Err(Refusal::Open { .. })));
    let mut endpoints = Endpoints::default();
    upstream.targets.iter().for_each(|target| endpoints.keep(&target.endpoint));
    let settings = model::Upstream {
        targets: (1_u128..=2)
            .map(|number| model::Target {
                id: TargetId::from_bits(number),
                url: UpstreamUrl::parse(&format!("http://10.0.0.{number}")).unwrap(),
                weight: 1,
            })
            .collect(),
        balance: Balance::Random,
        hash_on: None,
        protocol: model::Protocol::Http1,
        tls: model::UpstreamTls::default(),
        health_check: None,
        timeout_ms: 1_000,
        retries: 0,
        resilience: Resilience::default(),
    };
    let again =
        Upstream::compile(&settings, Some(&upstream), &upstream.metrics, &mut endpoints).unwrap();
    assert!(Arc::ptr_eq(&again.targets[0], &upstream.targets[0]));
    assert!(matches!(again.enter(1), Err(Refusal::Open { .. })));
}
