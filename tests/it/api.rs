//! The door for programs, from outside: the real agent, over TCP and over its socket.

use crate::agent::{Agent, intake, on_remote, output, text, until};
use crate::events::Follower;
use crate::world::{World, vpc};
use reqwest::blocking::{Client, Response};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Stdio;

/// A world with an agent at work and its API on a port of its own.
pub struct Api {
    pub world: World,
    pub agent: Agent,
    pub base: String,
    pub client: Client,
    pub admin: String,
}

/// The answer of the API, read.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Api {
    pub fn new() -> Api {
        Api::with("", &["fabric-1"])
    }

    /// With more settings, indented below `api:`, and with these fabrics.
    pub fn with(more: &str, fabrics: &[&str]) -> Api {
        Api::of(World::in_memory(), more, fabrics)
    }

    /// The same in a world that is there already.
    pub fn of(world: World, more: &str, fabrics: &[&str]) -> Api {
        for fabric in fabrics {
            let out = output(&world, &["init", "--fabric", fabric]);
            assert!(out.status.success(), "{}", text(&out));
        }
        let out = output(&world, &["token", "add", "boss", "--scope", "admin"]);
        assert!(out.status.success(), "{}", text(&out));
        let admin = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        // Free for a moment at least; who else takes it makes the agent say so and the test fail.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = world.dir.path().join("config.yaml");
        let settings = format!("api:\n  listen: [\"127.0.0.1:{port}\"]\n{more}\n");
        std::fs::write(&config, settings).unwrap();
        let work = world.work();
        let args = ["run", "--config", config.to_str().unwrap(), work.to_str().unwrap()];
        let log = std::fs::File::create(world.dir.path().join("agent.log")).unwrap();
        let child = intake(&world, &args).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let agent = Agent(child);
        // Whoever comes second finds the provider in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        let ready =
            || client.get(format!("{base}/readyz")).send().is_ok_and(|it| it.status().is_success());
        until("the API is ready", ready);
        Api { world, agent, base, client, admin }
    }

    pub fn token(&self, args: &[&str]) -> String {
        let mut all = vec!["token", "add"];
        all.extend(args);
        let out = output(&self.world, &all);
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    pub fn send(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Got {
        self.send_with(method, path, token, body, &[])
    }

    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Got {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send().unwrap())
    }

    pub fn get(&self, path: &str) -> Value {
        let got = self.send("GET", path, &self.admin, None);
        assert_eq!(got.status, 200, "{path}: {}", got.body);
        got.body
    }

    pub fn post(&self, path: &str, body: Value) -> Got {
        self.send("POST", path, &self.admin, Some(&body))
    }

    /// Has somebody told of all events of a fabric, and gives the webhook's id.
    pub fn told_at(&self, url: &str) -> String {
        let got = self.post("/api/v1/fabrics/fabric-1/webhooks", json!({"url": url}));
        assert_eq!(got.status, 201, "{}", got.body);
        got.body["id"].as_str().unwrap().to_owned()
    }

    /// The agent once more, with the same settings.
    pub fn start_again(&mut self) {
        let config = self.world.dir.path().join("config.yaml");
        let work = self.world.work();
        let args = ["run", "--config", config.to_str().unwrap(), work.to_str().unwrap()];
        let child = intake(&self.world, &args).stderr(Stdio::null()).spawn().unwrap();
        self.agent = Agent(child);
        let ready = || {
            let answer = self.client.get(format!("{}/readyz", self.base)).send();
            answer.is_ok_and(|it| it.status().is_success())
        };
        until("the API is ready", ready);
    }

    /// Makes a VPC and gives its id.
    pub fn made(&self, name: &str) -> String {
        let body = json!({"fabric": "fabric-1", "content": vpc(name)});
        let got = self.post("/api/v1/resources", body);
        assert_eq!(got.status, 201, "{}", got.body);
        got.body["id"].as_str().unwrap().to_owned()
    }
}

pub fn read(response: Response) -> Got {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Got { status, headers, body }
}

