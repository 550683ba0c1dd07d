//! Programs that the agent tells of events: signed, tried again, kept over a crash, and nowhere but where
//! the settings let it go.

use crate::agent::{output, signal, text, until};
use crate::api::Api;
use crate::api_doors::authority;
use crate::world::vpc;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use git_intake::model::digest::Sha256;
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOOKS: &str = "/api/v1/fabrics/fabric-1/webhooks";
/// Receivers on this host are told, and what does not arrive is tried again at once.
const OPEN: &str =
    "webhooks:\n  private: true\n  plaintext: true\n  retry_min: 20ms\n  retry_max: 100ms\n";
const PATIENCE: Duration = Duration::from_secs(60);

/// One request that a receiver got.
#[derive(Debug, Clone)]
struct Received {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Signed with this secret, as the standard says.
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let (id, time) = (&self.headers["webhook-id"], &self.headers["webhook-timestamp"]);
        let digest = Sha256::hmac(&key, format!("{id}.{time}.{}", self.body).as_bytes());
        self.headers["webhook-signature"] == format!("v1,{}", STANDARD.encode(digest.as_bytes()))
    }
}

/// A program that is told: it answers with these statuses, and then with 204.
struct Program {
    address: SocketAddr,
    received: Receiver<Received>,
    connections: Arc<AtomicUsize>,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn new(answers: &[&str]) -> Program {
        Program::on(TcpListener::bind("127.0.0.1:0").unwrap(), answers)
    }

    fn on(listener: TcpListener, answers: &[&str]) -> Program {
        let address = listener.local_addr().unwrap();
        let (sender, received) = channel();
        let answers: Vec<String> = answers.iter().rev().map(|it| (*it).to_owned()).collect();
        let answers = Arc::new(Mutex::new(answers));
        let connections = Arc::new(AtomicUsize::new(0));
        let (next, count) = (answers.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let Some(it) = request(&stream) else { continue };
                let answer = next.lock().unwrap().pop();
                let answer = answer.unwrap_or_else(|| "204 No Content\r\n".to_owned());
                let text =
                    format!("HTTP/1.1 {answer}content-length: 0\r\nconnection: close\r\n\r\n");
                let _ = (&stream).write_all(text.as_bytes());
                if sender.send(it).is_err() {
                    return;
                }
            }
        });
        Program { address, received, connections, answers }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?who=me", self.address)
    }

    #[track_caller]
    fn next(&self) -> Received {
        self.received.recv_timeout(PATIENCE).expect("nothing more came")
    }

    #[track_caller]
    fn next_of(&self, kind: &str) -> Received {
        loop {
            let it = self.next();
            if it.json()["type"] == kind {
                return it;
            }
        }
    }
}

fn request(stream: impl Read) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
            None if line.trim_end().is_empty() => break,
            None => (),
        }
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Received { headers, body: String::from_utf8(body).ok()? })
}

