//! The memory on a real disk.
#![allow(clippy::disallowed_methods)]

use super::journal::OPERATIONS_KEPT_MAX;
use super::*;
use crate::model::digest::{Sha256, Xxh3};
use crate::model::ids::{BlobId, OperationId};
use crate::model::key::Key;
use crate::model::operation::{Purpose, State, Trigger};
use crate::model::record::Source;
use crate::model::report::{Action, Ending, FileReport, Filed};
use std::collections::BTreeMap;

fn fabric() -> FabricName {
    FabricName::parse("fabric-1").unwrap()
}

fn record(name: &str, source: &str) -> Record {
    let key = Key {
        group: "vpc.githedgehog.com".into(),
        kind: "VPC".into(),
        namespace: "default".into(),
        name: name.into(),
    };
    Record {
        id: ResourceId::of(&fabric(), &key),
        fabric: fabric(),
        api_version: "vpc.githedgehog.com/v1beta1".into(),
        path: RepoPath::parse(&format!("f/managed/vpcs/{name}.yaml")).unwrap(),
        blob_id: BlobId(gix::ObjectId::null(gix::hash::Kind::Sha1)),
        sha256: Sha256::of(name.as_bytes()),
        content: Xxh3::of(name.as_bytes()),
        commit_id: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        source: Some(Source { path: RawPath::new(source), document: 1, line: 1, operation: None }),
        modifications: Vec::new(),
        actual: None,
        key,
    }
}

/// The whole journal, the newest first.
fn journal(store: &Store) -> Vec<Operation> {
    store.operations().map(Result::unwrap).collect()
}

/// An operation that took so many drops.
fn long(it: Operation, drops: usize) -> Operation {
    let file = |n| {
        let filed = Filed {
            document: 1,
            line: 1,
            kind: "VPC".to_owned(),
            namespace: "default".to_owned(),
            name: format!("v{n}"),
            target: RepoPath::parse(&format!("f/managed/vpcs/v{n}.yaml")).unwrap(),
            action: Action::Created,
            cut: Vec::new(),
        };
        FileReport {
            path: RawPath::new(format!("v{n}.yaml")),
            ending: Ending::Managed,
            documents: vec![filed],
            problems: Vec::new(),
        }
    };
    Operation { files: (0..drops).map(file).collect(), ..it }
}

fn operation(state: State) -> Operation {
    Operation {
        id: OperationId::new(crate::clock::now()),
        fabric: fabric(),
        purpose: Purpose::Ingestion,
        trigger: Trigger::Watch,
        actor: "test".into(),
        started_at: crate::clock::now(),
        completed_at: None,
        state,
        base: None,
        branch: "refs/heads/main".into(),
        changes: vec![],
        taken: vec![],
        files: vec![],
        stages: vec![],
    }
}

#[test]
fn what_sled_keeps_in_files_of_its_own_is_forced_to_the_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    // Larger than a segment of sled, as the entry of a turn with thousands of files is.
    let large = Operation { actor: "x".repeat(1 << 20), ..operation(State::Planned) };
    store.begin(&large).unwrap();
    let there = std::fs::read_dir(&store.blobs).unwrap();
    let there: HashSet<OsString> = there.map(|it| it.unwrap().file_name()).collect();
    assert!(!there.is_empty(), "sled keeps it elsewhere");
    assert_eq!(store.witness.lock().unwrap().large, there);
}

fn settled(store: &Store, records: Vec<Record>) {
    store.settle(Settlement { records, ..Settlement::default() }).unwrap();
}

#[test]
fn records_are_counted_as_they_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let is = |store: &Store, count: usize| {
        assert_eq!(store.records(&fabric()).count(), count);
        assert_eq!(store.records_count(&fabric()), count as u64);
    };
    is(&store, 0);
    let (a, b) = (record("a", "w.yaml"), record("b", "w.yaml"));
    settled(&store, vec![a.clone(), b.clone()]);
    settled(&store, vec![a.clone()]);
    is(&store, 2);
    let late: Vec<Record> = store.records_from_nth(&fabric(), 1).map(Result::unwrap).collect();
    assert_eq!(late, std::slice::from_ref(&b));
    // What moves to where another was: one place is gone.
    let moved = Record { path: b.path.clone(), ..a.clone() };
    settled(&store, vec![moved]);
    is(&store, 1);
    settled(&store, vec![a.clone(), b.clone()]);
    is(&store, 2);
    store.settle(Settlement { gone: vec![a.id], ..Settlement::default() }).unwrap();
    is(&store, 1);
    drop(store);
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    is(&store, 1);
    store.forget_records(&fabric()).unwrap();
    is(&store, 0);
}