impl Got {
    /// It is a no in the one shape, of this kind.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Got {
        assert_eq!(
            (self.status, self.body["error_code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        self.in_shape()
    }

    #[track_caller]
    pub fn in_shape(&self) -> &Got {
        let keys: Vec<&String> = self.body.as_object().map(|it| it.keys().collect()).unwrap();
        assert_eq!(keys, ["error", "error_code", "details", "request_id", "timestamp"], "{self:?}");
        assert_eq!(self.headers["x-request-id"], self.body["request_id"].as_str().unwrap());
        self
    }
}

/// A port where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9/hook";

const UNKNOWN: &str = "00000000-0000-5000-8000-000000000000";

/// What one route is asked in the contract test.
struct Row {
    route: &'static str,
    /// `open`, `read`, `write` or `admin`.
    scope: &'static str,
    /// What the parts in braces are, and are not.
    known: String,
    unknown: String,
    /// What is sent, and answered.
    body: Option<Value>,
    status: u16,
    /// It is about one fabric, which a token for another does not reach.
    of_fabric: bool,
    /// What stands behind the question mark.
    query: &'static str,
    /// Any body is a file, so only none at all is wrong.
    any_body: bool,
    /// The answer has no end.
    streams: bool,
    /// What is sent is signed, and nobody is asked for a token.
    signed: Option<&'static str>,
}

fn row(route: &'static str, scope: &'static str, known: &str, unknown: &str, status: u16) -> Row {
    let (known, unknown) = (known.to_owned(), unknown.to_owned());
    let (body, of_fabric, query, any_body) = (None, false, "", false);
    let (streams, signed) = (false, None);
    Row { route, scope, known, unknown, body, status, of_fabric, query, any_body, streams, signed }
}

impl Row {
    fn sends(mut self, body: Value) -> Row {
        self.body = Some(body);
        self
    }

    fn asks(mut self, query: &'static str) -> Row {
        self.query = query;
        self
    }

    fn takes_any_body(mut self) -> Row {
        self.any_body = true;
        self
    }

    fn signed_for(mut self, forge: &'static str) -> Row {
        self.signed = Some(forge);
        self
    }

    fn streams(mut self) -> Row {
        self.streams = true;
        self
    }

    fn of_fabric(mut self) -> Row {
        self.of_fabric = true;
        self
    }
}

/// One row a route; a route that is described and not here fails the test.
fn rows(api: &Api) -> Vec<Row> {
    assert_eq!(api.post("/api/v1/fabrics", json!({"name": "fabric-3"})).status, 201);
    let vpc_1 = api.made("vpc-1");
    let gone = api.made("vpc-2");
    let operations = api.get("/api/v1/fabrics/fabric-1/sync-operations");
    let operation = operations["results"][0]["id"].as_str().unwrap().to_owned();
    let repository =
        api.get("/api/v1/repositories")["results"][0]["id"].as_str().unwrap().to_owned();
    let text = json!({"content": vpc("vpc-1")});
    let conflict = in_conflict(api, "vpc-3");
    let file = format!("{repository}|fabric-1/managed/README.md");
    let note = format!("{repository}|fabric-1/unmanaged/note.txt");
    let nowhere = format!("none|{}", "fabric-1/managed/README.md");
    let content = json!({"content": "a note\n"});
    let drop_id = format!("fabric-1|{}", "0".repeat(64));
    let decision = json!({"strategy": "git_wins"});
    // Nobody is there, so there is always something that has not arrived.
    let (hook, other_hook) = (api.told_at(NOWHERE), api.told_at(NOWHERE));
    api.made("vpc-4");
    let at = format!("/api/v1/fabrics/fabric-1/webhooks/{hook}/deliveries");
    until("there is a delivery", || api.get(&at)["count"] != 0);
    let delivery = api.get(&at)["results"][0]["id"].as_str().unwrap().to_owned();
    let [hook, other_hook] = [hook, other_hook].map(|it| format!("fabric-1|{it}"));
    let delivery = format!("{hook}|{delivery}");
    let (no_hook, no_delivery) = ("fabric-1|none", format!("{hook}|none"));
    vec![
        row("GET /healthz", "open", "", "", 200),
        row("GET /readyz", "open", "", "", 200),
        row("GET /metrics", "read", "", "", 200),
        row("GET /api/v1/openapi.json", "open", "", "", 200),
        row("GET /api/v1/audit", "admin", "", "", 200),
        row("GET /api/v1/events", "read", "", "", 200)
            .asks("fabric=fabric-1&type=sync_completed")
            .of_fabric()
            .streams(),
        row("GET /api/v1/fabrics/{id}/webhooks", "admin", "fabric-1", "none", 200).of_fabric(),
        row("POST /api/v1/fabrics/{id}/webhooks", "admin", "fabric-1", "none", 201)
            .sends(json!({"url": NOWHERE}))
            .of_fabric(),
        row("GET /api/v1/fabrics/{id}/webhooks/{webhook}", "admin", &hook, no_hook, 200)
            .of_fabric(),
        row("PATCH /api/v1/fabrics/{id}/webhooks/{webhook}", "admin", &hook, no_hook, 200)
            .sends(json!({"active": true}))
            .of_fabric(),
        row("DELETE /api/v1/fabrics/{id}/webhooks/{webhook}", "admin", &other_hook, no_hook, 200)
            .of_fabric(),
        row("GET /api/v1/fabrics/{id}/webhooks/{webhook}/deliveries", "admin", &hook, no_hook, 200)
            .asks("state=waiting")
            .of_fabric(),
        row(
            "POST /api/v1/fabrics/{id}/webhooks/{webhook}/deliveries/{delivery}/redeliver",
            "admin",
            &delivery,
            &no_delivery,
            202,
        )
        .of_fabric(),
        row("POST /api/v1/webhooks/github", "open", "", "", 202).signed_for("github"),
        row("POST /api/v1/webhooks/gitlab", "open", "", "", 202).signed_for("gitlab"),
        row("POST /api/v1/webhooks/gitea", "open", "", "", 202).signed_for("gitea"),
        row("GET /api/v1/repositories", "read", "", "", 200),
        row("GET /api/v1/repositories/{id}", "read", &repository, "none", 200).of_fabric(),
        row("POST /api/v1/repositories", "admin", "", "", 403)
            .sends(json!({"path": "/nowhere"}))
            .of_fabric(),
        row("PATCH /api/v1/repositories/{id}", "admin", &repository, "none", 409)
            .sends(json!({"remote": "nowhere"}))
            .of_fabric(),
        row("DELETE /api/v1/repositories/{id}", "admin", &repository, "none", 409).of_fabric(),
        row("GET /api/v1/fabrics", "read", "", "", 200),
        row("GET /api/v1/fabrics/{id}", "read", "fabric-1", "none", 200).of_fabric(),
        row("POST /api/v1/fabrics", "admin", "", "", 201)
            .sends(json!({"name": "fabric-4", "directory": "fabrics/four"}))
            .of_fabric(),
        row("PATCH /api/v1/fabrics/{id}", "admin", "fabric-1", "none", 200)
            .sends(json!({"mode": "full"}))
            .of_fabric(),
        row("DELETE /api/v1/fabrics/{id}", "admin", "fabric-3", "none", 200)
            .sends(json!({"purge": true}))
            .of_fabric(),
        row("POST /api/v1/fabrics/{id}/release", "write", "fabric-1", "none", 200)
            .sends(json!({"restore": true}))
            .of_fabric(),
        row("GET /api/v1/fabrics/{id}/orphans", "read", "fabric-1", "none", 200).of_fabric(),
        row("GET /api/v1/resources", "read", "", "", 200),
        row("POST /api/v1/resources", "write", "", "", 201)
            .sends(json!({"fabric": "fabric-1", "content": vpc("vpc-9")}))
            .of_fabric(),
        row("GET /api/v1/resources/{id}", "read", &vpc_1, UNKNOWN, 200).of_fabric(),
        row("PUT /api/v1/resources/{id}", "write", &vpc_1, UNKNOWN, 200).sends(text).of_fabric(),
        row("PATCH /api/v1/resources/{id}", "write", &vpc_1, UNKNOWN, 200)
            .sends(json!({"set": {"spec.mode": "l3flat"}}))
            .of_fabric(),
        row("DELETE /api/v1/resources/{id}", "write", &gone, UNKNOWN, 200)
            .sends(json!({"dry_run": false}))
            .of_fabric(),
        row("GET /api/v1/fabrics/{id}/sync-operations", "read", "fabric-1", "none", 200)
            .of_fabric(),
        row("GET /api/v1/sync-operations/{id}", "read", &operation, UNKNOWN, 200).of_fabric(),
        row("GET /api/v1/fabrics/{id}/conflicts", "read", "fabric-1", "none", 200).of_fabric(),
        row("GET /api/v1/conflicts/{id}", "read", &conflict, UNKNOWN, 200).of_fabric(),
        row("POST /api/v1/conflicts/{id}/resolve", "write", &conflict, UNKNOWN, 200)
            .sends(decision.clone())
            .of_fabric(),
        row("POST /api/v1/fabrics/{id}/conflicts/resolve-bulk", "write", "fabric-1", "none", 200)
            .sends(decision)
            .of_fabric(),
        row("GET /api/v1/repositories/{id}/contents/{path}", "read", &file, &nowhere, 200)
            .of_fabric(),
        row("PUT /api/v1/repositories/{id}/contents/{path}", "write", &note, &nowhere, 201)
            .sends(content)
            .of_fabric(),
        row("DELETE /api/v1/repositories/{id}/contents/{path}", "write", &note, &nowhere, 200)
            .sends(json!({}))
            .of_fabric(),
        row("POST /api/v1/fabrics/{id}/intake", "write", "fabric-1", "none", 201)
            .sends(json!({"apiVersion": "vpc.githedgehog.com/v1beta1", "kind": "VPC",
                "metadata": {"name": "vpc-7"}, "spec": {}}))
            .asks("name=vpc-7.json&wait=60s")
            .takes_any_body()
            .of_fabric(),
        row("GET /api/v1/fabrics/{id}/intake/{drop_id}", "read", &drop_id, "none|0", 200)
            .asks("path=vpc-7.json")
            .of_fabric(),
        row(
            "GET /api/v1/fabrics/{id}/gitops-directories/validate",
            "read",
            "fabric-1",
            "none",
            200,
        )
        .of_fabric(),
        row(
            "POST /api/v1/fabrics/{id}/gitops-directories/initialize",
            "admin",
            "fabric-1",
            "none",
            200,
        )
        .sends(json!({}))
        .of_fabric(),
        row(
            "POST /api/v1/fabrics/{id}/gitops-directories/ingest",
            "write",
            "fabric-1",
            "none",
            200,
        )
        .sends(json!({"dry_run": true}))
        .of_fabric(),
        row("POST /api/v1/fabrics/{id}/sync", "write", "fabric-1", "none", 202)
            .sends(json!({"options": {"force_sync": true}}))
            .of_fabric(),
        row("POST /api/v1/resources/{id}/sync", "write", &vpc_1, UNKNOWN, 202)
            .sends(json!({"options": {"force_sync": true}}))
            .of_fabric(),
        // It is over, so there is nothing to call off.
        row("POST /api/v1/sync-operations/{id}/cancel", "write", &operation, UNKNOWN, 409)
            .of_fabric(),
        row("POST /api/v1/sync-operations/{id}/revert", "write", &operation, UNKNOWN, 200)
            .sends(json!({"dry_run": true}))
            .of_fabric(),
        row("GET /api/v1/resources/{id}/state", "read", &vpc_1, UNKNOWN, 200).of_fabric(),
        row("DELETE /api/v1/resources/{id}/external-modifications", "write", &vpc_1, UNKNOWN, 200)
            .of_fabric(),
        row("PUT /api/v1/resources/{id}/actual-state", "write", &vpc_1, UNKNOWN, 200)
            .sends(json!({"content": vpc("vpc-1")}))
            .of_fabric(),
        row("PATCH /api/v1/resources/{id}/sync-config", "write", &vpc_1, UNKNOWN, 200)
            .sends(json!({"sync_direction": "bidirectional"}))
            .of_fabric(),
        row("GET /api/v1/resources/{id}/file-mapping", "read", &vpc_1, UNKNOWN, 200).of_fabric(),
        row("GET /api/v1/fabrics/{id}/sync-health", "read", "fabric-1", "none", 200).of_fabric(),
        row("GET /api/v1/fabrics/{id}/sync-analytics", "read", "fabric-1", "none", 200).of_fabric(),
    ]
}

/// A resource that two sides changed in one field.
pub fn in_conflict(api: &Api, name: &str) -> String {
    let id = api.made(name);
    let at = format!("/api/v1/resources/{id}");
    let blob = api.get(&at)["desired"]["blob_id"].clone();
    let change = json!({"set": {"spec.subnets.default.vlan": 1002}});
    assert_eq!(api.send("PATCH", &at, &api.admin, Some(&change)).status, 200);
    let other = vpc(name).replace("1001", "1003");
    let late = json!({"content": other, "base": blob});
    api.send("PUT", &at, &api.admin, Some(&late)).refused(409, "CONFLICT_DETECTED");
    id
}

#[test]
fn every_route_keeps_the_contract() {
    let api = crate::hooks::with_secrets();
    let read = api.token(&["reader", "--scope", "read"]);
    let write = api.token(&["writer", "--scope", "write"]);
    let other = api.token(&["other", "--scope", "admin", "--fabric", "fabric-2"]);
    let document = api.get("/api/v1/openapi.json");
    let rows = rows(&api);
    let methods = |path: &str| -> Vec<String> {
        let item = document["paths"][path].as_object().unwrap();
        item.keys().map(|it| it.to_uppercase()).collect()
    };
    let mut described: Vec<String> = Vec::new();
    for path in document["paths"].as_object().unwrap().keys() {
        described.extend(methods(path).iter().map(|it| format!("{it} {path}")));
    }
    let named: Vec<&str> = rows.iter().map(|it| it.route).collect();
    for route in &described {
        assert!(named.contains(&route.as_str()), "{route} has no row in the table");
    }
    assert_eq!(named.len(), described.len(), "a row is of no route");
    for row in &rows {
        let (method, template) = row.route.split_once(' ').unwrap();
        let with = |known: &str| match row.query {
            "" => filled(template, known),
            query => format!("{}?{query}", filled(template, known)),
        };
        let path = with(&row.known);
        let ask = |path: &str, token: &str| api.send(method, path, token, row.body.as_ref());
        println!("{}", row.route);
        if let Some(forge) = row.signed {
            crate::hooks::keeps_the_contract(&api, forge, &path);
            continue;
        }
        if row.scope != "open" {
            ask(&path, "").refused(401, "AUTHENTICATION_REQUIRED");
            let wrong = format!("{}0", api.admin);
            ask(&path, &wrong).refused(401, "AUTHENTICATION_REQUIRED");
        }
        match row.scope {
            "write" => drop(ask(&path, &read).refused(403, "PERMISSION_DENIED")),
            "admin" => drop(ask(&path, &write).refused(403, "PERMISSION_DENIED")),
            _ => (),
        }
        if row.of_fabric {
            let got = ask(&path, &other);
            assert_eq!(got.in_shape().status, 403, "{got:?}");
        }
        if !row.unknown.is_empty() {
            let got = ask(&with(&row.unknown), &api.admin);
            assert_eq!(got.in_shape().status, 404, "{got:?}");
        }
        if row.body.is_some() {
            let nonsense = (!row.any_body).then(|| json!({"nonsense": 1}));
            let got = api.send(method, &path, &api.admin, nonsense.as_ref());
            // No body at all has the described form, and is no file.
            got.refused(if row.any_body { 422 } else { 400 }, "VALIDATION_FAILED");
            let large = Value::String("x".repeat(12 << 20));
            api.send(method, &path, &api.admin, Some(&large)).refused(413, "PAYLOAD_TOO_LARGE");
        } else {
            let long = "x".repeat(300_000);
            let long = [("X-Long", long.as_str())];
            assert_eq!(api.send_with(method, &path, &api.admin, None, &long).status, 431);
        }
        let others = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        let verb = others.iter().find(|it| !methods(template).contains(&(**it).to_owned()));
        if let Some(verb) = verb {
            let got = api.send(verb, &path, &api.admin, None);
            let allow = got.refused(405, "METHOD_NOT_ALLOWED").headers["allow"].to_str().unwrap();
            for it in methods(template) {
                assert!(allow.contains(&it), "{allow} lacks {it}");
            }
        }
        // By the plugin's prefix and with a slash at the end, as its clients ask.
        let path = match path.strip_prefix("/api/v1") {
            Some(tail) => match tail.split_once('?') {
                Some((tail, query)) => format!("/api/plugins/hedgehog{tail}/?{query}"),
                None => format!("/api/plugins/hedgehog{tail}/"),
            },
            None => path,
        };
        let token = if row.scope == "open" { "" } else { &api.admin };
        if row.streams {
            let follower = Follower::open(&api, &path, token, None);
            assert_eq!(follower.next().kind, "ready", "{}", row.route);
            continue;
        }
        let got = ask(&path, token);
        assert_eq!(got.status, row.status, "{}: {got:?}", row.route);
    }
}

/// The braces of a path, one after the other, become the parts of `with`.
fn filled(template: &str, with: &str) -> String {
    let mut parts = with.split('|');
    let mut path = String::new();
    for piece in template.split_inclusive('}') {
        match piece.split_once('{') {
            Some((before, _)) => path.push_str(&format!("{before}{}", parts.next().unwrap())),
            None => path.push_str(piece),
        }
    }
    path
}

#[test]
fn the_description_is_what_it_was() {
    let document = git_intake::api::document().to_pretty_json().unwrap();
    insta::assert_snapshot!("openapi", document);
}

#[test]
fn a_resource_is_made_read_changed_and_removed_by_commits_with_a_name() {
    let api = Api::new();
    let writer = api.token(&["Ada <ada@example.com>", "--scope", "write"]);
    let body = json!({"fabric": "fabric-1", "content": vpc("vpc-1")});
    let made = api.send("POST", "/api/v1/resources", &writer, Some(&body));
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["delivery"]["state"], "pushed");
    let at = made.headers["location"].to_str().unwrap().to_owned();
    assert!(on_remote(&api.world, "managed/vpcs/vpc-1.yaml"));
    let trailer = ["log", "-1", "--format=%(trailers:key=Intake-Actor,valueonly)"];
    assert_eq!(api.world.git(&trailer).trim(), "Ada <ada@example.com>");
    let operations =
        api.get("/api/v1/fabrics/fabric-1/sync-operations?operation_type=record_to_git");
    assert_eq!(operations["count"], 1);
    assert_eq!(operations["results"][0]["trigger"], "api");
    assert_eq!(operations["results"][0]["actor"], "Ada <ada@example.com>");
    assert_eq!(operations["results"][0]["id"], made.body["operation_id"]);
    // Twice the same is told apart from the first time.
    api.send("POST", "/api/v1/resources", &writer, Some(&body)).refused(409, "ALREADY_EXISTS");

    let seen = api.send("GET", &at, &writer, None);
    assert_eq!(seen.body["desired"]["content"], vpc("vpc-1"));
    let etag = seen.headers["etag"].to_str().unwrap();
    let change = json!({"set": {"spec.subnets.default.vlan": 1005}});
    let with = |etag| api.send_with("PATCH", &at, &writer, Some(&change), &[("If-Match", etag)]);
    let changed = with(etag);
    assert_eq!(changed.status, 200, "{changed:?}");
    assert!(changed.body["after"].as_str().unwrap().contains("vlan: 1005}"));
    // A lost update is refused.
    with(etag).refused(412, "PRECONDITION_FAILED");
    let wrong = json!({"content": "apiVersion: v1\nkind: [\n"});
    let got = api.send("PUT", &at, &writer, Some(&wrong));
    got.refused(422, "VALIDATION_FAILED");
    let place = &got.body["details"]["validation_errors"][0];
    assert!(place["line"].is_u64() && place["column"].is_u64(), "{got:?}");
    let nothing = json!({"content": vpc("vpc-1"), "base": "0".repeat(40)});
    api.send("PUT", &at, &writer, Some(&nothing)).refused(409, "REFUSED");
    let gone = api.send("DELETE", &at, &writer, None);
    assert_eq!(gone.status, 200, "{gone:?}");
    assert!(!on_remote(&api.world, "managed/vpcs/vpc-1.yaml"));
    api.send("GET", &at, &writer, None).refused(404, "RESOURCE_NOT_FOUND");

    let audit = api.get("/api/v1/audit");
    let lines = audit["results"].as_array().unwrap();
    let statuses: Vec<u64> = lines.iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 409, 422, 412, 200, 409, 201], "{audit}");
    assert_eq!(lines[6]["commit_id"], made.body["commit_id"]);
    assert_eq!(lines[6]["actor"], "Ada <ada@example.com>");
    assert!(lines[6]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(api.world.git(&["fsck", "--strict", "--no-dangling"]).is_empty());
}

