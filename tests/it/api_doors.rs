//! The ways in: TLS, sockets that systemd opened, a socket for a group of users, and small answers.

use crate::agent::{Agent, intake, output, signal, text, until};
use crate::api::Api;
use crate::world::{World, hermetic, vpc};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A world with a fabric and the token of an administrator.
fn founded() -> (World, String) {
    let world = World::in_memory();
    let out = output(&world, &["init", "--fabric", "fabric-1"]);
    assert!(out.status.success(), "{}", text(&out));
    let out = output(&world, &["token", "add", "boss", "--scope", "admin"]);
    (world, String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn configured(world: &World, settings: &str) -> Vec<String> {
    let file = world.dir.path().join("config.yaml");
    std::fs::write(&file, settings).unwrap();
    ["run", "--config", file.to_str().unwrap(), world.work().to_str().unwrap()]
        .map(str::to_owned)
        .to_vec()
}

fn started(world: &World, settings: &str) -> Agent {
    let args = configured(world, settings);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let log = std::fs::File::create(world.dir.path().join("agent.log")).unwrap();
    Agent(intake(world, &args).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Runs a program that may not be installed; none with a word where it is not.
fn tried(program: &str, args: &[&str], dir: &Path) -> Option<Output> {
    match Command::new(program).args(args).current_dir(dir).stdin(Stdio::null()).output() {
        Ok(out) => Some(out),
        Err(_) => {
            eprintln!("notice: {program} is not installed");
            None
        }
    }
}

/// An authority, and a certificate of it for 127.0.0.1; none where openssl is not installed.
pub fn authority(dir: &Path) -> Option<()> {
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let of = |name: &str| format!("/CN={name}");
    let (ca, host) = (of("an authority"), of("agent"));
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let commands: [Vec<&str>; 3] = [
        [&["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", &ca], &ec[..]].concat(),
        [&["req", "-keyout", "key.pem", "-out", "agent.csr", "-subj", &host], &ec[..]].concat(),
        "x509 -req -in agent.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out cert.pem"
            .split(' ')
            .collect(),
    ];
    for it in commands {
        let out = tried("openssl", &it, dir)?;
        assert!(out.status.success(), "{}", text(&out));
    }
    Some(())
}

#[test]
fn tls_is_spoken_with_the_certificate_of_the_settings_and_nothing_else() {
    let (world, token) = founded();
    let dir = world.dir.path();
    let Some(()) = authority(dir) else { return };
    let port = free_port();
    let settings = format!(
        "api:\n  listen: [\"127.0.0.1:{port}\"]\n  tls_cert: cert.pem\n  tls_key: key.pem\n"
    );
    let agent = started(&world, &settings);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(&std::fs::read(dir.join("ca.pem")).unwrap()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let url = format!("https://127.0.0.1:{port}/api/v1/fabrics");
    let get = || client.get(&url).bearer_auth(&token).send();
    until("the API answers over TLS", || get().is_ok_and(|it| it.status() == 200));
    // Whoever does not know the authority, and whoever speaks in the clear, hears nothing.
    let stranger = Client::builder().no_proxy().build().unwrap();
    assert!(stranger.get(&url).bearer_auth(&token).send().is_err());
    let clear = url.replace("https", "http");
    assert!(client.get(clear).bearer_auth(&token).send().is_err());
    // Somebody who never shakes hands is in nobody's way.
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut noise = TcpStream::connect(("127.0.0.1", port)).unwrap();
    noise.write_all(&[0x16, 3, 1, 0xff, 0xff, 0, 0]).unwrap();
    assert_eq!(get().unwrap().status(), 200);
    drop((silent, noise));

    let at = format!("127.0.0.1:{port}");
    let shake = |more: &[&str]| {
        let args =
            ["s_client", "-connect", &at, "-CAfile", "ca.pem", "-verify_return_error", "-brief"];
        tried("openssl", &[&args[..], more].concat(), dir).unwrap()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let out = shake(&[version]);
        assert!(out.status.success() && text(&out).contains("Verification: OK"), "{}", text(&out));
    }
    let old = shake(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    assert!(!old.status.success(), "{}", text(&old));
    let header = format!("Authorization: Bearer {token}");
    let curl = ["-fsS", "--noproxy", "*", "--cacert", "ca.pem", "-H", &header, &url];
    if let Some(out) = tried("curl", &curl, dir) {
        assert!(out.status.success() && text(&out).contains("fabric-1"), "{}", text(&out));
    }
    // A certificate that was renewed is taken up with the settings.
    let before = std::fs::read(dir.join("cert.pem")).unwrap();
    authority(dir).unwrap();
    assert_ne!(std::fs::read(dir.join("cert.pem")).unwrap(), before);
    signal(&agent, rustix::process::Signal::HUP);
    until("the new certificate is shown", || shake(&["-tls1_3"]).status.success());
}

#[test]
fn what_is_not_loopback_needs_tls() {
    let (world, _) = founded();
    let args = configured(&world, "api:\n  listen: [\"0.0.0.0:0\"]\n");
    let out = output(&world, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("tokens would cross the network in the clear"), "{}", text(&out));
    let args = configured(
        &world,
        "api:\n  listen: [\"127.0.0.1:0\"]\n  tls_cert: none.pem\n  tls_key: none.pem\n",
    );
    let out = output(&world, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!out.status.success() && text(&out).contains("none.pem"), "{}", text(&out));
}

#[test]
fn sockets_that_systemd_opened_are_served_over_every_reload() {
    let (world, token) = founded();
    let (port, socket) = (free_port(), world.dir.path().join("given.sock"));
    let args = configured(&world, "api:\n  peers: write\n");
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &address, "-l", socket.to_str().unwrap()]);
    for (name, value) in hermetic() {
        command.arg("-E").arg(format!("{name}={value}"));
    }
    command.arg(env!("CARGO_BIN_EXE_git-intake")).args(&args).current_dir(world.work());
    let log = std::fs::File::create(world.dir.path().join("agent.log")).unwrap();
    let Ok(child) = command.stdout(Stdio::null()).stderr(log).spawn() else {
        return eprintln!("notice: systemd-socket-activate is not installed");
    };
    let agent = Agent(child);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tcp = Client::builder().no_proxy().build().unwrap();
    let unix = Client::builder().no_proxy().unix_socket(socket.clone()).build().unwrap();
    let by_token = || {
        let url = format!("http://{address}/api/v1/fabrics");
        tcp.get(url).bearer_auth(&token).send().is_ok_and(|it| it.status() == 200)
    };
    let by_user =
        || unix.get("http://agent/api/v1/fabrics").send().is_ok_and(|it| it.status() == 200);
    until("the socket of the network is served", by_token);
    until("the socket of the host is served", by_user);
    for _ in 0..2 {
        signal(&agent, rustix::process::Signal::HUP);
        // Nobody is turned away meanwhile: systemd's socket is open all the time.
        let body = json!({"fabric": "fabric-1", "content": vpc("vpc-1"), "dry_run": true});
        until("a reload is over", || {
            TcpStream::connect(&address).expect("the socket is always open");
            let url = "http://agent/api/v1/resources";
            unix.post(url).json(&body).send().is_ok_and(|it| it.status() == 200)
        });
    }
    drop(agent);
    assert!(socket.exists(), "it is systemd's, and stays");
}

#[test]
fn a_socket_for_a_group_lets_its_members_do_what_the_settings_say() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("notice: only root can be somebody else");
    }
    let (world, _) = founded();
    let dir = world.dir.path();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    let socket = dir.join("users.sock");
    let path = socket.to_str().unwrap().to_owned();
    // Of a group that user and agent share, and somebody of no such group.
    let ask = |group: &str, more: &[&str]| -> Option<(Output, Value)> {
        let who = ["--reuid=65534", &format!("--regid={group}"), "--clear-groups"];
        let curl = ["curl", "-sS", "--unix-socket", &path, "-H", "Content-Type: application/json"];
        let out = tried("setpriv", &[&who[..], &curl[..], more].concat(), Path::new("/"))?;
        let body = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        Some((out, body))
    };
    let settings = |peers: &str| format!("api:\n  socket: users.sock\n  peers: {peers}\n");
    let agent = started(&world, &settings("read"));
    until("the socket is there", || {
        std::fs::metadata(&socket).is_ok_and(|it| it.file_type().is_socket())
    });
    let fabrics = "http://agent/api/v1/fabrics";
    let Some((out, _)) = ask("65534", &[fabrics]) else { return };
    if text(&out).contains("No such file") {
        return eprintln!("notice: curl is not installed");
    }
    assert!(!out.status.success(), "a stranger came in: {}", text(&out));
    until("a member looks", || ask("0", &[fabrics]).unwrap().1["count"] == 1);
    let text_of = json!({"fabric": "fabric-1", "content": vpc("vpc-1")}).to_string();
    let make = ["-d", &text_of, "http://agent/api/v1/resources"];
    assert_eq!(ask("0", &make).unwrap().1["error_code"], "PERMISSION_DENIED");
    // The settings give more, and the commit names who it was.
    configured(&world, &settings("write"));
    signal(&agent, rustix::process::Signal::HUP);
    until("a member writes", || ask("0", &make).unwrap().1["commit_id"].is_string());
    let actor = world.git(&["log", "-1", "--format=%(trailers:key=Intake-Actor,valueonly)"]);
    assert_eq!(actor.trim(), "nobody");
    configured(&world, &settings("none"));
    signal(&agent, rustix::process::Signal::HUP);
    until("a member needs a token", || {
        ask("0", &[fabrics]).unwrap().1["error_code"] == "AUTHENTICATION_REQUIRED"
    });
}

#[test]
fn answers_are_small_for_whoever_asks_so() {
    let api = Api::new();
    api.made("vpc-1");
    let url = format!("{}/api/v1/openapi.json", api.base);
    let plain = api.client.get(&url).send().unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.bytes().unwrap();
    let small = api.client.get(&url).header("Accept-Encoding", "gzip").send().unwrap();
    assert_eq!(small.headers()["content-encoding"], "gzip");
    assert_eq!(small.headers()["vary"], "accept-encoding");
    let small = small.bytes().unwrap();
    assert!(small.len() * 5 < plain.len(), "{} of {}", small.len(), plain.len());
    let mut unpack = Command::new("gzip");
    let mut child = unpack.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || to.write_all(&small));
    let out = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(out.stdout, plain);
}