#[test]
fn a_late_piece_of_a_long_list_begins_where_it_should_also_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let named = |n: usize| format!("v{:05}", n * 7_919 % 3_000);
    settled(&store, (0..3_000).map(|n| record(&named(n), "w.yaml")).collect());
    let gone: Vec<_> = (0..500).map(|n| record(&named(n), "w.yaml").id).collect();
    store.settle(Settlement { gone, ..Settlement::default() }).unwrap();
    let is = |store: &Store| {
        let all: Vec<Record> = store.records(&fabric()).map(Result::unwrap).collect();
        assert_eq!((all.len(), store.records_count(&fabric())), (2_500, 2_500));
        for n in [0, 1, 255, 256, 257, 511, 512, 513, 1_999, 2_499, 2_500, 9_999] {
            let some: Vec<Record> =
                store.records_from_nth(&fabric(), n).take(3).map(Result::unwrap).collect();
            assert_eq!(some, all.iter().skip(n).take(3).cloned().collect::<Vec<_>>(), "{n}");
        }
    };
    is(&store);
    drop(store);
    is(&Store::open(dir.path(), Steps::default()).unwrap().0);
}

#[test]
fn a_record_is_found_by_id_by_path_and_by_source() {
    let dir = tempfile::tempdir().unwrap();
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert_eq!(freshness, Freshness::New);
    let (a, b) = (record("a", "w.yaml"), record("b", "w.yaml"));
    settled(&store, vec![a.clone(), b.clone()]);
    assert_eq!(store.record(&a.id).unwrap().as_ref(), Some(&a));
    for [first, second] in [[&a, &b], [&b, &a]] {
        // In the order in which they are asked for, whatever order they are read in.
        let ids = [first.id, record("absent", "w.yaml").id, second.id];
        let found = store.records_of(&ids, |it| it.path).unwrap();
        assert_eq!(found, [Some(first.path.clone()), None, Some(second.path.clone())]);
    }
    assert_eq!(store.record_at(&fabric(), &b.path).unwrap().as_ref(), Some(&b));
    assert_eq!(store.records_from(&fabric(), &RawPath::new("w.yaml")).unwrap().len(), 2);
    assert_eq!(store.records(&fabric()).count(), 2);
    let moved =
        Record { source: None, path: RepoPath::parse("f/managed/x.yaml").unwrap(), ..a.clone() };
    settled(&store, vec![moved]);
    assert_eq!(store.record_at(&fabric(), &a.path).unwrap(), None, "the old place is forgotten");
    assert_eq!(store.records_from(&fabric(), &RawPath::new("w.yaml")).unwrap(), vec![b]);
    store.forget_records(&fabric()).unwrap();
    assert_eq!(store.records_count(&fabric()), 0);
}

#[test]
fn everything_acknowledged_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = operation(State::Planned);
    let closed = operation(State::Done);
    {
        let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
        store.begin(&open).unwrap();
        store.begin(&closed).unwrap();
        settled(&store, (0..5000).map(|n| record(&format!("v{n}"), "w.yaml")).collect());
        assert!(matches!(Store::open(dir.path(), Steps::default()), Err(Error::InUse { .. })));
    }
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert_eq!(freshness, Freshness::Kept);
    assert_eq!(store.open_operations().unwrap(), vec![open.clone()]);
    assert_eq!(journal(&store), vec![closed, open]);
    assert_eq!(store.records_count(&fabric()), 5000);
}

#[test]
fn a_half_written_snapshot_does_not_keep_the_store_shut() {
    let dir = tempfile::tempdir().unwrap();
    settled(&Store::open(dir.path(), Steps::default()).unwrap().0, vec![record("a", "w.yaml")]);
    std::fs::write(dir.path().join("db/snap.0000000000000042.generating"), b"torn").unwrap();
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert_eq!((freshness, store.records_count(&fabric())), (Freshness::Kept, 1));
}

