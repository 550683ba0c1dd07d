//! Hooks of forges: believed with a right signature only, taken once, and a push is here soon after.

use crate::agent::{signal, until};
use crate::api::{Api, Got, read};
use crate::world::{git, vpc};
use git_intake::model::digest::Sha256;
use rustix::process::Signal;
use serde_json::{Value, json};

const SECRET: &str = "a secret that only the forge knows";

/// An agent that knows the secret of every forge, and asks its remote by itself hardly ever.
pub fn with_secrets() -> Api {
    // Beside the settings, and read with each delivery.
    let file = "hook.secret";
    let more = format!(
        "webhooks:\n  github: [{file}]\n  gitlab: [{file}]\n  gitea: [{file}]\n  \
         requests_per_second: 1000\n  private: true\n  plaintext: true\nfetch:\n  every: 1h\n"
    );
    let api = Api::with(&more, &["fabric-1"]);
    std::fs::write(api.world.dir.path().join(file), format!("{SECRET}\n")).unwrap();
    api
}

/// What a forge sends with a delivery.
fn headers(forge: &str, event: &str, id: &str, secret: &str, body: &[u8]) -> Vec<(String, String)> {
    let signature = Sha256::hmac(secret.as_bytes(), body).to_string();
    let pairs = match forge {
        "github" => vec![
            ("x-github-event", event.to_owned()),
            ("x-github-delivery", id.to_owned()),
            ("x-hub-signature-256", format!("sha256={signature}")),
        ],
        "gitlab" => vec![
            ("x-gitlab-event", if event == "push" { "Push Hook" } else { event }.to_owned()),
            ("x-gitlab-event-uuid", id.to_owned()),
            ("x-gitlab-token", secret.to_owned()),
        ],
        _ => vec![
            ("x-gitea-event", event.to_owned()),
            ("x-gitea-delivery", id.to_owned()),
            ("x-gitea-signature", signature),
        ],
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn deliver(api: &Api, path: &str, body: &[u8], headers: &[(String, String)]) -> Got {
    let mut request = api.client.post(format!("{}{path}", api.base)).body(body.to_vec());
    request = request.header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    read(request.send().unwrap())
}

/// A push as each forge tells of it, in the fields that matter and some that do not.
fn push(forge: &str, remote: &str, branch: &str) -> Vec<u8> {
    let reference = format!("refs/heads/{branch}");
    let told = match forge {
        "gitlab" => json!({
            "object_kind": "push", "event_name": "push", "ref": reference,
            "before": "95790bf891e76fee5e1747ab589903a6a1f80f22", "user_username": "jsmith",
            "project": {"id": 15, "name": "Diaspora", "git_ssh_url": "git@example.com:mike/diaspora.git",
                "git_http_url": remote, "path_with_namespace": "mike/diaspora", "ci_config_path": null},
            "commits": [], "total_commits_count": 0,
        }),
        _ => json!({
            "ref": reference, "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "forced": false,
            "repository": {"id": 186_853_002, "full_name": "Codertocat/Hello-World", "private": false,
                "html_url": "https://github.com/Codertocat/Hello-World", "clone_url": remote,
                "ssh_url": "git@github.com:Codertocat/Hello-World.git", "homepage": null},
            "pusher": {"name": "Codertocat"}, "commits": [], "head_commit": null,
        }),
    };
    serde_json::to_vec(&told).unwrap()
}

fn remote(api: &Api) -> String {
    api.world.remote.display().to_string()
}

/// One row of the contract: no signature, a wrong one, a right one, nonsense, the wrong verb, too much.
pub fn keeps_the_contract(api: &Api, forge: &str, path: &str) {
    let body = push(forge, &remote(api), "main");
    let send = |body: &[u8], id: &str, secret: &str| {
        deliver(api, path, body, &headers(forge, "push", id, secret, body))
    };
    deliver(api, path, &body, &[]).refused(401, "AUTHENTICATION_REQUIRED");
    // Each header that is described as required is.
    let whole = headers(forge, "push", "c-0", SECRET, &body);
    for left_out in 0..whole.len() {
        let mut rest = whole.clone();
        let (name, _) = rest.remove(left_out);
        let got = deliver(api, path, &body, &rest);
        match name.contains("signature") || name.contains("token") {
            true => got.refused(401, "AUTHENTICATION_REQUIRED"),
            false => got.refused(400, "VALIDATION_FAILED"),
        };
    }
    send(&body, "c-1", "another secret").refused(401, "AUTHENTICATION_REQUIRED");
    // A token is nothing here.
    let token = [("authorization".to_owned(), format!("Bearer {}", api.admin))];
    deliver(api, path, &body, &token).refused(401, "AUTHENTICATION_REQUIRED");
    send(b"{\"ref\": 1", "c-2", SECRET).refused(400, "VALIDATION_FAILED");
    let elsewhere = push(forge, "https://example.com/other/repository.git", "main");
    send(&elsewhere, "c-3", SECRET).refused(404, "REPOSITORY_NOT_FOUND");
    let large = vec![b' '; 6 << 20];
    send(&large, "c-4", SECRET).refused(413, "PAYLOAD_TOO_LARGE");
    let form = api.client.post(format!("{}{path}", api.base)).body("payload=%7B%7D");
    let mut form = form.header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers(forge, "push", "c-6", SECRET, b"payload=%7B%7D") {
        form = form.header(name, value);
    }
    read(form.send().unwrap()).refused(415, "UNSUPPORTED_MEDIA_TYPE");
    let got = api.send("GET", path, "", None);
    assert_eq!(got.refused(405, "METHOD_NOT_ALLOWED").headers["allow"], "POST");
    // An id that came with a wrong signature keeps out nothing.
    let got = send(&body, "c-1", SECRET);
    assert_eq!((got.status, &got.body["state"]), (202, &json!("accepted")), "{got:?}");
    send(&body, "c-1", SECRET).refused(409, "ALREADY_EXISTS");
    let prefixed = path.replace("/api/v1", "/api/plugins/hedgehog") + "/";
    let got = deliver(api, &prefixed, &body, &headers(forge, "push", "c-5", SECRET, &body));
    assert_eq!(got.status, 202, "{got:?}");
}

/// Somebody pushes a VPC of this name to the remote.
fn somebody_pushes(api: &Api, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["clone", "-q", &remote(api), "clone"]);
    let clone = dir.path().join("clone");
    let file = clone.join(format!("fabric-1/managed/vpcs/{name}.yaml"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vpc(name)).unwrap();
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "-qm", "theirs"]);
    git(&clone, &["push", "-q"]);
}

