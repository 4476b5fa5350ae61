use std::{fs, thread};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Position, prune, read};

fn key() -> Key {
    Key::new([7; 32])
}

fn write(dir: &TempDir, frames: &[&[&[u8]]]) {
    let mut writer = Writer::open(dir.path(), &key()).unwrap();
    for frame in frames {
        frame.iter().for_each(|record| writer.push(record).unwrap());
        writer.commit().unwrap();
    }
}

fn read_all(dir: &TempDir) -> Result<Vec<Vec<u8>>, JournalError> {
    let batch = read(dir.path(), &key(), Position::default(), usize::MAX)?;
    Ok(batch.records().map(<[u8]>::to_vec).collect())
}

#[test]
fn a_torn_end_loses_only_the_torn_frame() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &[&[b"one", b"two"], &[b"three"]]);
    let path = segment::path(dir.path(), 0);
    let whole = fs::read(&path).unwrap();
    let first_end = read(dir.path(), &key(), Position::default(), 1).unwrap().next.offset;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let expected: &[&[u8]] = if (length as u64) < first_end { &[] } else { &[b"one", b"two"] };
        assert_eq!(read_all(&dir).unwrap(), expected, "cut at {length}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    write(&dir, &[&[b"four"]]);
    assert_eq!(read_all(&dir).unwrap(), [b"one".as_slice(), b"two", b"four"]);
}

#[test]
fn a_change_of_any_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &[&[b"one", b"two"], &[b"three"]]);
    let path = segment::path(dir.path(), 0);
    let whole = fs::read(&path).unwrap();
    for place in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut changed = whole.clone();
            changed[place] ^= flip;
            fs::write(&path, &changed).unwrap();
            let error = read_all(&dir).unwrap_err();
            assert!(matches!(error, JournalError::Damaged { segment: 0, .. }), "byte {place}");
        }
    }
    fs::write(&path, &whole).unwrap();
    assert!(read(dir.path(), &Key::new([8; 32]), Position::default(), 1).is_err());
}

#[test]
fn frames_cannot_change_places() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &[&[b"one"], &[b"two"]]);
    let path = segment::path(dir.path(), 0);
    let whole = fs::read(&path).unwrap();
    let (header, frames) = whole.split_at(HEADER);
    let (first, second) = frames.split_at(frames.len() / 2);
    fs::write(&path, [header, second, first].concat()).unwrap();
    assert!(read_all(&dir).is_err());
}

#[test]
fn a_writer_begins_a_new_segment_and_rolls() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &[&[b"before"]]);
    let mut writer = Writer::open_rolling(dir.path(), &key(), 200).unwrap();
    for number in 0..50_u8 {
        writer.push(&[number; 40]).unwrap();
        writer.commit().unwrap();
    }
    writer.sync().unwrap();
    assert!(segment::list(dir.path()).unwrap().len() > 10);
    let records = read_all(&dir).unwrap();
    assert_eq!(records.len(), 51);
    assert!(records.iter().skip(1).enumerate().all(|(at, record)| usize::from(record[0]) == at));
}

#[test]
fn pruning_spares_the_unread_and_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &[&[b"one"]]);
    write(&dir, &[&[b"two"]]);
    write(&dir, &[&[b"three"]]);
    assert_eq!(prune(dir.path(), Position { segment: 1, offset: 90 }).unwrap(), 1);
    assert_eq!(read_all(&dir).unwrap(), [b"two".as_slice(), b"three"]);
    assert_eq!(prune(dir.path(), Position { segment: u64::MAX, offset: 0 }).unwrap(), 1);
    assert_eq!(read_all(&dir).unwrap(), [b"three"]);
    write(&dir, &[&[b"four"]]);
    assert_eq!(read_all(&dir).unwrap(), [b"three".as_slice(), b"four"]);
}

#[test]
fn a_reader_follows_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open_rolling(dir.path(), &key(), 4_000).unwrap();
    let writing = thread::spawn(move || {
        for number in 0..3_000_u32 {
            writer.push(&number.to_le_bytes()).unwrap();
            if number % 3 == 2 {
                writer.commit().unwrap();
            }
        }
    });
    let mut next = Position::default();
    let mut expected = 0_u32;
    while expected < 3_000 {
        let batch = read(dir.path(), &key(), next, 100).unwrap();
        for record in batch.records() {
            assert_eq!(record, expected.to_le_bytes());
            expected += 1;
        }
        assert!(batch.next >= next);
        next = batch.next;
    }
    writing.join().unwrap();
}

#[test]
fn a_failed_commit_is_repeated_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), &key()).unwrap();
    writer.push(b"one").unwrap();
    writer.commit().unwrap();
    // A file that is open for reading only refuses to be written, as a full disk does.
    let path = segment::path(dir.path(), 0);
    let readable = File::open(&path).unwrap();
    let good = std::mem::replace(&mut writer.current.as_mut().unwrap().file, readable);
    writer.push(b"two").unwrap();
    assert!(writer.commit().is_err());
    drop(good);
    writer.push(b"three").unwrap();
    writer.commit().unwrap();
    assert_eq!(read_all(&dir).unwrap(), [b"one".as_slice(), b"two", b"three"]);
}

#[test]
fn a_full_frame_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), &key()).unwrap();
    let record = vec![1; 1 << 20];
    assert_eq!((0..5).filter(|_| writer.push(&record).is_ok()).count(), 3);
    writer.commit().unwrap();
    assert_eq!(read_all(&dir).unwrap().len(), 3);
}

#[test]
fn a_position_has_a_stable_text() {
    let position = Position { segment: 3, offset: 1_234 };
    assert_eq!(position.to_string(), "3:1234");
    assert_eq!("3:1234".parse(), Ok(position));
    assert!("3".parse::<Position>().is_err());
}

proptest! {
    #[test]
    fn what_is_committed_is_read(frames in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..5), 0..10), max in 1_usize..200) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open_rolling(dir.path(), &key(), 300).unwrap();
        for frame in &frames {
            frame.iter().for_each(|record| writer.push(record).unwrap());
            writer.commit().unwrap();
        }
        let mut found = Vec::new();
        let mut next = Position::default();
        loop {
            let batch = read(dir.path(), &key(), next, max).unwrap();
            found.extend(batch.records().map(<[u8]>::to_vec));
            if batch.next == next {
                break;
            }
            next = batch.next;
        }
        prop_assert_eq!(found, frames.concat());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment::path(dir.path(), 0), bytes).unwrap();
        let _ = read_all(&dir);
    }
}