#[test]
fn a_program_is_told_of_what_it_asked_for_with_a_signature() {
    let api = Api::with(OPEN, &["fabric-1", "fabric-2"]);
    let receiver = Program::new(&[]);
    let asked = json!({"url": receiver.url(), "events": ["sync_completed", "file_rejected"]});
    let made =
        api.send_with("POST", HOOKS, &api.admin, Some(&asked), &[("Idempotency-Key", "k-1")]);
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    let at = made.headers["location"].to_str().unwrap();
    let shown = api.get(at);
    assert_eq!((&shown["url"], &shown["active"]), (&json!(receiver.url()), &json!(true)));
    assert_eq!(shown["created_by"], "boss");
    // The secret is shown once: to nobody who asks, and not by the key of whoever made it either.
    for path in [at, HOOKS] {
        assert!(!api.get(path).to_string().contains(&secret));
    }
    let answers = api.world.work().join(".git/intake/state/answers.jsonl");
    assert!(!std::fs::read_to_string(answers).unwrap().contains(&secret));

    let body = json!({"fabric": "fabric-2", "content": vpc("vpc-2")});
    assert_eq!(api.post("/api/v1/resources", body).status, 201);
    let got = api.post("/api/v1/resources", json!({"fabric": "fabric-1", "content": vpc("vpc-1")}));
    loop {
        let it = receiver.next();
        assert!(it.is_signed_with(&secret), "{it:?}");
        assert_eq!(it.headers["content-type"], "application/json");
        let told = it.json();
        assert_eq!(
            (&told["fabric"], &told["type"]),
            (&json!("fabric-1"), &json!("sync_completed"))
        );
        if told["operation_id"] == got.body["operation_id"] {
            assert_eq!(told["commit_id"], got.body["commit_id"]);
            break;
        }
    }
    api.world.drop("wrong.yaml", "kind: [");
    assert_eq!(receiver.next_of("file_rejected").json()["path"], "wrong.yaml");
    until("all has arrived", || api.get(at)["waiting"] == 0);

    // Not while it is put to rest, and not when it is gone.
    let rest = json!({"active": false});
    assert_eq!(api.send("PATCH", at, &api.admin, Some(&rest)).body["active"], false);
    api.made("vpc-3");
    let again = json!({"active": true, "events": []});
    assert_eq!(api.send("PATCH", at, &api.admin, Some(&again)).status, 200);
    let marked = api.made("vpc-4");
    assert!(!marked.is_empty());
    assert!(receiver.next().json()["type"].is_string());
    assert_eq!(api.send("DELETE", at, &api.admin, None).status, 200);
    api.send("GET", at, &api.admin, None).refused(404, "WEBHOOK_NOT_FOUND");
    let log = std::fs::read_to_string(api.world.dir.path().join("agent.log")).unwrap();
    assert!(!log.contains(&secret), "a secret is in the log");
}

#[test]
fn what_does_not_arrive_is_tried_again_and_lies_aside_in_the_end() {
    let api = Api::with(&format!("{OPEN}  attempts_max: 3\n"), &["fabric-1"]);
    let busy = "503 Service Unavailable\r\n";
    let receiver = Program::new(&[busy, busy, "200 OK\r\n", busy, busy, busy]);
    let asked = json!({"url": receiver.url(), "events": ["sync_committed"]});
    let made = api.post(HOOKS, asked);
    let at = made.headers["location"].to_str().unwrap().to_owned();
    api.made("vpc-1");
    let ids: Vec<String> = (0..3).map(|_| receiver.next().headers["webhook-id"].clone()).collect();
    assert!(ids.iter().all(|it| *it == ids[0]), "{ids:?}");
    until("it has arrived", || api.get(&at)["waiting"] == 0);
    assert_eq!(api.get(&at)["dead"], 0);
    api.made("vpc-2");
    let lost: Vec<Received> = (0..3).map(|_| receiver.next()).collect();
    let dead = format!("{at}/deliveries?state=dead");
    until("it lies aside", || api.get(&dead)["count"] == 1);
    let it = api.get(&dead)["results"][0].clone();
    assert_eq!((&it["attempts"], &it["id"]), (&json!(3), &json!(lost[0].headers["webhook-id"])));
    assert!(it["error"].as_str().unwrap().contains("503"), "{it}");
    let id = it["id"].as_str().unwrap();
    let again = format!("{at}/deliveries/{id}/redeliver");
    assert_eq!(api.send("POST", &again, &api.admin, None).status, 202);
    let late = receiver.next();
    assert_eq!(
        (&late.headers["webhook-id"], &late.body),
        (&lost[0].headers["webhook-id"], &lost[0].body)
    );
    until("it has arrived", || api.get(&dead)["count"] == 0 && api.get(&at)["waiting"] == 0);
    api.send("POST", &again, &api.admin, None).refused(404, "DELIVERY_NOT_FOUND");
}

#[test]
fn what_a_program_has_not_heard_outlives_a_killed_agent() {
    let mut api = Api::with(&format!("{OPEN}  attempts_max: 100000\n"), &["fabric-1"]);
    // A port where nobody answers yet.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let asked = json!({"url": format!("http://{address}/"), "events": ["sync_committed"]});
    let made = api.post(HOOKS, asked);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    let at = made.headers["location"].to_str().unwrap().to_owned();
    api.made("vpc-1");
    let tried = || {
        let first = api.get(&format!("{at}/deliveries"))["results"][0]["attempts"].as_u64();
        first.is_some_and(|it| it > 0)
    };
    until("it was tried", tried);
    signal(&api.agent, Signal::KILL);
    api.agent.0.wait().unwrap();
    let receiver = Program::on(TcpListener::bind(address).unwrap(), &[]);
    api.start_again();
    let it = receiver.next();
    assert_eq!(it.json()["type"], "sync_committed");
    assert!(it.is_signed_with(&secret));
    until("it has arrived", || api.get(&at)["waiting"] == 0);
}