#[test]
fn a_post_with_a_key_is_done_once_and_its_answer_outlives_the_agent() {
    let api = Api::new();
    let body = json!({"fabric": "fabric-1", "content": vpc("vpc-1")});
    let send = |api: &Api, body: &Value| {
        let key = [("Idempotency-Key", "k-1")];
        api.send_with("POST", "/api/v1/resources", &api.admin, Some(body), &key)
    };
    let first = send(&api, &body);
    assert_eq!(first.status, 201, "{first:?}");
    let commits = api.world.commits();
    let second = send(&api, &body);
    assert_eq!((second.status, &second.body), (201, &first.body));
    assert_eq!(second.headers["idempotency-replayed"], "true");
    let other = json!({"fabric": "fabric-1", "content": vpc("vpc-2")});
    send(&api, &other).refused(422, "IDEMPOTENCY_KEY_REUSED");
    // Read again with the settings, as after a restart.
    crate::agent::signal(&api.agent, rustix::process::Signal::HUP);
    until("the answer is given again", || {
        let key = [("Idempotency-Key", "k-1")];
        let url = format!("{}/api/v1/resources", api.base);
        let request = api.client.post(url).bearer_auth(&api.admin).json(&body);
        let answer = request.header(key[0].0, key[0].1).send();
        answer.is_ok_and(|it| {
            it.status() == StatusCode::CREATED && it.headers().contains_key("idempotency-replayed")
        })
    });
    assert_eq!(api.world.commits(), commits);
}