/// More records than a store has that is read to its end whenever it is opened.
fn large(dir: &std::path::Path) -> Store {
    let (store, _) = Store::open(dir, Steps::default()).unwrap();
    settled(&store, (0..1_200).map(|n| record(&format!("v{n:04}"), "all.yaml")).collect());
    store
}

#[test]
fn a_large_store_that_was_closed_in_order_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let seal = dir.path().join("closed");
    let reopened = || Store::open(dir.path(), Steps::default()).unwrap();
    drop(large(dir.path()));
    assert!(seal.exists());
    let (store, freshness) = reopened();
    assert_eq!(freshness, Freshness::Kept);
    assert!(!seal.exists(), "it would vouch for what a killed agent leaves");
    assert_eq!(store.records_count(&fabric()), 1_200);
    assert_eq!(store.records_from_nth(&fabric(), 1_000).count(), 200);

    // One record goes without a word, and whoever did so closes the store as we do.
    store.records.remove(record("v0001", "").id.0.as_bytes()).unwrap();
    drop(store);
    let (store, freshness) = reopened();
    assert_eq!(freshness, Freshness::Kept, "it was read");
    drop(store);

    // Nobody who only touches a file gets past the look at everything.
    let db = File::options().write(true).open(dir.path().join("db/db")).unwrap();
    db.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (store, freshness) = reopened();
    assert!(matches!(freshness, Freshness::Replaced { .. }), "{freshness:?}");

    settled(&store, (0..1_200).map(|n| record(&format!("v{n:04}"), "all.yaml")).collect());
    drop(store);
    // A seal of another day, as a copy of the directory has it.
    let old = std::fs::read(&seal).unwrap();
    drop(reopened());
    std::fs::write(&seal, &old[..old.len() / 2]).unwrap();
    assert_eq!(seal::broken(dir.path(), &dir.path().join("db")).unwrap(), None, "half of it");
    std::fs::write(&seal, old).unwrap();
    assert_eq!(seal::broken(dir.path(), &dir.path().join("db")).unwrap(), None, "an old one");

    // What could not be read once is not vouched for.
    let (store, _) = reopened();
    assert!(decode::<Record>(b"not one").is_err());
    drop(store);
    assert!(!seal.exists());
}

#[test]
fn a_store_that_lost_its_content_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    settled(&Store::open(dir.path(), Steps::default()).unwrap().0, vec![record("a", "w.yaml")]);
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert!(matches!(freshness, Freshness::Replaced { .. }), "{freshness:?}");
    assert_eq!(store.records_count(&fabric()), 0);
}

/// More tries with `STORE_DAMAGES=n`.
#[test]
fn a_damaged_store_is_whole_or_put_aside() {
    let tries = std::env::var("STORE_DAMAGES").ok().and_then(|it| it.parse().ok()).unwrap_or(24);
    let whole = tempfile::tempdir().unwrap();
    let commit = CommitId(gix::ObjectId::null(gix::hash::Kind::Sha1));
    {
        let (store, _) = Store::open(whole.path(), Steps::default()).unwrap();
        for n in 0..40 {
            let records =
                (0..25).map(|m| record(&format!("v{n}-{m}"), &format!("{n}.yaml"))).collect();
            // Every fourth plan is long, and kept in parts.
            let operation = operation(if n % 2 == 0 { State::Done } else { State::Planned });
            let operation = if n % 4 == 0 { long(operation, 300) } else { operation };
            let operation = Some(&operation);
            let synced = Some((fabric(), commit));
            store
                .settle(Settlement { records, operation, synced, ..Settlement::default() })
                .unwrap();
        }
    }
    let sound = std::fs::read(whole.path().join("db/db")).unwrap();
    let used = sound.iter().rposition(|it| *it != 0).unwrap() + 1;
    let mut dice = Dice(7);
    let (mut kept, mut replaced) = (0, 0);
    for n in 0..tries {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), dir.path());
        let mut bytes = sound.clone();
        let at = dice.below(used);
        let length = [1, 64, 4096, 70_000][dice.below(4)];
        let to = (at + length).min(used);
        match n % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at..to].iter_mut().for_each(|it| *it = !*it),
            _ => bytes[at..to].fill(0),
        }
        std::fs::write(dir.path().join("db/db"), bytes).unwrap();
        let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
        let records = store.records(&fabric()).map(Result::unwrap).count();
        let journal = journal(&store).len();
        let open = store.open_operations().unwrap().len();
        let from = (0..40).map(|it| RawPath::new(format!("{it}.yaml")));
        let from: usize = from.map(|it| store.records_from(&fabric(), &it).unwrap().len()).sum();
        let counts = (records, from, journal, open, store.synced(&fabric()).unwrap().is_some());
        match &freshness {
            Freshness::Kept => {
                kept += 1;
                assert_eq!(counts, (1000, 1000, 40, 20, true), "try {n} at {at} of {used}");
            }
            _ => {
                replaced += 1;
                assert_eq!(counts, (0, 0, 0, 0, false), "try {n}: {freshness:?}");
            }
        }
    }
    assert!(replaced > 0, "the damage was real: {kept} kept, {replaced} put aside");
}

