//! What git's settings say of http, obeyed against real servers: certificates, headers, proxies,
//! speeds, versions.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use git_intake::push::{self, Error, Expect, Options, Outcome, RefUpdate};
use gix::{ObjectId, bstr::ByteSlice};
use tempfile::TempDir;

use crate::{
    remote::{Auth, ENVIRONMENT, Remote, TOKEN, run},
    shim::shim,
};

/// A repository with one commit and settings of its own.
struct Local(TempDir);

impl Local {
    fn new(settings: &[(&str, &str)]) -> Local {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &["init", "--quiet", "-b", "main"]);
        fs::write(dir.path().join("file"), "one\n").unwrap();
        run(dir.path(), &["add", "-A"]);
        run(dir.path(), &["commit", "--quiet", "-m", "one"]);
        for (key, value) in settings {
            run(dir.path(), &["config", "--add", key, value]);
        }
        Local(dir)
    }

    fn push(&self, url: &str) -> Result<Outcome, Error> {
        let repo = gix::open_opts(self.0.path(), gix::open::Options::isolated()).unwrap();
        let url = gix::url::parse(url.as_bytes().as_bstr()).unwrap();
        let id = run(self.0.path(), &["rev-parse", "HEAD"]);
        let new = ObjectId::from_hex(id.as_bytes()).unwrap();
        let update = RefUpdate { name: "refs/heads/main".into(), new, expect: Expect::FastForward };
        push::push(&repo, &url, &[update], &mut Options::default())
    }

    /// Pushes in a process with variables of its own.
    fn push_with(&self, url: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(shim());
        command.args(["--porcelain", url, "main"]).current_dir(self.0.path());
        command.env_remove("GIT_SSL_CAINFO");
        command.envs(ENVIRONMENT).envs(variables.iter().copied());
        command.output().unwrap()
    }
}

fn pushed(local: &Local, remote: &Remote) {
    let outcome = local.push(&remote.url).unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
    remote.git(&["fsck", "--strict"]);
    assert!(remote.value("refs/heads/main").is_some());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_certificate_is_trusted_where_the_settings_say_so() {
    let Some(remote) = Remote::https(Auth::None) else { return };
    let ca = remote.ca_file.clone().unwrap();
    let host = remote.url.strip_suffix("/repo.git").unwrap();
    pushed(&Local::new(&[(&format!("http.{host}.sslCAInfo"), text(&ca))]), &remote);
    let elsewhere = Local::new(&[("http.https://example.com.sslCAInfo", text(&ca))]);
    let answer = elsewhere.push(&remote.url);
    assert!(matches!(answer, Err(Error::Certificate { .. })), "{answer:?}");
    let missing = Local::new(&[("http.sslCAInfo", "/nonexistent/ca.pem")]);
    let answer = missing.push(&remote.url);
    assert!(matches!(answer, Err(Error::Setup { .. })), "{answer:?}");
}

#[test]
fn a_certificate_is_not_checked_where_the_settings_say_so() {
    let Some(remote) = Remote::https(Auth::None) else { return };
    let host = remote.url.strip_suffix("/repo.git").unwrap();
    pushed(&Local::new(&[(&format!("http.{host}.sslVerify"), "false")]), &remote);
    // Of two settings the one for this address counts.
    let strict = [("http.sslVerify", "false"), (&format!("http.{host}.sslVerify"), "true")];
    let answer = Local::new(&strict).push(&remote.url);
    assert!(matches!(answer, Err(Error::Certificate { .. })), "{answer:?}");
    let by_variable = Local::new(&[])
        .push_with(&remote.url, &[("GIT_SSL_NO_VERIFY", "1"), ("SSH_AUTH_SOCK", "")]);
    assert!(by_variable.status.success(), "{by_variable:?}");
}

#[test]
fn the_systems_certificates_are_read_where_one_is_to_be_judged() {
    let (Some(plain), Some(remote)) = (Remote::http(Auth::None), Remote::https(Auth::None)) else {
        return;
    };
    let none = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let output = Local::new(&[]).push_with(&plain.url, &none);
    assert!(output.status.success(), "{output:?}");
    let ca = remote.ca_file.clone().unwrap();
    let output = Local::new(&[("http.sslCAInfo", text(&ca))]).push_with(&remote.url, &none);
    assert!(output.status.success(), "{output:?}");
    let output = Local::new(&[]).push_with(&remote.url, &none);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("No CA certificates"), "{said}");
}

#[test]
fn headers_of_the_settings_go_with_every_request() {
    let Some(remote) = Remote::https(Auth::Bearer) else { return };
    let host = remote.url.strip_suffix("/repo.git").unwrap();
    let ca = remote.ca_file.clone().unwrap();
    let header = format!("Authorization: Bearer {TOKEN}");
    let trusting = ("http.sslCAInfo", text(&ca));
    pushed(&Local::new(&[trusting, (&format!("http.{host}.extraHeader"), &header)]), &remote);
    let taken_back = [trusting, ("http.extraHeader", header.as_str()), ("http.extraHeader", "")];
    let answer = Local::new(&taken_back).push(&remote.url);
    assert!(matches!(answer, Err(Error::Login { .. })), "{answer:?}");
}

#[test]
fn the_version_of_http_is_the_one_of_the_settings() {
    for (version, seen) in [("HTTP/2", "HTTP/2.0"), ("HTTP/1.1", "HTTP/1.1")] {
        let Some(remote) = Remote::https(Auth::None) else { return };
        let ca = remote.ca_file.clone().unwrap();
        let settings = [("http.sslCAInfo", text(&ca)), ("http.version", version)];
        pushed(&Local::new(&settings), &remote);
        let log = fs::read_to_string(remote.dir.path().join("access.log")).unwrap();
        assert!(log.lines().count() >= 2 && log.lines().all(|it| it.contains(seen)), "{log}");
    }
}