#[test]
fn tokens_are_known_and_forgotten_at_once_in_both_spellings() {
    let api = Api::new();
    let token = api.token(&["plugin"]);
    let spelled = |how: &str| {
        let url = format!("{}/api/v1/fabrics", api.base);
        api.client
            .get(url)
            .header("Authorization", format!("{how} {token}"))
            .send()
            .unwrap()
            .status()
    };
    for how in ["Bearer", "Token", "bearer"] {
        assert_eq!(spelled(how), 200, "{how}");
    }
    assert_eq!(spelled("Basic"), 401);
    let listed = text(&output(&api.world, &["token", "list"]));
    assert!(listed.contains("plugin") && !listed.contains(&token), "{listed}");
    assert!(output(&api.world, &["token", "revoke", "plugin"]).status.success());
    assert_eq!(spelled("Bearer"), 401);
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let api = Api::with("  requests_per_second: 1\n", &["fabric-1"]);
    let mut last = None;
    for _ in 0..5 {
        let got = api.send("GET", "/api/v1/fabrics", &api.admin, None);
        if got.status != 200 {
            last = Some(got);
            break;
        }
    }
    let got = last.expect("nobody was told");
    let wait: u64 =
        got.refused(429, "RATE_LIMITED").headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait));
    // Somebody else is not in their way.
    let other = api.token(&["other"]);
    assert_eq!(api.send("GET", "/api/v1/fabrics", &other, None).status, 200);
}

