//! The events of the door for programs: told in order, resumed where a client broke off, and no matter
//! to a lane however many follow and however slowly.

use crate::agent::{on_remote, signal, until};
use crate::api::Api;
use crate::world::vpc;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes; it only ends a test that has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One message of a stream.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

/// A client that follows the events, as a browser's `EventSource` does.
pub struct Follower {
    messages: Receiver<Message>,
}

impl Follower {
    pub fn open(api: &Api, path: &str, token: &str, last: Option<&str>) -> Follower {
        let client = reqwest::blocking::Client::builder().no_proxy().timeout(None).build().unwrap();
        let mut request = client.get(format!("{}{path}", api.base)).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Message::default();
            // A connection that breaks is the end, like any other.
            for line in BufReader::new(answer).lines().map_while(Result::ok) {
                match line.split_once(": ") {
                    Some(("id", it)) => it.clone_into(&mut message.id),
                    Some(("event", it)) => it.clone_into(&mut message.kind),
                    Some(("data", it)) => message.data = serde_json::from_str(it).unwrap(),
                    _ if line.is_empty() && !message.kind.is_empty() => {
                        let sent = sender.send(std::mem::take(&mut message));
                        if sent.is_err() {
                            return;
                        }
                    }
                    _ => (),
                }
            }
        });
        Follower { messages }
    }

    #[track_caller]
    pub fn next(&self) -> Message {
        self.messages.recv_timeout(PATIENCE).expect("nothing more came")
    }

    /// The next message of this type; what comes before it is let go.
    #[track_caller]
    pub fn next_of(&self, kind: &str) -> Message {
        loop {
            let it = self.next();
            if it.kind == kind {
                return it;
            }
        }
    }

    /// What comes until the stream ends.
    #[track_caller]
    fn rest(&self) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            match self.messages.recv_timeout(PATIENCE) {
                Ok(it) => all.push(it),
                Err(RecvTimeoutError::Disconnected) => return all,
                Err(RecvTimeoutError::Timeout) => panic!("the stream does not end: {all:?}"),
            }
        }
    }
}

const EVENTS: &str = "/api/v1/events";