/// A small generator, so that a failing try can be made again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_newer_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
        store.db.open_tree("meta").unwrap().insert("format", b"5").unwrap();
    }
    let refused = Store::open(dir.path(), Steps::default());
    assert!(matches!(refused, Err(Error::Newer { found: 5, .. })));
    assert!(dir.path().join("db/db").exists());
}

/// Makes of a store what the format before digests was.
fn as_format_1(dir: &std::path::Path) {
    let (store, _) = Store::open(dir, Steps::default()).unwrap();
    store.meta.insert("format", b"1").unwrap();
    store.meta.remove("digest").unwrap();
}

#[test]
fn a_store_of_an_older_format_is_brought_up_to_this_one_and_kept_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (a, done) = (record("a", "w.yaml"), operation(State::Done));
    {
        let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
        settled(&store, vec![a.clone()]);
        store.begin(&done).unwrap();
    }
    as_format_1(dir.path());
    // Each step is the last one of a process, and then one fails.
    for n in 1..=5 {
        let cut = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), cut.path());
        for once in [false, true] {
            let steps = Steps::default();
            if once {
                steps.fail_once(n)
            } else {
                steps.stop_after(n)
            }
            assert!(Store::open(cut.path(), steps).is_err() || once, "step {n}");
        }
        let (store, _) = Store::open(cut.path(), Steps::default()).unwrap();
        assert_eq!(store.record(&a.id).unwrap().as_ref(), Some(&a), "step {n}");
        assert_eq!(journal(&store), vec![done.clone()]);
        assert_eq!(store.format(), Some(FORMAT));
    }
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    let Freshness::Migrated { from: 1, aside } = freshness else { panic!("{freshness:?}") };
    settled(&store, vec![record("b", "w.yaml")]);
    drop(store);
    assert_eq!(Store::open(dir.path(), Steps::default()).unwrap().1, Freshness::Kept);
    // What lies aside is a whole store of the older format, with its witness.
    let (older, freshness) = Store::open(&aside, Steps::default()).unwrap();
    assert!(matches!(freshness, Freshness::Migrated { from: 1, .. }), "{freshness:?}");
    assert_eq!(older.records(&fabric()).map(Result::unwrap).collect::<Vec<_>>(), vec![a]);
}

/// A store as an agent of format 1 left it: three resources in two drops, a rejected drop, a conflict
/// that waits and three operations, one of them a commit that the remote did not take.
#[test]
fn a_store_that_an_older_agent_left_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stores/format-1.tar.gz");
    let mut unpack = std::process::Command::new("tar");
    unpack.arg("-xzf").arg(fixture).arg("-C").arg(dir.path());
    assert!(unpack.status().unwrap().success());
    let (store, freshness) = Store::open(&dir.path().join("store"), Steps::default()).unwrap();
    assert!(matches!(freshness, Freshness::Migrated { from: 1, .. }), "{freshness:?}");
    let records: Vec<Record> = store.records(&fabric()).map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|it| it.source.is_some()));
    assert_eq!(store.records_from(&fabric(), &RawPath::new("two.yaml")).unwrap().len(), 1);
    assert_eq!(store.rejects(&fabric()).unwrap().len(), 2);
    assert_eq!(store.conflicts().unwrap().len(), 1);
    assert!(journal(&store).len() >= 3);
    // Where an operation stands was part of its plan.
    let [mut sent] = store.open_operations().unwrap().try_into().unwrap();
    let State::Committed { commit_id, .. } = sent.state else { panic!("{sent:?}") };
    sent.state = State::Pushed { commit_id };
    store.settle(Settlement { operation: Some(&sent), ..Settlement::default() }).unwrap();
    assert!(store.open_operations().unwrap().is_empty());
    assert_eq!(store.operation(&sent.id).unwrap(), Some(sent));
    assert!(store.synced(&fabric()).unwrap().is_some());
}