#[test]
fn long_lists_come_in_pieces() {
    let api = Api::new();
    let many: Vec<String> = (0..25).map(|n| vpc(&format!("vpc-{n:02}"))).collect();
    api.world.drop("many.yaml", many.join("---\n"));
    until("all are there", || api.get("/api/v1/resources")["count"] == 25);
    let mut seen = Vec::new();
    let mut next = Some("/api/v1/resources?kind=vpc&limit=10".to_owned());
    while let Some(path) = next {
        let page = api.get(&path);
        assert_eq!(page["count"], 25);
        for it in page["results"].as_array().unwrap() {
            seen.push(it["name"].as_str().unwrap().to_owned());
        }
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, (0..25).map(|n| format!("vpc-{n:02}")).collect::<Vec<_>>());
    assert_eq!(api.get("/api/v1/resources?name=vpc-07")["count"], 1);
    for wrong in ["limit=0", "limit=x", "offset=-1", "colour=red", "limit=99999"] {
        let path = format!("/api/v1/resources?{wrong}");
        api.send("GET", &path, &api.admin, None).refused(400, "VALIDATION_FAILED");
    }
}

#[test]
fn a_drop_over_the_wire_is_answered_when_it_is_on_the_remote_with_its_sender_in_the_commit() {
    let api = Api::new();
    let sender = api.token(&["Grace", "--scope", "write"]);
    let put = |name: &str, text: String| {
        let url = format!("{}/api/v1/fabrics/fabric-1/intake?name={name}&wait=60s", api.base);
        let request = api.client.post(url).bearer_auth(&sender).body(text);
        read(request.header("Content-Type", "application/yaml").send().unwrap())
    };
    let got = put("team/two.yaml", format!("{}---\n{}", vpc("vpc-1"), vpc("vpc-2")));
    assert_eq!((got.status, got.body["state"].as_str()), (201, Some("done")), "{got:?}");
    let paths: Vec<&str> = got.body["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["fabric-1/managed/vpcs/vpc-1.yaml", "fabric-1/managed/vpcs/vpc-2.yaml"]);
    assert!(on_remote(&api.world, "managed/vpcs/vpc-2.yaml"));
    let commit = got.body["commit_id"].as_str().unwrap();
    let trailers =
        api.world.git(&["log", "-1", "--format=%(trailers:key=Intake-Actor,valueonly)", commit]);
    assert!(trailers.lines().any(|it| it == "Grace"), "{trailers}");
    // Again the same changes nothing; a mistake is told with its place.
    assert_eq!(put("again.yaml", vpc("vpc-1")).body["state"], "unchanged");
    let wrong = put("wrong.yaml", "kind: VPC\nmetadata: [\n".to_owned());
    wrong.refused(422, "VALIDATION_FAILED");
    assert!(wrong.body["details"]["validation_errors"][0]["line"].is_u64());
    let drop = got.body["drop_id"].as_str().unwrap();
    let later = api.get(&format!("/api/v1/fabrics/fabric-1/intake/{drop}?path=team/two.yaml"));
    assert_eq!(later["commit_id"], got.body["commit_id"]);
}

#[test]
fn files_are_written_where_they_belong_and_nowhere_else() {
    let api = Api::new();
    let repository =
        api.get("/api/v1/repositories")["results"][0]["id"].as_str().unwrap().to_owned();
    let at = |path: &str| format!("/api/v1/repositories/{repository}/contents/{path}");
    let put = |path: &str, body: Value, headers: &[(&str, &str)]| {
        api.send_with("PUT", &at(path), &api.admin, Some(&body), headers)
    };
    let bytes = json!({"content": "AP8A", "encoding": "base64", "message": "three bytes"});
    let made = put("fabric-1/unmanaged/x.bin", bytes.clone(), &[("If-None-Match", "*")]);
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(api.world.git(&["log", "-1", "--format=%s"]).trim(), "fabric-1: three bytes");
    put("fabric-1/unmanaged/x.bin", bytes, &[("If-None-Match", "*")])
        .refused(412, "PRECONDITION_FAILED");
    let seen = api.get(&at("fabric-1/unmanaged/x.bin"));
    assert_eq!(
        (seen["content"].as_str(), seen["encoding"].as_str()),
        (Some("AP8A"), Some("base64"))
    );
    let listed = api.get(&at("fabric-1/unmanaged"));
    let names: Vec<&str> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["README.md", "x.bin"]);
    let text = |text: String| json!({"content": text});
    assert_eq!(put("fabric-1/managed/vpcs/vpc-1.yaml", text(vpc("vpc-1")), &[]).status, 201);
    put("fabric-1/managed/vpcs/other.yaml", text(vpc("vpc-2")), &[]).refused(409, "REFUSED");
    put("fabric-1/managed/vpcs/vpc-3.yaml", text("kind: [".into()), &[])
        .refused(422, "VALIDATION_FAILED");
    put("fabric-1/raw/x.yaml", text(vpc("vpc-4")), &[]).refused(409, "REFUSED");
    put("elsewhere.txt", text("x".into()), &[]).refused(403, "REPOSITORY_ACCESS_DENIED");
    for hostile in ["..%2f..%2fetc%2fpasswd", ".git%2fconfig", "fabric-1%2f..%2fx"] {
        let got = put(hostile, text("x".into()), &[]);
        assert_eq!(got.in_shape().status, 422, "{got:?}");
    }
    let stale = [("If-Match", "\"0000000000000000000000000000000000000000\"")];
    let got = api.send_with("DELETE", &at("fabric-1/unmanaged/x.bin"), &api.admin, None, &stale);
    got.refused(412, "PRECONDITION_FAILED");
    let got = api.send("DELETE", &at("fabric-1/managed/vpcs/vpc-1.yaml"), &api.admin, None);
    assert_eq!(got.status, 200, "{got:?}");
    assert!(!on_remote(&api.world, "managed/vpcs/vpc-1.yaml"));
}