#[test]
fn nobody_is_told_at_an_address_that_is_not_of_the_world_or_elsewhere() {
    let api = Api::with("webhooks:\n  attempts_max: 1\n", &["fabric-1"]);
    let refuse = |url: &str| {
        let got = api.post(HOOKS, json!({"url": url}));
        got.refused(422, "VALIDATION_FAILED");
        assert!(got.body["details"]["field_errors"]["url"].is_array(), "{got:?}");
    };
    for url in [
        "",
        "http://example.com/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/",
        "https://0x7f000001/",
        "file:///etc/passwd",
        "https://me:secret@example.com/",
    ] {
        refuse(url);
    }
    // A name is judged by where it leads when somebody is to be told there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = Program::on(listener, &[]);
    let port = receiver.address.port();
    let made = api.post(HOOKS, json!({"url": format!("https://localhost:{port}/")}));
    let dead = format!("{}/deliveries?state=dead", made.headers["location"].to_str().unwrap());
    api.made("vpc-1");
    until("it lies aside", || api.get(&dead)["count"] != 0);
    let it = api.get(&dead)["results"][0].clone();
    assert!(it["error"].as_str().unwrap().contains("webhooks.private"), "{it}");
    assert_eq!(receiver.connections.load(Ordering::SeqCst), 0, "somebody was there");
    drop(api);

    let api = Api::with(&format!("{OPEN}  attempts_max: 1\n"), &["fabric-1"]);
    let elsewhere = Program::new(&[]);
    let there = format!("302 Found\r\nlocation: {}\r\n", elsewhere.url());
    let receiver = Program::new(&[]);
    receiver.answers.lock().unwrap().push(there);
    let made = api.post(HOOKS, json!({"url": receiver.url(), "events": ["sync_committed"]}));
    let dead = format!("{}/deliveries?state=dead", made.headers["location"].to_str().unwrap());
    api.made("vpc-1");
    until("it lies aside", || api.get(&dead)["count"] != 0);
    let it = api.get(&dead)["results"][0].clone();
    assert!(it["error"].as_str().unwrap().contains("followed"), "{it}");
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0, "it was followed");
}

