//! The memory on a real disk.
#![allow(clippy::disallowed_methods)]

use super::*;
use crate::model::digest::{Sha256, Xxh3};
use crate::model::ids::BlobId;
use crate::model::key::Key;
use crate::model::operation::{Purpose, State, Trigger};
use crate::model::record::Source;
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
        key,
    }
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

fn settled(store: &Store, records: Vec<Record>) {
    store.settle(Settlement { records, ..Settlement::default() }).unwrap();
}

#[test]
fn a_record_is_found_by_id_by_path_and_by_source() {
    let dir = tempfile::tempdir().unwrap();
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert_eq!(freshness, Freshness::New);
    let (a, b) = (record("a", "w.yaml"), record("b", "w.yaml"));
    settled(&store, vec![a.clone(), b.clone()]);
    assert_eq!(store.record(&a.id).unwrap().as_ref(), Some(&a));
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
    assert_eq!(store.operations(10).unwrap(), vec![closed, open]);
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

#[test]
fn a_store_that_lost_its_content_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    settled(&Store::open(dir.path(), Steps::default()).unwrap().0, vec![record("a", "w.yaml")]);
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
    assert!(matches!(freshness, Freshness::Replaced { .. }), "{freshness:?}");
    assert_eq!(store.records_count(&fabric()), 0);
}

#[test]
fn a_damaged_store_is_whole_or_says_that_it_is_not() {
    for seed in 0..12u64 {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Record> = (0..300).map(|n| record(&format!("v{n}"), "w.yaml")).collect();
        let commit = CommitId(gix::ObjectId::null(gix::hash::Kind::Sha1));
        let synced = Some((fabric(), commit));
        let settlement = Settlement { records: all, synced, ..Settlement::default() };
        Store::open(dir.path(), Steps::default()).unwrap().0.settle(settlement).unwrap();
        let path = dir.path().join("db/db");
        let mut bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|it| *it != 0).unwrap_or(1);
        let at = usize::try_from(seed).unwrap() * used / 12;
        if seed % 2 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at..(at + 64).min(used)].fill(0xa5);
        }
        std::fs::write(&path, bytes).unwrap();
        let (store, freshness) = Store::open(dir.path(), Steps::default()).unwrap();
        let counted = store.records(&fabric()).filter(Result::is_ok).count();
        // Whoever opens it makes the records again unless it says which commit they follow.
        let believed = store.synced(&fabric()).unwrap().is_some();
        assert_eq!(believed, counted == 300, "seed {seed}: {freshness:?} with {counted}");
    }
}

#[test]
fn a_newer_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = Store::open(dir.path(), Steps::default()).unwrap();
        store.db.open_tree("meta").unwrap().insert("format", b"2").unwrap();
    }
    let refused = Store::open(dir.path(), Steps::default());
    assert!(matches!(refused, Err(Error::Newer { found: 2, .. })));
    assert!(dir.path().join("db/db").exists());
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