#[test]
fn a_sync_has_an_id_at_once_and_says_what_it_did() {
    let api = Api::new();
    until("all is sent", || {
        let it = &api.get("/api/v1/repositories")["results"][0];
        it["head"].is_string() && it["head"] == it["remote_head"]
    });
    let clone = api.world.dir.path().join("clone");
    let remote = api.world.remote.display().to_string();
    crate::world::git(api.world.dir.path(), &["clone", "-q", &remote, "clone"]);
    let file = clone.join("fabric-1/managed/vpcs/vpc-5.yaml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vpc("vpc-5")).unwrap();
    crate::world::git(&clone, &["add", "."]);
    crate::world::git(&clone, &["commit", "-qm", "theirs"]);
    crate::world::git(&clone, &["push", "-q"]);
    let got = api.post("/api/v1/fabrics/fabric-1/sync", json!({"direction": "git_to_record"}));
    assert_eq!(got.status, 202, "{got:?}");
    let at = got.headers["location"].to_str().unwrap().to_owned();
    until("the sync is over", || api.get(&at)["status"] == "completed");
    assert_eq!(api.get("/api/v1/resources?name=vpc-5")["count"], 1);
    let listed = api.get("/api/v1/fabrics/fabric-1/sync-operations?operation_type=git_to_record");
    assert!(listed["results"].as_array().unwrap().iter().any(|it| it["id"] == got.body["id"]));
    let id = got.body["id"].as_str().unwrap();
    let cancel = format!("/api/v1/sync-operations/{id}/cancel");
    api.send("POST", &cancel, &api.admin, None).refused(409, "REFUSED");
    let pr = json!({"options": {"create_pr": true}});
    api.post("/api/v1/fabrics/fabric-1/sync", pr).refused(422, "VALIDATION_FAILED");
}

/// The block of the README in this language that has these words in it.
pub fn block(language: &str, with: &str) -> String {
    let readme = include_str!("../../README.md");
    let opening = format!("```{language}\n");
    let mut blocks = readme.split(&opening).skip(1);
    let found = blocks.find_map(|it| it.split("```").next().filter(|it| it.contains(with)));
    found.unwrap_or_else(|| panic!("no {language} block has `{with}`")).to_owned()
}

#[test]
fn the_examples_of_the_readme_work_as_written() {
    let api = Api::new();
    let dir = api.world.dir.path();
    std::fs::write(dir.join("vpc.yaml"), vpc("vpc-1")).unwrap();
    let token = api.token(&["me", "--scope", "write"]);
    let run = |program: &str, option: &str, text: &str| {
        let mut command = std::process::Command::new(program);
        command.arg(option).arg(text).current_dir(dir).env("INTAKE_TOKEN", &token);
        command.env("INTAKE_API", format!("{}/api/v1", api.base)).env("no_proxy", "127.0.0.1");
        command.output()
    };
    let mut curl = true;
    match run("sh", "-ec", &block("sh", "curl -fsS")) {
        Ok(out) if text(&out).contains("curl: not found") => {
            eprintln!("notice: curl is not installed");
            curl = false;
        }
        Ok(out) if text(&out).contains("option --json") => {
            eprintln!("notice: this curl is too old");
            curl = false;
        }
        out => {
            let out = out.unwrap();
            assert!(out.status.success(), "{}", text(&out));
            assert!(on_remote(&api.world, "managed/vpcs/vpc-1.yaml"));
        }
    }
    let follow = block("sh", "Last-Event-ID");
    let mut following = std::process::Command::new("sh");
    following.arg("-ec").arg(format!("exec {}", follow.lines().last().unwrap()));
    following.env("INTAKE_TOKEN", &token).env("INTAKE_API", format!("{}/api/v1", api.base));
    let mut following =
        Agent(following.env("no_proxy", "127.0.0.1").stdout(Stdio::piped()).spawn().unwrap());
    let told = std::io::BufReader::new(following.0.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(told).map_while(Result::ok);
    assert!(!curl || lines.any(|it| it == "event: sync_completed"), "the events ended");
    drop(following);
    let hooks = block("sh", "INTAKE_ADMIN").replace("$INTAKE_ADMIN", &api.admin);
    let hooks = hooks.replace("https://example.com/", "https://hooks.invalid/");
    if curl {
        let out = run("sh", "-ec", &hooks).unwrap();
        assert!(out.status.success() && text(&out).contains("whsec_"), "{}", text(&out));
    }
    let python = run("python3", "-c", &block("python", "import os, requests"));
    match python {
        Ok(out) if text(&out).contains("No module named") => {
            eprintln!("notice: requests is not installed")
        }
        Err(_) => eprintln!("notice: python3 is not installed"),
        Ok(out) => {
            assert!(out.status.success(), "{}", text(&out));
            assert!(text(&out).contains("fabric-1/managed/vpcs/vpc-1.yaml"), "{}", text(&out));
        }
    }
}

#[test]
fn a_public_validator_finds_nothing_wrong_with_the_description() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, git_intake::api::document().to_json().unwrap()).unwrap();
    match std::process::Command::new("openapi-spec-validator").arg(&file).output() {
        Ok(out) => assert!(out.status.success(), "{}", text(&out)),
        Err(_) => eprintln!("notice: openapi-spec-validator is not installed; it is on PyPI"),
    }
}