#[test]
fn what_happens_is_told_in_order_and_again_from_where_a_client_broke_off() {
    let api = Api::new();
    until("all is sent", || {
        let it = &api.get("/api/v1/repositories")["results"][0];
        it["head"].is_string() && it["head"] == it["remote_head"]
    });
    let follower = Follower::open(&api, EVENTS, &api.admin, None);
    assert_eq!(follower.next().kind, "ready");
    let id = api.made("vpc-1");
    let started = follower.next_of("sync_started");
    let operation = started.data["operation_id"].as_str().unwrap().to_owned();
    assert_eq!(started.data["operation_type"], "record_to_git");
    assert_eq!(started.data["trigger"], "api");
    assert_eq!(started.data["actor"], "boss");
    assert_eq!(started.data["fabric"], "fabric-1");
    let committed = follower.next_of("sync_committed");
    let completed = follower.next_of("sync_completed");
    for it in [&committed, &completed] {
        assert_eq!(it.data["operation_id"], operation.as_str());
        assert_eq!(it.data["commit_id"], api.world.git(&["rev-parse", "HEAD"]).trim());
        assert_eq!(it.data["id"], it.id.as_str());
        assert_eq!(it.data["type"], it.kind.as_str());
    }
    drop(follower);

    // Meanwhile a drop is refused, and a resource gets a conflict that is then decided.
    api.world.drop("wrong.yaml", "kind: [");
    let rejected = || api.get("/api/v1/fabrics/fabric-1")["rejected"] == 1;
    until("the drop is rejected", || {
        rejected() || api.world.raw("wrong.yaml.rejected.txt").exists()
    });
    let at = format!("/api/v1/resources/{id}");
    let blob = api.get(&at)["desired"]["blob_id"].clone();
    let change = json!({"set": {"spec.subnets.default.vlan": 1002}});
    assert_eq!(api.send("PATCH", &at, &api.admin, Some(&change)).status, 200);
    let late = json!({"content": vpc("vpc-1").replace("1001", "1003"), "base": blob});
    api.send("PUT", &at, &api.admin, Some(&late)).refused(409, "CONFLICT_DETECTED");
    let decided =
        api.post(&format!("/api/v1/conflicts/{id}/resolve"), json!({"strategy": "git_wins"}));
    assert_eq!(decided.status, 200, "{decided:?}");

    let follower = Follower::open(&api, EVENTS, &api.admin, Some(&completed.id));
    let ready = follower.next();
    assert_eq!((ready.kind.as_str(), ready.id.as_str()), ("ready", completed.id.as_str()));
    let mut kinds = Vec::new();
    let mut numbers = vec![number(&completed.id)];
    while kinds.last().is_none_or(|it| it != "conflict_resolved") {
        let it = follower.next();
        numbers.push(number(&it.id));
        match it.kind.as_str() {
            "file_rejected" => {
                let path = it.data["path"].as_str().unwrap();
                // What was kept of the conflict lies in raw/ too.
                assert!(path == "wrong.yaml" || path.starts_with("conflict-"), "{path}");
                assert!(it.data["message"].is_string(), "{it:?}");
            }
            "conflict_detected" => assert_eq!(it.data["resource_id"], id.as_str()),
            _ => (),
        }
        kinds.push(it.kind);
    }
    // None was left out, and none came twice.
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    for kind in ["file_rejected", "sync_completed", "conflict_detected"] {
        assert!(kinds.iter().any(|it| it == kind), "{kind}: {kinds:?}");
    }
    // Only what was asked for, the old as well as the new.
    let path = format!("{EVENTS}?type=file_rejected,conflict_resolved&fabric=fabric-1");
    let some = Follower::open(&api, &path, &api.admin, Some(&completed.id));
    assert_eq!(some.next().kind, "ready");
    assert_eq!(some.next().data["path"], "wrong.yaml");
    let kinds = [some.next().kind, some.next().kind];
    assert_eq!(kinds, ["file_rejected", "conflict_resolved"]);
    for wrong in ["type=nonsense", "colour=red", "type="] {
        let path = format!("{EVENTS}?{wrong}");
        api.send("GET", &path, &api.admin, None).refused(400, "VALIDATION_FAILED");
    }
    let path = format!("{EVENTS}?fabric=none");
    api.send("GET", &path, &api.admin, None).refused(404, "FABRIC_NOT_FOUND");
}