#[test]
fn what_was_pushed_is_here_soon_after_a_forge_has_told_of_it() {
    let api = with_secrets();
    until("all is sent", || {
        let it = &api.get("/api/v1/repositories")["results"][0];
        it["head"].is_string() && it["head"] == it["remote_head"]
    });
    for (n, forge) in ["github", "gitlab", "gitea"].iter().enumerate() {
        let path = format!("/api/v1/webhooks/{forge}");
        let name = format!("vpc-{n}");
        somebody_pushes(&api, &name);
        let found = || api.get(&format!("/api/v1/resources?name={name}"))["count"] == 1;
        assert!(!found());
        let body = push(forge, &remote(&api), "main");
        let id = format!("72d3162e-cc78-11e3-81ab-4c9367dc095{n}");
        let got = deliver(&api, &path, &body, &headers(forge, "push", &id, SECRET, &body));
        assert_eq!((got.status, &got.body["state"]), (202, &json!("accepted")), "{got:?}");
        assert_eq!(got.body["delivery"], id.as_str());
        assert_eq!(got.body["repositories"].as_array().unwrap().len(), 1);
        until("what was pushed is here", found);
        // Whoever changed it, there is a line that says who told.
        let audit = api.get("/api/v1/audit?limit=1");
        assert_eq!(audit["results"][0]["actor"], format!("{forge} webhook {id}"));
        assert_eq!(audit["results"][0]["status"], 202);
    }
    let log = std::fs::read_to_string(api.world.dir.path().join("agent.log")).unwrap();
    assert!(!log.contains(SECRET), "a secret is in the log");
}

