use super::*;

fn credential(number: u64, application: u128) -> RosterEntry {
    let mut digest = [0; 32];
    // As spread as a keyed hash.
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    digest[..8].copy_from_slice(&scattered.to_le_bytes());
    RosterEntry::Credential(CredentialEntry {
        id: CredentialId::from_bits(number.into()),
        digest: CredentialDigest(digest),
        application: ApplicationId::from_bits(application),
        tenant: TenantId::from_bits(1),
        expires_at: None,
    })
}

fn agreement(number: u128, application: u128) -> RosterEntry {
    RosterEntry::Agreement(AgreementEntry {
        id: SubscriptionId::from_bits(number),
        application: ApplicationId::from_bits(application),
        version: VersionId::from_bits(1),
        plan: PlanId::from_bits(number % 3),
        expires_at: None,
    })
}

fn page(after: u64, to: u64) -> RosterPage {
    RosterPage { epoch: 1, after, to, ..RosterPage::default() }
}

fn whole(entries: &[RosterEntry]) -> RosterDigest {
    entries.iter().fold(RosterDigest::default(), |digest, entry| digest.with(entry))
}

/// A roster that began with these entries, at number 10.
fn begun(entries: &[RosterEntry]) -> Roster {
    let roster = Roster::new();
    let digest = Some(whole(entries));
    let first = RosterPage { renews: true, present: entries.to_vec(), digest, ..page(0, 10) };
    assert_eq!(roster.apply(&first), Applied::Renewed);
    roster
}

fn knows(roster: &Roster, entry: &RosterEntry) -> bool {
    match entry {
        RosterEntry::Credential(entry) => roster.credential(&entry.digest).is_some(),
        RosterEntry::Agreement(entry) => {
            roster.agreement(entry.application, entry.version).is_some_and(|it| it.id == entry.id)
        }
    }
}

#[test]
fn entries_come_change_and_go_and_the_digest_follows() {
    let mut entries: Vec<_> = (0..5_000).map(|number| credential(number, 1)).collect();
    entries.extend((0..5_000).map(|number| agreement(number, number)));
    let roster = begun(&entries);
    assert!(entries.iter().all(|entry| knows(&roster, entry)));
    let (gone, stay): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| {
        matches!(entry, RosterEntry::Credential(it) if it.id.bits() % 3 == 0)
            || matches!(entry, RosterEntry::Agreement(it) if it.id.bits() % 2 == 0)
    });
    assert_eq!(
        roster.apply(&RosterPage { removed: gone.clone(), ..page(10, 11) }),
        Applied::Followed
    );
    assert!(gone.iter().all(|entry| !knows(&roster, entry)));
    assert!(stay.iter().all(|entry| knows(&roster, entry)));
    assert_eq!(roster.head().digest, whole(&stay));
    let changed = credential(1, 77);
    assert_eq!(
        roster.apply(&RosterPage { present: vec![changed], ..page(11, 12) }),
        Applied::Followed
    );
    let RosterEntry::Credential(entry) = changed else { unreachable!() };
    let found = roster.credential(&entry.digest).unwrap();
    assert_eq!(found.caller.application, ApplicationId::from_bits(77));
    let now: Vec<_> =
        stay.into_iter().filter(|it| *it != credential(1, 1)).chain([changed]).collect();
    assert_eq!(roster.head().digest, whole(&now));
    assert_eq!(roster.head().credentials + roster.head().agreements, now.len());
}

#[test]
fn a_removal_that_comes_late_spares_the_successor() {
    let (old, new) = (agreement(1, 5), agreement(2, 5));
    let roster = begun(&[old]);
    roster.apply(&RosterPage { present: vec![new], ..page(10, 11) });
    roster.apply(&RosterPage { removed: vec![old], ..page(11, 12) });
    assert!(knows(&roster, &new));
    assert_eq!(roster.head().digest, whole(&[new]));
}

#[test]
fn a_page_that_does_not_follow_changes_nothing() {
    let roster = begun(&[credential(1, 1)]);
    let extra = vec![credential(2, 1)];
    let gap = RosterPage { present: extra.clone(), ..page(11, 12) };
    let stale = RosterPage { present: extra.clone(), ..page(1, 9) };
    let other = RosterPage { epoch: 2, present: extra.clone(), ..page(10, 11) };
    let midway = RosterPage { renews: true, present: extra, ..page(5, 11) };
    for page in [gap, stale, other, midway] {
        assert_eq!(roster.apply(&page), Applied::Misplaced);
        assert!(!knows(&roster, &credential(2, 1)));
    }
}

#[test]
fn beginning_anew_keeps_serving_and_forgets_at_the_end_what_was_not_named() {
    let roster = begun(&[credential(1, 1), credential(2, 1), agreement(1, 1)]);
    let first =
        RosterPage { epoch: 2, renews: true, present: vec![credential(2, 1)], ..page(0, 3) };
    assert_eq!(roster.apply(&first), Applied::Renewing);
    assert!(knows(&roster, &credential(1, 1)) && roster.head().epoch == 1);
    let now = [credential(2, 1), credential(3, 1)];
    let last = RosterPage {
        epoch: 2,
        renews: true,
        present: vec![now[1]],
        digest: Some(whole(&now)),
        ..page(3, 4)
    };
    assert_eq!(roster.apply(&last), Applied::Renewed);
    assert!(!knows(&roster, &credential(1, 1)) && !knows(&roster, &agreement(1, 1)));
    assert!(now.iter().all(|entry| knows(&roster, entry)));
    assert_eq!((roster.head().epoch, roster.head().number), (2, 4));
    assert_eq!(roster.head().digest, whole(&now));
}

#[test]
fn it_is_handed_out_while_it_begins_anew() {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    const ROUNDS: u64 = 2_000;
    let entries: Vec<_> = (0..50).map(|number| agreement(number, number)).collect();
    let roster = Arc::new(begun(&entries));
    let (renewing, handing) = (Arc::clone(&roster), Arc::clone(&roster));
    let (done, all_done) = mpsc::channel();
    let handed = done.clone();
    thread::spawn(move || {
        for epoch in 2..ROUNDS {
            let (digest, present) = (Some(whole(&entries)), entries.clone());
            let anew = RosterPage { epoch, renews: true, present, digest, ..page(0, 10) };
            assert_eq!(renewing.apply(&anew), Applied::Renewed);
        }
        done.send(()).unwrap();
    });
    thread::spawn(move || {
        for _ in 2..ROUNDS {
            handing.for_each_shard(|_| Ok::<_, ()>(())).unwrap();
        }
        handed.send(()).unwrap();
    });
    for _ in 0..2 {
        all_done.recv_timeout(Duration::from_secs(60)).expect("neither waits for the other");
    }
}