#[test]
fn what_was_not_even_noted_when_the_agent_was_killed_is_told_by_the_next_start_and_once() {
    let mut api = Api::with(&format!("{OPEN}  attempts_max: 100000\n"), &["fabric-1"]);
    let receiver = Program::new(&[]);
    let id = api.told_at(&receiver.url());
    let kill = |api: &mut Api| {
        signal(&api.agent, Signal::KILL);
        api.agent.0.wait().unwrap();
    };
    api.made("vpc-0");
    // The last word of what was done so far.
    let first = newest(&api);
    while receiver.next_of("sync_completed").json()["operation_id"] != first {}
    let at = format!("{HOOKS}/{id}");
    until("all has arrived", || api.get(&at)["waiting"] == 0);
    kill(&mut api);
    api.start_again();
    // The file of notices cannot be written, so what happens is in the agent's store alone.
    let notices = kept_in(&api).join("notices.jsonl");
    let aside = notices.with_extension("aside");
    std::fs::rename(&notices, &aside).unwrap();
    std::fs::create_dir(&notices).unwrap();
    api.made("vpc-1");
    let operation = newest(&api);
    assert_eq!(api.get(&at)["waiting"], 0, "it was noted");
    kill(&mut api);
    assert!(receiver.received.try_recv().is_err(), "somebody was told before");
    std::fs::remove_dir(&notices).unwrap();
    std::fs::rename(&aside, &notices).unwrap();
    api.start_again();
    for kind in ["sync_started", "sync_committed", "sync_completed"] {
        let it = receiver.next_of(kind).json();
        assert_eq!((&it["type"], &it["operation_id"]), (&json!(kind), &operation), "{it}");
        assert!(it["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{it}");
    }
    until("all has arrived", || api.get(&at)["waiting"] == 0);
    // Another start tells none of it again.
    kill(&mut api);
    api.start_again();
    api.made("vpc-2");
    let it = receiver.next_of("sync_started").json();
    assert_ne!(it["operation_id"], operation, "{it}");
}

/// The newest operation.
fn newest(api: &Api) -> Value {
    api.get("/api/v1/fabrics/fabric-1/sync-operations?limit=1")["results"][0]["id"].clone()
}

/// Where the agent keeps its webhooks.
fn kept_in(api: &Api) -> std::path::PathBuf {
    let mut left = vec![api.world.dir.path().to_owned()];
    while let Some(dir) = left.pop() {
        for it in std::fs::read_dir(&dir).unwrap().map_while(Result::ok) {
            if it.file_name() == "webhooks.json" {
                return dir;
            }
            if it.file_type().unwrap().is_dir() {
                left.push(it.path());
            }
        }
    }
    panic!("there is no webhooks.json");
}

#[test]
fn the_webhooks_of_a_fabric_that_is_removed_go_with_it_whoever_removes_it() {
    let mut api = Api::with(OPEN, &["fabric-1", "fabric-2"]);
    let of = |api: &Api, name: &str| {
        let at = format!("/api/v1/fabrics/{name}/webhooks");
        (at.clone(), api.get(&at)["count"].as_u64().unwrap())
    };
    let asked = json!({"url": "http://127.0.0.1:9/"});
    let told = |api: &Api, name: &str| {
        let made = api.post("/api/v1/fabrics", json!({"name": name}));
        assert_eq!(made.status, 201, "{made:?}");
        let (at, count) = of(api, name);
        assert_eq!(count, 0, "the webhooks of {name} outlived it");
        assert_eq!(api.post(&at, asked.clone()).status, 201);
    };
    api.told_at("http://127.0.0.1:9/");
    told(&api, "fabric-3");
    let at = "/api/v1/fabrics/fabric-3";
    let trial = api.send("DELETE", at, &api.admin, Some(&json!({"dry_run": true})));
    assert_eq!((trial.status, of(&api, "fabric-3").1), (200, 1));
    assert_eq!(api.send("DELETE", at, &api.admin, None).status, 200);
    told(&api, "fabric-3");
    let by_command = |api: &Api| {
        let out = output(&api.world, &["fabric", "remove", "fabric-3"]);
        assert!(out.status.success(), "{}", text(&out));
    };
    by_command(&api);
    told(&api, "fabric-3");
    signal(&api.agent, Signal::TERM);
    api.agent.0.wait().unwrap();
    by_command(&api);
    api.start_again();
    told(&api, "fabric-3");
    assert_eq!(of(&api, "fabric-1").1, 1, "another's went with it");
}

#[test]
fn a_receiver_with_an_authority_of_its_own_is_told_once_the_settings_name_that() {
    let api =
        Api::with(&format!("{OPEN}  attempts_max: 100000\n  ca_file: ca.pem\n"), &["fabric-1"]);
    let dir = api.world.dir.path();
    let Some(()) = authority(dir) else { return };
    let certificates = CertificateDer::pem_file_iter(dir.join("cert.pem")).unwrap();
    let certificates = certificates.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(certificates, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody is believed without it.
    std::fs::rename(dir.join("ca.pem"), dir.join("aside.pem")).unwrap();
    let id = api.told_at(&format!("https://{}/", listener.local_addr().unwrap()));
    api.made("vpc-1");
    let deliveries = format!("{HOOKS}/{id}/deliveries");
    let why = || api.get(&deliveries)["results"][0]["error"].to_string();
    until("it was tried", || why().contains("webhooks.ca_file"));
    std::fs::rename(dir.join("aside.pem"), dir.join("ca.pem")).unwrap();
    loop {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        if let Some(it) = request(&mut stream) {
            assert_eq!(it.json()["fabric"], "fabric-1");
            return;
        }
    }
}