#[test]
fn trials_other_events_and_other_branches_are_answered_and_lead_to_nothing() {
    let api = with_secrets();
    let send = |event: &str, id: &str, body: &[u8]| {
        let got = deliver(
            &api,
            "/api/v1/webhooks/github",
            body,
            &headers("github", event, id, SECRET, body),
        );
        assert_eq!(got.status, 202, "{got:?}");
        got.body["state"].as_str().unwrap().to_owned()
    };
    let ping = br#"{"zen": "Keep it logically awesome.", "hook_id": 109948940, "hook": {"type": "Repository"}}"#;
    assert_eq!(send("ping", "1", ping), "pong");
    assert_eq!(send("issues", "2", br#"{"action": "opened"}"#), "ignored");
    assert_eq!(send("push", "3", &push("github", &remote(&api), "other")), "ignored");
    let tag =
        br#"{"ref": "refs/tags/v1", "repository": {"full_name": "a/b", "clone_url": "REMOTE"}}"#;
    let tag = String::from_utf8(tag.to_vec()).unwrap().replace("REMOTE", &remote(&api));
    assert_eq!(send("push", "4", tag.as_bytes()), "ignored");
}

#[test]
fn a_flood_of_deliveries_is_held_back_and_a_forge_without_a_secret_is_refused() {
    let api = Api::new();
    for forge in ["github", "gitlab", "gitea"] {
        let path = format!("/api/v1/webhooks/{forge}");
        let body = push(forge, &remote(&api), "main");
        // An empty secret is none.
        let got = deliver(&api, &path, &body, &headers(forge, "push", "1", "", &body));
        got.refused(404, "NOT_FOUND");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let more = format!("webhooks:\n  github: [{}]\n  requests_per_second: 2\n", file.display());
    let api = Api::with(&more, &["fabric-1"]);
    let body = push("github", &remote(&api), "main");
    let mut statuses = Vec::new();
    for n in 0..20 {
        let wrong = headers("github", "push", &n.to_string(), "wrong secret", &body);
        let got = deliver(&api, "/api/v1/webhooks/github", &body, &wrong);
        if got.status == 429 {
            assert!(got.refused(429, "RATE_LIMITED").headers.contains_key("retry-after"));
        }
        statuses.push(got.status);
    }
    assert!(statuses.contains(&429) && statuses.contains(&401), "{statuses:?}");
    // Nobody else is in the way of that.
    assert_eq!(api.send("GET", "/api/v1/fabrics", &api.admin, None).status, 200);
    // A secret that cannot be read lets nobody in.
    std::fs::write(&file, "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let got =
        deliver(&api, "/api/v1/webhooks/github", &body, &headers("github", "push", "x", "", &body));
    got.refused(503, "UNAVAILABLE");
}

#[test]
fn the_example_of_the_readme_is_answered() {
    let api = with_secrets();
    let text = crate::api::block("sh", "X-Hub-Signature-256");
    let file = api.world.dir.path().join("github.secret");
    std::fs::write(&file, SECRET).unwrap();
    let text = text.replace("/etc/git-intake/github.secret", file.to_str().unwrap());
    let lines: Vec<&str> = text.lines().filter(|it| !it.starts_with("openssl rand")).collect();
    let mut command = std::process::Command::new("sh");
    command.arg("-ec").arg(lines.join("\n")).env("no_proxy", "127.0.0.1");
    let out = command.env("INTAKE_API", format!("{}/api/v1", api.base)).output().unwrap();
    let said = crate::agent::text(&out);
    match said.contains("not found") {
        true => eprintln!("notice: curl or openssl is not installed"),
        false => assert!(said.contains("\"state\":\"pong\""), "{said}"),
    }
}

/// Real payloads, where `GITHUB_EXAMPLES` names the `index.json` of `@octokit/webhooks-examples`.
#[test]
fn published_payloads_are_taken_with_a_right_signature_and_refused_with_a_wrong_one() {
    let Some(file) = std::env::var_os("GITHUB_EXAMPLES") else {
        eprintln!("notice: GITHUB_EXAMPLES names no examples");
        return;
    };
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut api = with_secrets();
    // Nobody answers there; the forge's name for it is enough.
    let url = "https://github.invalid/Codertocat/Hello-World.git";
    api.world.git(&["remote", "set-url", "origin", url]);
    signal(&api.agent, Signal::TERM);
    api.agent.0.wait().unwrap();
    api.start_again();
    let (mut n, mut accepted) = (0, 0);
    for entry in all.as_array().unwrap() {
        let event = entry["name"].as_str().unwrap();
        for example in entry["examples"].as_array().unwrap() {
            n += 1;
            let body = serde_json::to_vec(example).unwrap();
            let id = format!("example-{n}");
            let path = "/api/v1/webhooks/github";
            let wrong = headers("github", event, &id, "another secret", &body);
            deliver(&api, path, &body, &wrong).refused(401, "AUTHENTICATION_REQUIRED");
            let got = deliver(&api, path, &body, &headers("github", event, &id, SECRET, &body));
            let ours = example["repository"]["full_name"] == "Codertocat/Hello-World";
            match (event, ours) {
                ("push", false) => drop(got.refused(404, "REPOSITORY_NOT_FOUND")),
                _ => assert_eq!(got.status, 202, "{event}: {got:?}"),
            }
            accepted += usize::from(got.body["state"] == "accepted");
        }
    }
    println!("{n} payloads, of which {accepted} led to a fetch");
    assert!(n > 100);
}
