//! Fabrics over the API: made, changed, removed and brought back; what waits, what others did, what is
//! undone.

use crate::agent::{on_remote, until};
use crate::api::Api;
use crate::world::{World, git, git_output, vpc};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What somebody else does in a clone of the remote, committed and pushed; then the agent is told.
pub fn others(api: &Api, work: impl FnOnce(&Path)) {
    until("all is sent", || {
        let tip = git_output(&api.world.remote, &["rev-parse", "main"]).stdout;
        String::from_utf8_lossy(&tip) == api.world.git(&["rev-parse", "HEAD"])
    });
    let top = api.world.dir.path();
    let clone = top.join("clone");
    let remote = api.world.remote.display().to_string();
    if clone.exists() {
        git(&clone, &["pull", "-q"]);
    } else {
        git(top, &["clone", "-q", &remote, "clone"]);
    }
    work(&clone);
    git(&clone, &["add", "-A"]);
    git(&clone, &["commit", "-qm", "theirs"]);
    git(&clone, &["push", "-q"]);
    synced(api, json!({"direction": "git_to_record"}));
}

/// A sync, to its end.
pub fn synced(api: &Api, asked: Value) -> Value {
    let got = api.post("/api/v1/fabrics/fabric-1/sync", asked);
    assert_eq!(got.status, 202, "{got:?}");
    let at = got.headers["location"].to_str().unwrap().to_owned();
    until("the sync is over", || api.get(&at)["completed_at"].is_string());
    api.get(&at)
}

fn actor_of_head(api: &Api) -> String {
    api.world.git(&["log", "-1", "--format=%(trailers:key=Intake-Actor,valueonly)"]).trim().into()
}

#[test]
fn a_fabric_is_made_changed_removed_and_brought_back() {
    let api = Api::new();
    let new = json!({"name": "fabric-2", "directory": "sites/two", "on_delete": "delete"});
    let made = api.post("/api/v1/fabrics", new.clone());
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.headers["location"], "/api/v1/fabrics/fabric-2");
    assert_eq!(made.body["delivery"]["state"], "pushed");
    api.post("/api/v1/fabrics", new).refused(409, "ALREADY_EXISTS");
    let within = json!({"name": "fabric-3", "directory": "sites/two/raw"});
    api.post("/api/v1/fabrics", within).refused(409, "REFUSED");
    for (field, wrong) in [("name", "No Name"), ("directory", "../up"), ("repository", "none")] {
        let mut body = json!({"name": "fabric-3"});
        body[field] = json!(wrong);
        let got = api.post("/api/v1/fabrics", body);
        assert!([400, 404, 422].contains(&got.in_shape().status), "{field}: {got:?}");
    }
    for nowhere in ["", "no such tag", "../../HEAD", "refs/"] {
        let body = json!({"name": "fabric-3", "restore": nowhere});
        api.post("/api/v1/fabrics", body).refused(404, "NOT_FOUND");
    }

    let at = "/api/v1/fabrics/fabric-2";
    let seen = api.get(at);
    assert_eq!(seen["directory"], "sites/two");
    assert_eq!(seen["policies"]["on_delete"], "delete");
    assert_eq!((&seen["hold"], &seen["settings_file"]), (&Value::Null, &Value::Null));
    let body = json!({"fabric": "fabric-2", "content": vpc("vpc-1")});
    let resource = api.post("/api/v1/resources", body).body["id"].as_str().unwrap().to_owned();
    // A rule for one resource and the settings of its fabric stand side by side.
    let rule = json!({"sync_direction": "record_to_git"});
    let of_one = format!("/api/v1/resources/{resource}/sync-config");
    assert_eq!(api.send("PATCH", &of_one, &api.admin, Some(&rule)).status, 200);
    let change = json!({"on_invalid": "quarantine", "archive": "none", "mode": "push", "layout": "sharded",
        "on_unsupported": "keep", "conflict_strategy": "git_wins"});
    let changed = api.send("PATCH", at, &api.admin, Some(&change));
    assert_eq!(changed.status, 200, "{changed:?}");
    let policies = json!({"mode": "push", "on_delete": "delete", "on_invalid": "quarantine",
        "on_unsupported": "keep", "archive": "none", "layout": "sharded",
        "conflict_strategy": "git_wins"});
    assert_eq!(changed.body["policies"], policies);
    let kept = std::fs::read_to_string(api.world.work().join(".git/intake/config.yaml")).unwrap();
    assert!(kept.contains("quarantine") && kept.contains("record_to_git"), "{kept}");
    std::fs::write(api.world.work().join("sites/two/raw/x.yaml"), "kind: [").unwrap();
    let errors = api.world.work().join("sites/two/raw/errors");
    until("the new choice holds", || std::fs::read_dir(&errors).is_ok_and(|it| it.count() >= 2));

    let dry = json!({"purge": true, "dry_run": true});
    let would = api.send("DELETE", at, &api.admin, Some(&dry));
    assert_eq!((would.status, &would.body["dry_run"]), (200, &json!(true)), "{would:?}");
    assert_eq!(api.get(at)["resources_count"], 1);
    let purge = json!({"purge": true, "backup": true});
    let gone = api.send("DELETE", at, &api.admin, Some(&purge));
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(actor_of_head(&api), "boss");
    let backup = gone.body["backup"].as_str().unwrap().to_owned();
    api.send("GET", at, &api.admin, None).refused(404, "FABRIC_NOT_FOUND");
    assert!(!api.world.work().join("sites/two/managed").exists());
    let again = json!({"name": "fabric-2", "directory": "sites/two", "restore": backup});
    let back = api.post("/api/v1/fabrics", again);
    assert_eq!(back.status, 201, "{back:?}");
    assert_eq!(api.get(&format!("/api/v1/resources/{resource}"))["name"], "vpc-1");
    assert!(api.world.git(&["fsck", "--strict", "--no-dangling"]).is_empty());
}