#[test]
fn a_plan_is_written_once_and_where_it_stands_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let mut it = operation(State::Planned);
    store.begin(&it).unwrap();
    let plan = store.operations.get(it.id.0.as_bytes()).unwrap();
    it.state = State::Undone { reason: "why".to_owned() };
    it.completed_at = Some(crate::clock::now());
    store.settle(Settlement { operation: Some(&it), ..Settlement::default() }).unwrap();
    assert_eq!(store.operations.get(it.id.0.as_bytes()).unwrap(), plan);
    assert_eq!(journal(&store), vec![it.clone()]);
    assert_eq!(store.operation(&it.id).unwrap(), Some(it));
    assert!(store.open_operations().unwrap().is_empty());
}

#[test]
fn a_refused_write_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let steps = Steps::default();
    let (store, _) = Store::open(dir.path(), steps.clone()).unwrap();
    steps.fail_once(1);
    assert!(store.begin(&operation(State::Planned)).is_err());
    assert_eq!(store.open_operations().unwrap().len(), 0);
}

#[test]
fn two_records_that_change_places_are_both_found() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let (a, b) = (record("a", "w.yaml"), record("b", "w.yaml"));
    settled(&store, vec![a.clone(), b.clone()]);
    let swapped_a = Record { path: b.path.clone(), ..a.clone() };
    let swapped_b = Record { path: a.path.clone(), ..b.clone() };
    settled(&store, vec![swapped_a.clone(), swapped_b.clone()]);
    assert_eq!(store.record_at(&fabric(), &b.path).unwrap(), Some(swapped_a));
    assert_eq!(store.record_at(&fabric(), &a.path).unwrap(), Some(swapped_b));
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_the_store_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = Store::open(dir.path(), Steps::default()).unwrap();
        // A pipe cannot be synced, and has no room to be asked for.
        store.unguarded.store(true, Ordering::SeqCst);
        let (_reader, writer) = std::io::pipe().unwrap();
        let sound =
            std::mem::replace(&mut store.file, File::from(std::os::fd::OwnedFd::from(writer)));
        assert!(store.begin(&operation(State::Planned)).is_err());
        store.file = sound;
        assert!(store.begin(&operation(State::Planned)).is_err(), "tried again and believed");
    }
    let (_, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert!(matches!(freshness, Freshness::Replaced { .. }), "{freshness:?}");
}

#[test]
fn the_journal_forgets_its_oldest_closed_operations() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let first = operation(State::Planned);
    let many = OPERATIONS_KEPT_MAX + OPERATIONS_KEPT_MAX / 10;
    store.begin(&first).unwrap();
    for _ in 0..many - 1 {
        let operation = Some(operation(State::Done));
        store
            .write(Batch::of(&Settlement {
                operation: operation.as_ref(),
                ..Settlement::default()
            }))
            .unwrap();
    }
    assert_eq!(store.operations().count(), many);
    store.begin(&operation(State::Done)).unwrap();
    let left = journal(&store);
    assert_eq!(left.len(), OPERATIONS_KEPT_MAX + 1);
    assert_eq!(left.last(), Some(&first), "an open one is never forgotten");
    drop(store);
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert_eq!(freshness, Freshness::Kept);
    assert_eq!(store.operations_len.load(Ordering::SeqCst), OPERATIONS_KEPT_MAX + 1);
}