fn number(id: &str) -> u64 {
    id.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[test]
fn a_client_of_an_earlier_start_is_told_that_it_may_have_missed_events() {
    let api = Api::new();
    let follower = Follower::open(&api, EVENTS, &api.admin, None);
    let before = follower.next().id;
    // All is begun anew with the settings, which ends every stream.
    signal(&api.agent, Signal::HUP);
    follower.rest();
    until("the API is back", || {
        api.client.get(format!("{}/readyz", api.base)).send().is_ok_and(|it| it.status() == 200)
    });
    api.made("vpc-1");
    for last in [&before, "nonsense", "0"] {
        let follower = Follower::open(&api, EVENTS, &api.admin, Some(last));
        let ready = follower.next();
        assert_eq!((ready.kind.as_str(), number(&ready.id)), ("ready", 0));
        let missed = follower.next();
        assert_eq!((missed.kind.as_str(), &missed.data["count"]), ("missed", &Value::Null));
        // All that is known of this start follows.
        assert_eq!(number(&follower.next().id), 1);
        let completed = follower.next_of("sync_completed");
        assert!(!completed.id.starts_with(before.split('-').next().unwrap()));
    }
}

#[test]
fn the_streams_end_with_the_agent_and_do_not_hold_it_up() {
    let mut api = Api::new();
    let followers: Vec<Follower> =
        (0..20).map(|_| Follower::open(&api, EVENTS, &api.admin, None)).collect();
    followers.iter().for_each(|it| assert_eq!(it.next().kind, "ready"));
    let begun = Instant::now();
    signal(&api.agent, Signal::TERM);
    followers.iter().for_each(|it| drop(it.rest()));
    assert!(api.agent.0.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_token_hears_of_the_fabrics_it_reaches_and_of_nothing_once_it_is_revoked() {
    let api = Api::with("", &["fabric-1", "fabric-2"]);
    let token = api.token(&["two", "--fabric", "fabric-2"]);
    let path = format!("{EVENTS}?fabric=fabric-1");
    api.send("GET", &path, &token, None).refused(403, "PERMISSION_DENIED");
    let follower = Follower::open(&api, EVENTS, &token, None);
    assert_eq!(follower.next().kind, "ready");
    let make = |fabric: &str, name: &str| {
        let got = api.post("/api/v1/resources", json!({"fabric": fabric, "content": vpc(name)}));
        assert_eq!(got.status, 201, "{got:?}");
        got.body["operation_id"].clone()
    };
    make("fabric-1", "vpc-1");
    let operation = make("fabric-2", "vpc-2");
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|it| it != "sync_completed") {
        let it = follower.next();
        assert_eq!(it.data["fabric"], "fabric-2");
        if it.data["operation_id"] == operation {
            kinds.push(it.kind);
        }
    }
    assert_eq!(kinds, ["sync_started", "sync_committed", "sync_completed"]);
    let out = crate::agent::output(&api.world, &["token", "revoke", "two"]);
    assert!(out.status.success());
    let operation = make("fabric-2", "vpc-3");
    assert!(follower.rest().iter().all(|it| it.data["operation_id"] != operation));
}

#[test]
fn more_streams_than_the_settings_allow_are_refused_until_one_ends() {
    let api = Api::with("  streams_max: 2\n", &["fabric-1"]);
    let first = Follower::open(&api, EVENTS, &api.admin, None);
    let second = Follower::open(&api, EVENTS, &api.admin, None);
    let refused = api.send("GET", EVENTS, &api.admin, None);
    refused.refused(503, "UNAVAILABLE");
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.body["error"].as_str().unwrap().contains("api.streams_max"), "{refused:?}");
    let metrics = api.get("/metrics");
    assert!(metrics.as_str().unwrap().contains("git_intake_api_event_streams 2"), "{metrics}");
    drop(first);
    // Its thread hears of the end with the next message, and hangs up.
    api.made("vpc-1");
    let (mut third, mut n) = (None, 1);
    until("there is room again", || {
        n += 1;
        api.made(&format!("vpc-{n}"));
        let url = format!("{}{EVENTS}", api.base);
        let answer = api.client.get(url).bearer_auth(&api.admin).send().unwrap();
        let open = answer.status() == 200;
        third = open.then_some(answer);
        open
    });
    drop((second, third));
}

#[test]
fn a_client_that_reads_nothing_misses_events_and_slows_nobody() {
    let api = Api::with("  events_kept: 50\n", &["fabric-1"]);
    let socket = api.world.work().join(".git/intake/state/agent.sock");
    let mut asleep = UnixStream::connect(socket).unwrap();
    asleep.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: agent\r\n\r\n").unwrap();
    let mut first = [0; 12];
    asleep.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // Long names and reasons, so that a socket holds few of them.
    let name = "n".repeat(200);
    for round in 0..40 {
        for n in 0..60 {
            api.world.drop(&format!("{name}-{n}.yaml"), format!("kind: [{round}"));
        }
        // The lane goes on while nobody reads.
        api.made(&format!("vpc-{round}"));
    }
    asleep.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut read = Vec::new();
    let mut some = [0; 64 << 10];
    until("the client is told", || {
        let n = asleep.read(&mut some).unwrap();
        assert!(n > 0, "the stream ended");
        read.extend_from_slice(&some[..n]);
        String::from_utf8_lossy(&read).contains("event: missed")
    });
    let text = String::from_utf8_lossy(&read).into_owned();
    let (_, missed) = text.split_once("event: missed\ndata: ").unwrap();
    let missed: Value = serde_json::from_str(missed.lines().next().unwrap()).unwrap();
    assert!(missed["count"].as_u64().unwrap() > 0, "{missed}");
    assert!(on_remote(&api.world, "managed/vpcs/vpc-39.yaml"));
}