#[test]
fn settings_that_stand_in_the_agents_file_are_changed_there_and_the_answer_names_it() {
    let world = World::in_memory();
    let work = world.work().display().to_string();
    let more = format!("repositories:\n  - path: {work}\n    fabrics:\n      - name: fabric-1\n");
    let api = Api::of(world, &more, &["fabric-1"]);
    until("the fabric is there", || api.get("/api/v1/fabrics")["count"] == 1);
    let file = api.get("/api/v1/fabrics/fabric-1")["settings_file"].as_str().unwrap().to_owned();
    assert!(Path::new(&file).ends_with("config.yaml"), "{file}");
    let change = json!({"mode": "observe"});
    let at = "/api/v1/fabrics/fabric-1";
    let answers = [
        api.send("PATCH", at, &api.admin, Some(&change)),
        api.send("DELETE", at, &api.admin, None),
        api.post("/api/v1/fabrics", json!({"name": "fabric-2"})),
    ];
    for got in answers {
        got.refused(409, "REFUSED");
        assert!(got.body["error"].as_str().unwrap().contains(&file), "{got:?}");
    }
    let id = api.made("vpc-1");
    let rule = json!({"sync_direction": "disabled"});
    let got =
        api.send("PATCH", &format!("/api/v1/resources/{id}/sync-config"), &api.admin, Some(&rule));
    got.refused(409, "REFUSED");
}

#[test]
fn a_fabric_that_waits_for_a_person_says_why_and_goes_on_when_told() {
    let api = Api::new();
    let all: Vec<String> = (0..20).map(|n| vpc(&format!("vpc-{n:02}"))).collect();
    api.world.drop("all.yaml", all.join("---\n"));
    until("all are there", || api.get("/api/v1/resources")["count"] == 20);
    let vpcs = |clone: &Path| clone.join("fabric-1/managed/vpcs");
    others(&api, |clone| std::fs::remove_dir_all(vpcs(clone)).unwrap());
    let hold = api.get("/api/v1/fabrics/fabric-1")["hold"].clone();
    assert_eq!((&hold["kind"], &hold["removed"]), (&json!("removed_in_git"), &json!(20)), "{hold}");
    let release = "/api/v1/fabrics/fabric-1/release";
    // So many at once are let go by somebody who may remove fabrics, and brought back by any writer.
    let writer = api.token(&["writer", "--scope", "write"]);
    for it in [json!({}), json!({"restore": false})] {
        api.send("POST", release, &writer, Some(&it)).refused(403, "PERMISSION_DENIED");
    }
    assert_eq!(api.get("/api/v1/fabrics/fabric-1")["hold"], hold);
    let done = api.send("POST", release, &writer, Some(&json!({"restore": true})));
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.body["released"], hold);
    assert_eq!(done.body["delivery"]["state"], "pushed");
    assert_eq!(api.get("/api/v1/fabrics/fabric-1")["hold"], Value::Null);
    assert!(on_remote(&api.world, "managed/vpcs/vpc-19.yaml"));
    let nothing = api.post(release, json!({}));
    assert_eq!((nothing.status, &nothing.body["released"]), (200, &Value::Null));
    // Said to be meant, they are orphans.
    others(&api, |clone| std::fs::remove_dir_all(vpcs(clone)).unwrap());
    assert_eq!(api.post(release, json!({})).status, 200);
    let page = api.get("/api/v1/fabrics/fabric-1/orphans?limit=5&offset=10");
    assert_eq!((&page["count"], page["results"].as_array().unwrap().len()), (&json!(20), 5));
}