/// A flood's plan has megabytes: whoever looks at its neighbours, or at where it stands, reads none of it.
#[test]
fn a_long_plan_is_kept_in_parts_and_read_only_by_who_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let mut it = long(operation(State::Planned), 2_000);
    store.begin(&it).unwrap();
    let parts = store.plans.len();
    assert!(parts > 10, "{parts}");
    assert!(store.plans.iter().all(|it| it.unwrap().1.len() <= journal::PART_BYTES));
    let entry = store.operations.get(it.id.0.as_bytes()).unwrap().unwrap();
    assert!(entry.len() < 2_000, "{}", entry.len());
    let mut moved = it.headline();
    assert_eq!(store.headline(&it.id).unwrap().as_ref(), Some(&moved));
    assert_eq!((moved.statistics.files_processed, moved.statistics.files_created), (2_000, 2_000));
    assert_eq!(store.open_count(&fabric()).unwrap(), 1);

    // It stands elsewhere, and nothing else of it is written.
    moved.state = State::Undone { reason: "why".to_owned() };
    moved.completed_at = Some(crate::clock::now());
    store.settle(Settlement { moved: Some(&moved), ..Settlement::default() }).unwrap();
    (it.state, it.completed_at) = (moved.state.clone(), moved.completed_at);
    assert_eq!(store.operations.get(it.id.0.as_bytes()).unwrap().unwrap(), entry);
    assert_eq!(store.open_count(&fabric()).unwrap(), 0);
    drop(store);

    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert_eq!(freshness, Freshness::Kept);
    assert_eq!(store.operation(&it.id).unwrap().as_ref(), Some(&it));
    assert_eq!(journal(&store), vec![it.clone()]);
    assert_eq!(store.headlines().map(Result::unwrap).collect::<Vec<_>>(), vec![moved]);

    // A plan that changes leaves nothing of the older one behind, nor does one that is forgotten.
    it.files.truncate(1_000);
    store.settle(Settlement { operation: Some(&it), ..Settlement::default() }).unwrap();
    assert_eq!(store.operation(&it.id).unwrap().as_ref(), Some(&it));
    assert!(store.plans.len() < parts, "{}", store.plans.len());
    let id = sled::IVec::from(it.id.0.as_bytes());
    store.write(Batch { pruned: &[id], ..Batch::default() }).unwrap();
    assert_eq!((journal(&store).len(), store.plans.len()), (0, 0));
    assert!(store.is_whole().unwrap());
}

const CHILD: &str = "GIT_INTAKE_TEST_STORE";

/// Writes for ever, and says after each operation that it is on the disk; killed by the next test.
#[test]
fn a_child_that_writes_until_it_is_killed() {
    use std::io::Write as _;
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (store, freshness) = Store::open(dir.as_ref(), Steps::default()).unwrap();
    assert!(!matches!(freshness, Freshness::Replaced { .. }), "{freshness:?}");
    let from = store.records_count(&fabric());
    for n in from.. {
        let mut operation = operation(State::Planned);
        store.begin(&operation).unwrap();
        operation.state = State::Done;
        let records = vec![record(&format!("v{n}"), "w.yaml")];
        let operation = Some(&operation);
        store.settle(Settlement { records, operation, ..Settlement::default() }).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "acknowledged {}", n + 1).and_then(|()| out.flush()).unwrap();
    }
}

