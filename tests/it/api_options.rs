//! Every option that a request may name does what it says, or is refused by name.

use crate::agent::{on_remote, until};
use crate::api::{Api, in_conflict};
use crate::api_fabrics::{others, synced};
use crate::world::vpc;
use serde_json::{Value, json};
use std::path::Path;

/// An agent that takes no drop by itself for as long as a test lasts.
fn sleepy() -> Api {
    Api::with("intake:\n  quiet: 1h\n  rescan: 1h\n", &["fabric-1"])
}

/// A drop that is still open for writing in the eyes of the kernel: nobody has closed it here.
fn lay(api: &Api, name: &str, text: String) {
    // A hard link from elsewhere is told as an arrival that nobody closes, so it waits to settle.
    let (elsewhere, raw) = (api.world.dir.path().join("aside"), api.world.raw(name));
    std::fs::create_dir_all(raw.parent().unwrap()).unwrap();
    std::fs::write(&elsewhere, text).unwrap();
    std::fs::hard_link(&elsewhere, &raw).unwrap();
    std::fs::remove_file(&elsewhere).unwrap();
}

fn names(page: &Value, field: &str) -> Vec<String> {
    let all = page.as_array().unwrap().iter();
    all.map(|it| it[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_the_drops_that_are_meant_are_taken() {
    let api = Api::with("intake:\n  quiet: 400ms\n", &["fabric-1"]);
    lay(&api, "team/a.yaml", vpc("vpc-1"));
    lay(&api, "team/draft.yaml", vpc("vpc-2"));
    lay(&api, "b.yaml", vpc("vpc-3"));
    let ingest = |body: Value| api.post("/api/v1/fabrics/fabric-1/gitops-directories/ingest", body);
    let meant = json!({"file_patterns": ["team/", "!draft.yaml"], "dry_run": true});
    let would = ingest(meant);
    assert_eq!(would.status, 200, "{would:?}");
    assert_eq!(names(&would.body["results"]["processed_files"], "source_file"), ["team/a.yaml"]);
    let nothing = ingest(json!({"file_patterns": ["none/"], "dry_run": true}));
    assert_eq!(nothing.body["summary"]["files"], 0);
    for (wrong, status) in
        [(json!([""]), 422), (json!(["x".repeat(2000)]), 422), (json!(vec!["a"; 101]), 400)]
    {
        ingest(json!({"file_patterns": wrong})).refused(status, "VALIDATION_FAILED");
    }
    // What was left out is taken by itself.
    until("all are there", || api.get("/api/v1/resources")["count"] == 3);
}

#[test]
fn an_ingest_is_committed_with_the_words_of_who_asked() {
    // The request waits until the drop has settled, and takes it before the agent does by itself.
    let api = Api::with("intake:\n  quiet: 1s\n", &["fabric-1"]);
    lay(&api, "a.yaml", vpc("vpc-1"));
    let at = "/api/v1/fabrics/fabric-1/gitops-directories/ingest";
    let done = api.post(at, json!({"commit_message": "The VPC of Ada\nIntake-Actor: nobody"}));
    assert_eq!((done.status, &done.body["summary"]["processed"]), (200, &json!(1)), "{done:?}");
    let words = api.world.git(&["log", "-1", "--format=%s|%(trailers:key=Intake-Actor,valueonly)"]);
    assert!(words.starts_with("fabric-1: The VPC of Ada"), "{words}");
    assert!(words.contains("|boss"), "another line became a trailer: {words}");
    // The next speaks for itself again.
    lay(&api, "b.yaml", vpc("vpc-2"));
    assert_eq!(api.post(at, json!({})).status, 200);
    let words = api.world.git(&["log", "-1", "--format=%s"]);
    assert!(words.contains("vpc-2"), "{words}");
}

#[test]
fn a_sync_takes_what_its_filters_name_and_a_dry_run_nothing() {
    let api = sleepy();
    let sync = |body: Value| api.post("/api/v1/fabrics/fabric-1/sync", body);
    let at = "/api/v1/fabrics/fabric-1/gitops-directories/ingest";
    others(&api, |clone: &Path| {
        let dir = clone.join("fabric-1/managed/vpcs");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("vpc-9.yaml"), vpc("vpc-9")).unwrap();
    });
    assert_eq!(api.get("/api/v1/resources?name=vpc-9")["count"], 1);
    let before = api.world.commits();
    let would = sync(json!({"options": {"dry_run": true}, "direction": "git_to_record"}));
    assert_eq!((would.status, &would.body["ingested"]), (200, &Value::Null), "{would:?}");
    assert_eq!((&would.body["incoming"], &would.body["dry_run"]), (&json!([]), &json!(true)));
    assert_eq!(api.world.commits(), before);
    for unfit in [
        json!({"options": {"create_pr": true}}),
        json!({"notifications": {"webhook_url": "http://127.0.0.1/"}}),
    ] {
        sync(unfit).refused(422, "VALIDATION_FAILED");
    }
    for wrong in [
        json!([null]),
        json!({"resource_filters": {"kinds": vec!["VPC"; 101]}}),
        json!({"resource_filters": {"colours": ["red"]}}),
    ] {
        sync(wrong).refused(400, "VALIDATION_FAILED");
    }
    assert_eq!(api.post(at, json!({"dry_run": true})).body["summary"]["files"], 0);
}

#[test]
fn filters_say_which_drops_and_which_conflicts_a_sync_is_about() {
    let api = Api::with("intake:\n  quiet: 400ms\n", &["fabric-1"]);
    let (one, two) = (in_conflict(&api, "vpc-1"), in_conflict(&api, "vpc-2"));
    lay(&api, "a.yaml", vpc("vpc-5"));
    lay(&api, "b.yaml", vpc("other"));
    let filters = json!({"kinds": ["vpc"], "names": ["vpc-*"], "namespaces": ["default"]});
    let body = json!({"resource_filters": filters, "options": {"dry_run": true}});
    let would = api.post("/api/v1/fabrics/fabric-1/sync", body);
    let drops = &would.body["ingested"]["results"]["processed_files"];
    assert!(names(drops, "source_file").contains(&"a.yaml".to_owned()), "{would:?}");
    assert!(!names(drops, "source_file").contains(&"b.yaml".to_owned()), "{would:?}");
    let body = json!({"resource_filters": {"names": ["*-1"]},
        "conflict_resolution": {"strategy": "git_wins"}});
    let done = synced(&api, body);
    assert_eq!(
        (&done["status"], &done["statistics"]["conflicts_resolved"]),
        (&json!("completed"), &json!(1))
    );
    let open = api.get("/api/v1/fabrics/fabric-1/conflicts");
    assert_eq!(names(&open["results"], "id"), std::slice::from_ref(&two));
    assert!(one != two);
    // One resource is the filter of its own route.
    let at = format!("/api/v1/resources/{two}/sync");
    let body = json!({"conflict_resolution": {"strategy": "record_wins"}});
    let got = api.post(&at, body);
    assert_eq!(got.status, 202, "{got:?}");
    until("it is resolved", || api.get("/api/v1/fabrics/fabric-1/conflicts")["count"] == 0);
    let filters = json!({"resource_filters": {"kinds": ["VPC"]}});
    api.post(&at, filters).refused(422, "VALIDATION_FAILED");
    until("the other drop came by itself", || on_remote(&api.world, "managed/vpcs/other.yaml"));
}

#[test]
fn conflicts_are_told_apart() {
    let api = Api::new();
    in_conflict(&api, "vpc-1");
    let count = |query: &str| {
        api.get(&format!("/api/v1/fabrics/fabric-1/conflicts?{query}"))["count"].clone()
    };
    assert_eq!((count("severity=medium"), count("severity=high")), (json!(1), json!(0)));
    assert_eq!((count("status=detected"), count("resource_kind=vpc")), (json!(1), json!(1)));
    assert_eq!(
        (count("auto_resolvable=true"), count("auto_resolvable=false")),
        (json!(1), json!(0))
    );
    let at = "/api/v1/fabrics/fabric-1/conflicts?status=resolved";
    api.send("GET", at, &api.admin, None).refused(400, "VALIDATION_FAILED");
}

#[test]
fn directories_are_made_by_a_template() {
    let api = Api::new();
    let make = |template: &str| {
        let at = "/api/v1/fabrics/fabric-1/gitops-directories/initialize";
        api.post(at, json!({"structure_template": template}))
    };
    assert_eq!(make("sharded").status, 200);
    let policies = || api.get("/api/v1/fabrics/fabric-1")["policies"].clone();
    assert_eq!(policies()["layout"], "sharded");
    let body = json!({"fabric": "fabric-1", "content": vpc("vpc-1")});
    let path = api.post("/api/v1/resources", body).body["path"].as_str().unwrap().to_owned();
    assert_eq!(path.split('/').count(), 5, "{path}");
    assert_eq!((make("standard").status, policies()["layout"].as_str()), (200, Some("sharded")));
    assert_eq!((make("flat").status, policies()["layout"].as_str()), (200, Some("flat")));
    make("round").refused(400, "VALIDATION_FAILED");
}

#[test]
fn an_edit_begins_with_what_its_own_file_held_and_shows_nothing_of_another_fabric() {
    let api = Api::with("", &["fabric-1", "fabric-2"]);
    let id = api.made("vpc-1");
    let at = format!("/api/v1/resources/{id}");
    let first = api.get(&at)["desired"]["blob_id"].as_str().unwrap().to_owned();
    let secret = vpc("vpc-1").replace("1001", "2222");
    let other = api.post("/api/v1/resources", json!({"fabric": "fabric-2", "content": secret}));
    let theirs = other.body["resource"]["desired"]["blob_id"].as_str().unwrap().to_owned();
    let change = json!({"set": {"spec.subnets.default.vlan": 1002}});
    let token = api.token(&["one", "--scope", "write", "--fabric", "fabric-1"]);
    assert_eq!(api.send("PATCH", &at, &token, Some(&change)).status, 200);
    let late = |base: &str| {
        let text = vpc("vpc-1").replace("1001", "1003");
        let body = json!({"content": text, "base": base});
        api.send("PUT", &at, &token, Some(&body))
    };
    // What is there and what is not is answered alike.
    let known = late(&theirs).refused(409, "REFUSED").body["error"].clone();
    let unknown = late(&"1".repeat(40)).refused(409, "REFUSED").body["error"].clone();
    let plain = |it: &Value, id: &str| it.as_str().unwrap().replace(id, "");
    assert_eq!(plain(&known, &theirs), plain(&unknown, &"1".repeat(40)));
    assert!(!known.to_string().contains("2222"), "{known}");
    let conflict = format!("/api/v1/conflicts/{id}");
    api.send("GET", &conflict, &token, None).refused(404, "CONFLICT_NOT_FOUND");
    // A file of this resource that is older is what the edit may have begun with.
    late(&first).refused(409, "CONFLICT_DETECTED");
}