#[test]
fn an_operation_is_undone_by_a_commit_unless_later_changes_are_in_the_way() {
    let api = Api::new();
    let id = api.made("vpc-1");
    let at = format!("/api/v1/resources/{id}");
    let set = |vlan: u64| {
        let change = json!({"set": {"spec.subnets.default.vlan": vlan}});
        let got = api.send("PATCH", &at, &api.admin, Some(&change));
        got.body["operation_id"].as_str().unwrap().to_owned()
    };
    let revert = |operation: &str, body: Value| {
        api.post(&format!("/api/v1/sync-operations/{operation}/revert"), body)
    };
    let first = set(1002);
    let would = revert(&first, json!({"dry_run": true}));
    assert_eq!((would.status, &would.body["commit_id"]), (200, &Value::Null), "{would:?}");
    assert!(api.get(&at)["desired"]["content"].as_str().unwrap().contains("1002"));
    let done = revert(&first, json!({}));
    assert_eq!((done.status, &done.body["delivery"]["state"]), (200, &json!("pushed")), "{done:?}");
    assert_eq!(api.get(&at)["desired"]["content"], vpc("vpc-1"));
    assert_eq!(actor_of_head(&api), "boss");
    let (second, _) = (set(1003), set(1004));
    let refused = revert(&second, json!({}));
    refused.refused(409, "CONFLICT_DETECTED");
    let fields = refused.body["details"]["field_errors"].as_object().unwrap();
    assert!(fields.keys().any(|it| it.ends_with("vpc-1.yaml: spec.subnets.default.vlan")));
    assert_eq!(revert(&second, json!({"strategy": "record_wins"})).status, 200);
    assert_eq!(api.get(&at)["desired"]["content"], vpc("vpc-1"));
    let sync = synced(&api, json!({}))["id"].as_str().unwrap().to_owned();
    revert(&sync, json!({})).refused(409, "REFUSED");
}

#[test]
fn what_others_and_a_cluster_did_to_a_resource_is_told_and_forgotten() {
    let api = Api::new();
    let id = api.made("vpc-1");
    let at = |tail: &str| format!("/api/v1/resources/{id}{tail}");
    let state = |field: &str| api.get(&at("/state"))[field].clone();
    until("the remote has it", || state("state") == "synced");
    assert_eq!(state("drift"), Value::Null);
    let file = |clone: &Path| -> PathBuf { clone.join("fabric-1/managed/vpcs/vpc-1.yaml") };
    others(&api, |clone| {
        std::fs::write(file(clone), vpc("vpc-1").replace("1001", "1007")).unwrap()
    });
    let listed = state("external_modifications");
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["subject"]), (1, &json!("theirs")));
    assert_eq!(api.get(&at("/file-mapping"))["external_modifications"], listed);
    let clear = api.send("DELETE", &at("/external-modifications"), &api.admin, None);
    assert_eq!((clear.status, &clear.body["external_modifications"]), (200, &json!([])));
    assert_eq!(state("external_modifications"), json!([]));

    let tell = |content: Value| {
        let body = json!({"content": content});
        api.send("PUT", &at("/actual-state"), &api.admin, Some(&body))
    };
    let as_git_has = api.get(&at(""))["desired"]["content"].clone();
    assert_eq!(tell(as_git_has).body["drift"], "in_sync");
    assert_eq!(tell(json!(vpc("vpc-1"))).body["drift"], "spec_drift");
    assert_eq!(state("state"), "drifted");
    assert_eq!(tell(Value::Null).body["drift"], "desired_only");
    tell(json!(vpc("vpc-2"))).refused(409, "REFUSED");
    let got = tell(json!("kind: ["));
    got.refused(422, "VALIDATION_FAILED");
    assert!(got.body["details"]["validation_errors"][0]["line"].is_u64());
    let nothing = api.send("PUT", &at("/actual-state"), &api.admin, Some(&json!({})));
    nothing.refused(400, "VALIDATION_FAILED");

    others(&api, |clone| std::fs::remove_file(file(clone)).unwrap());
    api.send("GET", &at(""), &api.admin, None).refused(404, "RESOURCE_NOT_FOUND");
    assert_eq!((state("state"), state("drift")), (json!("orphaned"), json!("actual_only")));
    let orphans = api.get("/api/v1/fabrics/fabric-1/orphans");
    assert_eq!(orphans["results"][0]["resource"]["id"], id);
    assert_eq!(orphans["results"][0]["removed"]["subject"], "theirs");
    assert_eq!(api.send("DELETE", &at(""), &api.admin, None).status, 200);
    assert_eq!(api.get("/api/v1/fabrics/fabric-1/orphans")["count"], 0);
    api.send("GET", &at("/state"), &api.admin, None).refused(404, "RESOURCE_NOT_FOUND");
}