/// More kills with `STORE_KILLS=n`.
#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};
    let kills = std::env::var("STORE_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(8);
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(11);
    for n in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::a_child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let acknowledged = |line: &String| line.strip_prefix("acknowledged ")?.parse::<u64>().ok();
        let stop = 1 + dice.below(12);
        let mut last = lines.by_ref().filter_map(|it| acknowledged(&it)).take(stop).last();
        std::thread::sleep(std::time::Duration::from_micros(dice.below(3000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.filter_map(|it| acknowledged(&it)).last().or(last);
        let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
        assert_eq!(freshness, Freshness::Kept, "kill {n}");
        let (last, count) = (last.unwrap(), store.records_count(&fabric()));
        assert!((last..=last + 1).contains(&count), "kill {n}: {count} records, {last} promised");
        assert!(store.open_operations().unwrap().len() <= n + 1);
    }
}

/// Prints what the store costs here, when asked for with `STORE_MEASURE=1`.
#[test]
fn what_the_store_costs() {
    if std::env::var_os("STORE_MEASURE").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
    let start = crate::clock::instant();
    for n in 0..100 {
        let names = (0..1000).map(|m| format!("vpc-{n}-{m}"));
        settled(&store, names.map(|it| record(&it, "teams/a/wiring.yaml")).collect());
    }
    println!("100,000 records in 100 settlements: {:?}", start.elapsed());
    let mut took: Vec<_> = (0..300)
        .map(|n| {
            let mut operation = operation(State::Planned);
            let start = crate::clock::instant();
            store.begin(&operation).unwrap();
            let begun = start.elapsed();
            operation.state = State::Done;
            let records = vec![record(&format!("one-{n}"), "w.yaml")];
            let operation = Some(&operation);
            store.settle(Settlement { records, operation, ..Settlement::default() }).unwrap();
            (start.elapsed(), begun)
        })
        .collect();
    took.sort();
    println!(
        "begin and settle of one: median {:?} (begin {:?}), p99 {:?}",
        took[150].0, took[150].1, took[297].0
    );
    drop(store);
    let start = crate::clock::instant();
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    println!("opened and checked: {:?} ({freshness:?})", start.elapsed());
    let start = crate::clock::instant();
    let count = store.records_count(&fabric());
    println!("counted {count}: {:?}", start.elapsed());
    let size = std::fs::metadata(dir.path().join("db/db")).unwrap().len();
    println!("on disk: {size} bytes");
}

const FULL: &str = "GIT_INTAKE_TEST_FULL";

/// Runs over a file system of 40 MiB; the next test arranges it.
#[test]
fn a_child_on_a_full_disk() {
    let Some(dir) = std::env::var_os(FULL).map(PathBuf::from) else { return };
    let ballast = dir.join("ballast");
    let (store, _) = Store::open(&dir.join("state"), Steps::default()).unwrap();
    settled(&store, vec![record("a", "w.yaml")]);
    // Less room than the store keeps free: refused before anything is touched, and good again after.
    let free = rustix::fs::statvfs(&dir).unwrap();
    let fill = free.f_bavail * free.f_frsize - ROOM_BYTES_MIN / 2;
    std::fs::write(&ballast, vec![0; usize::try_from(fill).unwrap()]).unwrap();
    let refused = store.begin(&operation(State::Planned)).unwrap_err();
    assert!(matches!(&refused, Error::Write(it) if it.kind() == io::ErrorKind::StorageFull));
    assert!(!store.needs_reopening());
    std::fs::remove_file(&ballast).unwrap();
    store.begin(&operation(State::Planned)).unwrap();
    // sled itself runs into the full disk: it must neither hang nor answer, until it is reopened.
    std::fs::write(&ballast, vec![0; usize::try_from(fill).unwrap()]).unwrap();
    store.unguarded.store(true, Ordering::SeqCst);
    let mut acknowledged = 1;
    while !store.needs_reopening() {
        let records = (0..500).map(|m| record(&format!("v{acknowledged}-{m}"), "w.yaml")).collect();
        if store.settle(Settlement { records, ..Settlement::default() }).is_ok() {
            acknowledged += 500;
        }
    }
    assert!(store.record_at(&fabric(), &record("a", "w.yaml").path).is_err());
    assert!(store.records(&fabric()).next().unwrap().is_err());
    assert!(store.open_operations().is_err());
    std::fs::remove_file(&ballast).unwrap();
    drop(store);
    let (store, freshness) = Store::open(&dir.join("state"), Steps::default()).unwrap();
    assert_eq!((freshness, store.records_count(&fabric())), (Freshness::Kept, acknowledged));
}

#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let run =
        "mount -t tmpfs -o size=40m tmpfs \"$GIT_INTAKE_TEST_FULL\" || exit 77; exec \"$0\" \"$@\"";
    let done = std::process::Command::new("unshare")
        .args(["-Urm", "sh", "-c", run])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::a_child_on_a_full_disk"])
        .env(FULL, place.path())
        .output();
    // Where user namespaces are forbidden no small disk can be made without being root.
    let Ok(done) = done else { return };
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(77) || said.contains("unshare:") {
        return;
    }
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stdout));
}
