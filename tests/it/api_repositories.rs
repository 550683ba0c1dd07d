//! Repositories over the API: added where the operator lets them, changed, and let go.

use crate::agent::{output, text, until};
use crate::api::Api;
use crate::world::{World, git, vpc};
use serde_json::{Value, json};

/// The answer, where it is a yes.
fn seen(api: &Api, path: &str) -> Option<Value> {
    let url = format!("{}{path}", api.base);
    let answer = api.client.get(url).bearer_auth(&api.admin).send().ok()?;
    answer.status().is_success().then(|| answer.json().ok())?
}

#[test]
fn a_repository_is_added_where_the_operator_lets_it_and_let_go_again() {
    let top = World::in_memory();
    let below = top.dir.path().join("srv");
    std::fs::create_dir(&below).unwrap();
    git(&below, &["init", "-q", "-b", "main", "second"]);
    git(&below, &["init", "-q", "--bare", "-b", "main", "second.git"]);
    let second = below.join("second");
    let remote = below.join("second.git").display().to_string();
    git(&second, &["remote", "add", "origin", &remote]);
    let more = format!("  repositories_below: [\"{}\"]\n", below.display());
    let api = Api::of(top, &more, &["fabric-1"]);
    let add = |path: &str| api.post("/api/v1/repositories", json!({"path": path}));
    let outside = api.world.work().display().to_string();
    add(&outside).refused(403, "REPOSITORY_ACCESS_DENIED");
    add(&format!("{}/../work", below.display())).refused(403, "REPOSITORY_ACCESS_DENIED");
    std::os::unix::fs::symlink(api.world.work(), below.join("link")).unwrap();
    add(below.join("link").to_str().unwrap()).refused(403, "REPOSITORY_ACCESS_DENIED");
    std::fs::create_dir_all(second.join("inner")).unwrap();
    add(second.join("inner").to_str().unwrap()).refused(422, "VALIDATION_FAILED");

    let added = add(second.to_str().unwrap());
    assert_eq!(added.status, 202, "{added:?}");
    let at = added.headers["location"].to_str().unwrap().to_owned();
    until("it is served", || seen(&api, &at).is_some());
    add(second.to_str().unwrap()).refused(409, "ALREADY_EXISTS");
    let id = added.body["id"].as_str().unwrap();
    let fabric = json!({"name": "fabric-2", "repository": id});
    api.post("/api/v1/fabrics", json!({"name": "fabric-2"})).refused(422, "VALIDATION_FAILED");
    assert_eq!(api.post("/api/v1/fabrics", fabric).status, 201);
    let draft = json!({"fabric": "fabric-2", "content": vpc("vpc-1")});
    let made = api.post("/api/v1/resources", draft);
    assert_eq!(made.body["delivery"]["state"], "pushed", "{made:?}");

    let change = |body: Value| api.send("PATCH", &at, &api.admin, Some(&body));
    change(json!({"remote": "nowhere"})).refused(409, "REFUSED");
    assert_eq!(change(json!({"push": false})).status, 202);
    until("nothing is sent any more", || {
        seen(&api, &at).is_some_and(|it| it["remote"] == Value::Null)
    });
    let draft = json!({"fabric": "fabric-2", "content": vpc("vpc-2")});
    // The settings may be shown before the lane that follows them takes questions.
    let mut made = api.post("/api/v1/resources", draft.clone());
    until("its lane takes questions", || {
        let busy = made.status == 503;
        if busy {
            made = api.post("/api/v1/resources", draft.clone());
        }
        !busy
    });
    assert_eq!(made.body["delivery"]["state"], "local", "{made:?}");

    assert_eq!(api.send("DELETE", &at, &api.admin, None).status, 202);
    until("it is let go", || seen(&api, "/api/v1/repositories").is_some_and(|it| it["count"] == 1));
    assert!(second.join("fabric-2/managed/vpcs/vpc-2.yaml").exists());
    let first = api.get("/api/v1/repositories")["results"][0]["id"].as_str().unwrap().to_owned();
    let got = api.send("DELETE", &format!("/api/v1/repositories/{first}"), &api.admin, None);
    got.refused(409, "REFUSED");
    let listed = text(&output(&api.world, &["status"]));
    assert!(listed.contains("fabric-1"), "{listed}");
}