/// A proxy that carries what it is asked to carry: tunnels, and plain requests.
struct Proxy {
    port: u16,
    carried: Arc<AtomicUsize>,
}

impl Proxy {
    /// `login` is the value of `Proxy-Authorization` that it wants.
    fn start(login: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let carried = Arc::new(AtomicUsize::new(0));
        let count = carried.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let count = count.clone();
                std::thread::spawn(move || carry(client, login, &count));
            }
        });
        Proxy { port, carried }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }
}

fn carry(mut client: TcpStream, login: Option<&str>, count: &AtomicUsize) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let known = login.is_none_or(|it| head.to_lowercase().contains(&it.to_lowercase()));
    if !known {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let _ = client.write_all(refusal.as_bytes());
        return;
    }
    count.fetch_add(1, Ordering::SeqCst);
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let tunnel = head.starts_with("CONNECT ");
    let authority = if tunnel {
        target.clone()
    } else {
        target.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned()
    };
    let mut server = TcpStream::connect(authority).unwrap();
    if tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        // One request a connection, so that the next one comes to be counted too.
        let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        server.write_all(head.as_bytes()).unwrap();
    }
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_proxy_of_the_settings_is_used_for_its_address() {
    for tls in [false, true] {
        let Some(remote) = Remote::web(Auth::None, tls, "") else { return };
        let ca = remote.ca_file.as_deref().map_or("", text).to_owned();
        let host = remote.url.strip_suffix("/repo.git").unwrap().to_owned();
        let (used, unused) = (Proxy::start(None), Proxy::start(None));
        let settings = [
            ("http.sslCAInfo", ca.as_str()),
            ("http.proxy", &unused.url()),
            (&format!("http.{host}.proxy"), &used.url()),
        ];
        pushed(&Local::new(&settings), &remote);
        assert!(used.carried() > 0 && unused.carried() == 0, "tls {tls}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_no_connection() {
    let Some(remote) = Remote::http(Auth::None) else { return };
    let answer = Local::new(&[("http.proxy", "http://127.0.0.1:1")]).push(&remote.url);
    assert!(matches!(answer, Err(Error::Connect { .. })), "{answer:?}");
    let answer = Local::new(&[("http.proxy", "ftp://127.0.0.1:1")]).push(&remote.url);
    assert!(matches!(answer, Err(Error::Setup { .. })), "{answer:?}");
    // Empty means none, whatever else is said.
    pushed(&Local::new(&[("http.proxy", "http://127.0.0.1:1"), ("http.proxy", "")]), &remote);
}

#[test]
fn a_proxy_may_want_a_login_which_nobody_sees() {
    let Some(remote) = Remote::https(Auth::None) else { return };
    let ca = remote.ca_file.clone().unwrap();
    // base64 of me:hunter2
    let proxy = Proxy::start(Some("Proxy-Authorization: Basic bWU6aHVudGVyMg=="));
    let with = |login: &str| format!("http://{login}127.0.0.1:{}", proxy.port);
    let settings = |url: String| Local::new(&[("http.sslCAInfo", text(&ca)), ("http.proxy", &url)]);
    pushed(&settings(with("me:hunter2@")), &remote);
    let answer = settings(with("me:hunter3@")).push(&remote.url);
    let Err(err @ Error::Connect { .. }) = answer else { panic!("{answer:?}") };
    let told = format!("{err} {err:?} {:?}", std::error::Error::source(&err));
    assert!(!told.contains("hunter3"), "{told}");
}

#[test]
fn a_proxy_of_the_environment_is_used_but_for_hosts_it_excepts() {
    let Some(remote) = Remote::https(Auth::None) else { return };
    let ca = remote.ca_file.clone().unwrap();
    let proxy = Proxy::start(None);
    let url = proxy.url();
    let trusting = ("GIT_SSL_CAINFO", text(&ca));
    let excepted = [trusting, ("https_proxy", url.as_str()), ("no_proxy", "localhost")];
    let output = Local::new(&[]).push_with(&remote.url, &excepted);
    assert!(output.status.success() && proxy.carried() == 0, "{output:?}");
    let used = [trusting, ("https_proxy", url.as_str())];
    let output = Local::new(&[]).push_with(&remote.url, &used);
    assert!(output.status.success() && proxy.carried() > 0, "{output:?}");
    let before = proxy.carried();
    // A proxy of the settings knows the same exceptions.
    let excepted = [trusting, ("NO_PROXY", "localhost")];
    let output = Local::new(&[("http.proxy", &url)]).push_with(&remote.url, &excepted);
    assert!(output.status.success() && proxy.carried() == before, "{output:?}");
}

#[test]
fn a_server_slower_than_the_settings_allow_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\
                    Content-Type: application/x-git-receive-pack-advertisement\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // Never silent for long, and never done: a deadline between bytes does not help.
        let _ = stream.write_all(b"fff0");
        while stream.write_all(b"#").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let local = Local::new(&[("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "1")]);
    let answer = local.push(&url);
    assert!(matches!(answer, Err(Error::Slow { .. })), "{answer:?}");
}

#[test]
fn a_fast_server_with_a_slow_hook_is_not_too_slow() {
    let Some(remote) = Remote::http(Auth::None) else { return };
    remote.hook("pre-receive", "sleep 0.3");
    pushed(&Local::new(&[("http.lowSpeedLimit", "1"), ("http.lowSpeedTime", "2")]), &remote);
}
