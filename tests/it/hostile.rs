//! Servers that lie, stall, break off or refuse half-way: an error by its name, soon and small.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use git_intake::push::{
    self, Error, Expect, Options, Outcome, RefStatus, RefUpdate, Retry,
    credentials::{Credentials, Login, Token},
};
use gix::{ObjectId, bstr::BString, bstr::ByteSlice};
use tempfile::TempDir;

use crate::remote::{Auth, PASSWORD, Remote, TOKEN, USER, run};

fn local(bytes: usize) -> (TempDir, ObjectId) {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["init", "--quiet", "-b", "main"]);
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..bytes).map(|_| noise()).collect();
    fs::write(dir.path().join("file"), noise).unwrap();
    run(dir.path(), &["add", "-A"]);
    run(dir.path(), &["commit", "--quiet", "-m", "one"]);
    let id = ObjectId::from_hex(run(dir.path(), &["rev-parse", "HEAD"]).as_bytes()).unwrap();
    (dir, id)
}

fn push_to(
    url: &str,
    (dir, id): &(TempDir, ObjectId),
    options: &mut Options<'_>,
) -> Result<Outcome, Error> {
    let repo = gix::open_opts(dir.path(), gix::open::Options::isolated()).unwrap();
    let url = gix::url::parse(url.as_bytes().as_bstr()).unwrap();
    let name = "refs/heads/main".into();
    let update = RefUpdate { name, new: *id, expect: Expect::FastForward };
    push::push(&repo, &url, &[update], options)
}

/// Plays a git daemon that does as `script` says.
fn daemon(
    script: impl FnOnce(TcpStream) + Send + 'static,
    change: impl FnOnce(&mut Options<'_>),
) -> Result<Outcome, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/x", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || script(listener.accept().unwrap().0));
    let mut options = Options::default();
    change(&mut options);
    let outcome = push_to(&url, &local(100), &mut options);
    server.join().unwrap();
    outcome
}

const NULL: &str = "0000000000000000000000000000000000000000";

fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

fn empty_repository(capabilities: &str) -> Vec<u8> {
    let mut out = line(&format!("{NULL} capabilities^{{}}\0{capabilities}"));
    out.extend(b"0000");
    out
}

/// Takes whatever comes until the other side is done or `bytes` are here.
fn take(stream: &mut TcpStream, bytes: usize) {
    let mut have = 0;
    let mut buffer = [0; 4096];
    while have < bytes {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => have += n,
        }
    }
}

fn says(bytes: Vec<u8>) -> Result<Outcome, Error> {
    daemon(
        move |mut stream| {
            let _ = stream.write_all(&bytes);
            // Half closed: what we say was all, and nothing is reset while it is read.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            take(&mut stream, usize::MAX);
        },
        |_| (),
    )
}

#[test]
fn nonsense_instead_of_references_is_an_error() {
    for bytes in [
        &b"garbage and no length at all"[..],
        b"0003",
        b"ffff",
        b"-001abc",
        b"0010short",
        b"0005\n0000",
        b"000eversion 9\n0000",
        b"003e0123456789012345678901234567890123456789 refs/heads/main\0x",
        b"0009shallo0000",
    ] {
        let answer = says(bytes.to_vec());
        let named = matches!(answer, Err(Error::Protocol { .. } | Error::Broken { .. }));
        assert!(named, "{}: {answer:?}", bytes.as_bstr());
    }
}

#[test]
fn a_remote_that_says_why_is_heard() {
    let answer = says(line("ERR access denied or no such repository"));
    let Err(Error::Remote { message, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(message, "access denied or no such repository");
}

#[test]
fn a_remote_that_is_gone_may_come_back() {
    let err = says(Vec::new()).unwrap_err();
    assert_eq!(err.retry(), Retry::Later, "{err:?}");
}

#[test]
fn another_object_format_is_named() {
    let answer =
        says(line(&format!("{NULL}{} capabilities^{{}}\0object-format=sha256", &NULL[..24])));
    assert!(matches!(answer, Err(Error::ObjectFormat { .. })), "{answer:?}");
}

#[test]
fn endless_references_end_at_the_limit() {
    let answer = daemon(
        |mut stream| {
            let mut n = 0u64;
            while stream.write_all(&line(&format!("{n:040x} refs/heads/b{n}\n"))).is_ok() {
                n += 1;
            }
        },
        |it| it.limits.advertisement_bytes_max = 1 << 20,
    );
    assert!(matches!(answer, Err(Error::Limit { limit_bytes: 1_048_576, .. })), "{answer:?}");
}

#[test]
fn a_silent_remote_is_left() {
    let answer = daemon(
        |mut stream| take(&mut stream, usize::MAX),
        |it| it.deadlines.idle = Duration::from_millis(300),
    );
    let Err(err @ Error::Deadline { .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(err.retry(), Retry::Later);
}

#[test]
fn a_drip_is_stopped_by_the_wall() {
    let answer = daemon(
        |mut stream| {
            while stream.write_all(b"0").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        },
        |it| it.deadlines.wall = Duration::from_millis(50),
    );
    // Four zeros end the references; the drip goes on where the report should be.
    let waited = match &answer {
        Err(Error::Deadline { .. }) => true,
        Ok(outcome) => matches!(outcome.lost, Some(Error::Deadline { .. })),
        Err(_) => false,
    };
    assert!(waited, "{answer:?}");
}

#[test]
fn a_push_stops_when_asked() {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answer = daemon(|mut stream| take(&mut stream, usize::MAX), |it| it.interrupt = Some(flag));
    assert!(matches!(answer, Err(Error::Interrupted)), "{answer:?}");
}

/// Advertises, takes the push, then says `after`.
fn answers(capabilities: &'static str, after: Vec<u8>) -> Result<Outcome, Error> {
    daemon(
        move |mut stream| {
            stream.write_all(&empty_repository(capabilities)).unwrap();
            take(&mut stream, 300);
            let _ = stream.write_all(&after);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            take(&mut stream, usize::MAX);
        },
        |it| it.limits.report_bytes_max = 1 << 20,
    )
}

#[test]
fn a_remote_of_the_first_version_is_understood() {
    let outcome = daemon(
        |mut stream| {
            let mut words = line("version 1\n");
            words.extend(empty_repository("report-status"));
            let _ = stream.write_all(&words);
            take(&mut stream, 300);
            let mut report = line("unpack ok\n");
            report.extend(line("ok refs/heads/main\n"));
            report.extend(b"0000");
            let _ = stream.write_all(&report);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            take(&mut stream, usize::MAX);
        },
        |_| (),
    );
    assert_eq!(outcome.unwrap().refs[0].status, RefStatus::Ok);
}

#[test]
fn a_lost_answer_is_unknown_and_not_an_error() {
    let outcome = answers("report-status side-band-64k", Vec::new()).unwrap();
    assert_eq!(outcome.refs[0].status, RefStatus::Unknown);
    assert!(matches!(outcome.lost, Some(Error::Broken { .. })), "{outcome:?}");
}

#[test]
fn a_report_in_pieces_is_put_together() {
    let mut report = line("unpack ok\n");
    report.extend(line("ok refs/heads/main\n"));
    report.extend(b"0000");
    let mut banded = Vec::new();
    for piece in report.chunks(3) {
        banded.extend(line(&format!("\x01{}", piece.as_bstr())));
        banded.extend(line("\x02half a "));
        banded.extend(line("\x02line\n"));
    }
    banded.extend(b"0000");
    let outcome = answers("report-status side-band-64k", banded).unwrap();
    assert_eq!(outcome.refs[0].status, RefStatus::Ok);
    assert_eq!(outcome.messages[0], "half a line");
}

#[test]
fn a_broken_report_leaves_the_reference_unknown() {
    for after in [
        line("\x01000gxxxx"),
        line("\x07what"),
        line("\x010008nope"),
        line("\x01000eunpack ok\n"),
        b"0001".repeat(10),
        b"fff".to_vec(),
        line("\x03fatal: the disk is full"),
    ] {
        let outcome = answers("report-status side-band-64k", after.clone()).unwrap();
        let unknown = outcome.refs[0].status == RefStatus::Unknown;
        assert!(unknown, "{}: {outcome:?}", after.as_bstr());
    }
}

#[test]
fn endless_messages_end_at_the_limit() {
    let outcome = daemon(
        |mut stream| {
            stream.write_all(&empty_repository("report-status side-band-64k")).unwrap();
            take(&mut stream, 300);
            while stream.write_all(&line("\x02more and more and more\n")).is_ok() {}
        },
        |it| it.limits.report_bytes_max = 1 << 20,
    )
    .unwrap();
    assert!(matches!(outcome.lost, Some(Error::Limit { .. })), "{:?}", outcome.lost);
    let bytes: usize = outcome.messages.iter().map(|it| it.len() + 1).sum();
    assert!(bytes <= 256 << 10, "{bytes}");
}

// Web servers that refuse.

fn web<'a>(
    auth: Auth,
    extra: &str,
    bytes: usize,
    change: impl FnOnce(&mut Options<'a>),
) -> Option<Result<Outcome, Error>> {
    let remote = Remote::web(auth, true, extra)?;
    let mut options = Options::default();
    options.client.ca_file = remote.ca_file.clone();
    change(&mut options);
    Some(push_to(&remote.url, &local(bytes), &mut options))
}

#[test]
fn without_a_login_a_401_is_one() {
    let Some(answer) = web(Auth::Basic, "", 10, |_| ()) else {
        return;
    };
    assert!(matches!(answer, Err(Error::Login { .. })), "{answer:?}");
    let mut wrong = Token(Login::Basic { user: USER.into(), password: "hunter2".into() });
    let answer = web(Auth::Basic, "", 10, |it| it.credentials = Some(&mut wrong)).unwrap();
    let Err(err @ Error::Login { .. }) = answer else { panic!("{answer:?}") };
    assert!(!format!("{err:?} {err}").contains("hunter2"));
    let mut wrong = Token(Login::Bearer("hunter2".into()));
    let answer = web(Auth::Bearer, "", 10, |it| it.credentials = Some(&mut wrong)).unwrap();
    assert!(matches!(answer, Err(Error::Login { .. })), "{answer:?}");
}

/// Answers with a wrong login first, and remembers what it was told.
#[derive(Default)]
struct Scripted {
    asked: usize,
    told: Vec<&'static str>,
}

impl Credentials for Scripted {
    fn get(&mut self, _: &str, asked: &[BString]) -> Result<Option<Login>, push::Cause> {
        assert!(!asked.is_empty());
        self.asked += 1;
        let password = if self.asked == 1 { "wrong" } else { PASSWORD };
        Ok(Some(Login::Basic { user: USER.into(), password: password.into() }))
    }
    fn approve(&mut self) {
        self.told.push("approve");
    }
    fn reject(&mut self) {
        self.told.push("reject");
    }
}

#[test]
fn a_source_of_logins_hears_how_they_went() {
    let mut source = Scripted::default();
    // More than fits one request, so that the streamed body needs the login as well.
    let Some(answer) = web(Auth::Basic, "", 3 << 20, |it| it.credentials = Some(&mut source))
    else {
        return;
    };
    assert!(answer.unwrap().is_ok());
    assert_eq!(source.told, ["reject", "approve"]);
}

#[test]
fn git_credential_helpers_are_asked_and_told() {
    let Some(remote) = Remote::https(Auth::Basic) else {
        return;
    };
    let local = local(10);
    let dir = &local.0;
    let log = dir.path().join("log");
    let helper = format!(
        "!f() {{ echo $1 >> {log}; test $1 = get && echo username={USER} && echo 'password={PASSWORD}'; }}; f",
        log = log.display()
    );
    run(dir.path(), &["config", "credential.helper", &helper]);
    let repo = gix::open(dir.path()).unwrap();
    let mut helpers = push::credentials::Helpers::new(&repo);
    let mut options = Options { credentials: Some(&mut helpers), ..Options::default() };
    options.client.ca_file = remote.ca_file.clone();
    assert!(push_to(&remote.url, &local, &mut options).unwrap().is_ok());
    assert_eq!(fs::read_to_string(log).unwrap(), "get\nstore\n");
}

#[test]
fn a_login_does_not_travel_in_the_clear() {
    let Some(remote) = Remote::http(Auth::Bearer) else {
        return;
    };
    let mut token = Token(Login::Bearer(TOKEN.into()));
    let mut options = Options { credentials: Some(&mut token), ..Options::default() };
    let answer = push_to(&remote.url, &local(10), &mut options);
    assert!(matches!(answer, Err(Error::ClearText { .. })), "{answer:?}");
}

#[test]
fn an_unknown_certificate_is_not_trusted() {
    let Some(answer) = web(Auth::None, "", 10, |it| it.client.ca_file = None) else {
        return;
    };
    assert!(matches!(answer, Err(Error::Certificate { .. })), "{answer:?}");
}

#[test]
fn refusals_are_told_apart() {
    let post = |status| format!("location ~ git-receive-pack$ {{ return {status} 'because'; }}");
    let Some(answer) = web(Auth::None, &post(403), 10, |_| ()) else {
        return;
    };
    assert!(matches!(answer, Err(Error::Forbidden { .. })), "{answer:?}");
    let answer = web(Auth::None, &post(413), 10, |_| ()).unwrap();
    assert!(matches!(answer, Err(Error::TooLarge { .. })), "{answer:?}");
    // All was sent, and a gateway may have lost the answer of who did it.
    let answer = web(Auth::None, &post(502), 10, |_| ()).unwrap().unwrap();
    assert_eq!(answer.refs[0].status, RefStatus::Unknown);
    assert!(matches!(answer.lost, Some(Error::Http { status: 502, .. })), "{answer:?}");
    let answer = web(Auth::None, "location ~ info { return 404; }", 10, |_| ()).unwrap();
    assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    let answer = web(Auth::None, "location ~ info { return 503; }", 10, |_| ()).unwrap();
    assert!(matches!(answer, Err(Error::Http { status: 503, .. })), "{answer:?}");
    let elsewhere = "location ~ info { return 302 https://example.invalid/x$uri; }";
    let answer = web(Auth::None, elsewhere, 10, |_| ()).unwrap();
    assert!(matches!(answer, Err(Error::Redirect { .. })), "{answer:?}");
}

#[test]
fn a_body_too_large_is_refused_by_name() {
    let limit = "client_max_body_size 100k;";
    let Some(answer) = web(Auth::None, limit, 20 << 20, |_| ()) else {
        return;
    };
    assert!(matches!(answer, Err(Error::TooLarge { .. })), "{answer:?}");
}

/// A web server that advertises, lets the probe through, and answers in the middle of the upload.
#[test]
fn an_answer_in_the_middle_of_an_upload_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut references = line("# service=git-receive-pack\n");
        references.extend(b"0000");
        references.extend(empty_repository("report-status"));
        let ok = |kind: &str, body: &[u8]| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-receive-pack-{kind}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        };
        let answers = [ok("advertisement", &references), ok("result", b"")];
        // First it is asked what is there, then whether a body would be let in: one of four bytes.
        for (bytes, asked) in answers.iter().zip(["GET /x/info/refs", "\r\n\r\n0000"]) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = Vec::new();
            while !buffer.contains_str(asked) || !buffer.contains_str("\r\n\r\n") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).unwrap();
                assert!(n > 0, "{asked}: {}", buffer.as_bstr());
                buffer.extend_from_slice(&piece[..n]);
            }
            stream.write_all(bytes).unwrap();
        }
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let n = stream.read(&mut head).unwrap();
        let head = head[..n].to_str_lossy().to_lowercase();
        // Nobody has to say first that it may go on, and no length is known yet.
        assert!(!head.contains("expect:") && head.contains("transfer-encoding: chunked"), "{head}");
        take(&mut stream, 100 << 10);
        let body = "the backend is gone";
        let head = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: ";
        write!(stream, "{head}{}\r\n\r\n{body}", body.len()).unwrap();
        // A reset would take the answer with it; that is the kernel's doing, not the server's.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        take(&mut stream, 4 << 20);
    });
    let answer = push_to(&url, &local(32 << 20), &mut Options::default());
    server.join().unwrap();
    let Err(Error::Http { status: 502, detail, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(detail, "the backend is gone");
}

// ssh

fn over_ssh(remote: &Remote) -> Options<'static> {
    let ssh_command = remote.ssh_command.as_deref().map(Into::into);
    Options { ssh_command, ..Options::default() }
}

#[test]
fn a_wrong_host_key_has_its_own_name() {
    let Some(remote) = Remote::ssh() else { return };
    fs::write(remote.dir.path().join("known"), "").unwrap();
    let mut options = over_ssh(&remote);
    let answer = push_to(&remote.url, &local(10), &mut options);
    assert!(matches!(answer, Err(Error::HostKey { .. })), "{answer:?}");
}

#[test]
fn a_refused_key_is_a_login_that_failed() {
    let Some(remote) = Remote::ssh() else { return };
    fs::write(remote.dir.path().join("authorized"), "").unwrap();
    let mut options = over_ssh(&remote);
    let answer = push_to(&remote.url, &local(10), &mut options);
    assert!(matches!(answer, Err(Error::Login { .. })), "{answer:?}");
}

/// Programs that take ssh's place get the options that they know, and no others.
#[test]
fn each_kind_of_ssh_gets_its_own_options() {
    let local = local(10);
    for (variant, knows_g, port, expected) in [
        ("auto", true, ":22", "-o BatchMode=yes -o ConnectTimeout=30 -p 22 host"),
        ("auto", false, "", "host"),
        ("ssh", false, "", "-o BatchMode=yes -o ConnectTimeout=30 host"),
        ("simple", true, "", "host"),
        ("plink", false, ":22", "-batch -P 22 host"),
        ("tortoiseplink", false, ":22", "-batch -P 22 host"),
    ] {
        let remote = Remote::file();
        let dir = remote.dir.path();
        let (script, log) = (dir.join("carrier"), dir.join("log"));
        // The last word is what is to be run over there, which is here.
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = -G ] && exit {}\nfor last; do :; done\n\
             echo \"${{*% \"$last\"}}\" > {}\nexec sh -c \"$last\"\n",
            if knows_g { 0 } else { 1 },
            log.display()
        );
        fs::write(&script, text).unwrap();
        Command::new("chmod").arg("+x").arg(&script).status().unwrap();
        run(local.0.path(), &["config", "ssh.variant", variant]);
        let ssh_command = Some(script.to_str().unwrap().into());
        let mut options = Options { ssh_command, ..Options::default() };
        let url = format!("ssh://host{port}{}", remote.path.display());
        let outcome = push_to(&url, &local, &mut options).unwrap();
        assert!(outcome.is_ok(), "{outcome:?}");
        let said = fs::read_to_string(log).unwrap();
        let said = said.split(" git-receive-pack").next().unwrap().trim();
        assert_eq!(said, expected, "{variant}");
    }
    run(local.0.path(), &["config", "ssh.variant", "simple"]);
    let answer = push_to("ssh://host:22/x", &local, &mut Options::default());
    assert!(matches!(answer, Err(Error::Unsafe { .. })), "{answer:?}");
}

#[test]
fn a_missing_repository_is_named() {
    let answer = push_to("/nonexistent/x.git", &local(10), &mut Options::default());
    assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    let Some(remote) = Remote::ssh() else { return };
    let mut options = over_ssh(&remote);
    let answer = push_to(&format!("{}x", remote.url), &local(10), &mut options);
    assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
}

#[test]
fn no_part_of_a_url_becomes_an_option_or_a_command() {
    let local = local(10);
    let trap = local.0.path().join("trap");
    for url in [
        format!("ssh://-oProxyCommand=touch${{IFS}}{}/x", trap.display()),
        format!("ssh://-oProxyCommand=touch@host/x{}", trap.display()),
        format!("ssh://127.0.0.1:1/;touch {};", trap.display()),
        format!("ext::touch {}", trap.display()),
        format!("git://127.0.0.1:1/a\n{}", trap.display()),
    ] {
        let Ok(parsed) = gix::url::parse(url.as_bytes().as_bstr()) else {
            continue;
        };
        let repo = gix::open_opts(local.0.path(), gix::open::Options::isolated()).unwrap();
        let name = "refs/heads/main".into();
        let update = RefUpdate { name, new: local.1, expect: Expect::FastForward };
        let answer = push::push(&repo, &parsed, &[update], &mut Options::default());
        assert!(answer.is_err(), "{url}");
    }
    assert!(!trap.exists());
}

#[test]
fn reference_names_are_checked() {
    let local = local(10);
    let repo = gix::open_opts(local.0.path(), gix::open::Options::isolated()).unwrap();
    let url = gix::url::parse("/nonexistent".as_bytes().as_bstr()).unwrap();
    for name in ["main", "refs/heads/a b", "refs/heads/../x", "refs/heads/a\n", "HEAD"] {
        let update = RefUpdate { name: name.into(), new: local.1, expect: Expect::FastForward };
        let answer = push::push(&repo, &url, &[update], &mut Options::default());
        assert!(matches!(answer, Err(Error::Name { .. })), "{name}: {answer:?}");
    }
}

/// A login goes neither to a program nor into what is told.
#[test]
fn a_login_in_an_address_is_seen_by_nobody() {
    let local = local(10);
    let remote = Remote::file();
    let (script, log) = (remote.dir.path().join("ssh"), remote.dir.path().join("log"));
    fs::write(&script, format!("#!/bin/sh\n(echo $*; env) >> {}\nexit 255\n", log.display()))
        .unwrap();
    Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    let ssh_command = Some(script.to_str().unwrap().into());
    let mut options = Options { ssh_command, ..Options::default() };
    for url in ["ssh://me:hunter2@host/x", "http://me:hunter2@127.0.0.1:1/x?key=hunter2"] {
        options.allow_clear_text = true;
        let Err(err) = push_to(url, &local, &mut options) else { panic!("{url}") };
        let mut told = format!("{err} {err:?}");
        let mut cause = std::error::Error::source(&err);
        while let Some(it) = cause {
            told.push_str(&format!(" {it} {it:?}"));
            cause = it.source();
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert!(!fs::read_to_string(log).unwrap().contains("hunter2"));
}

#[test]
fn an_early_death_of_the_other_side_is_explained() {
    let remote = Remote::file();
    let script = remote.dir.path().join("dies");
    fs::write(&script, "#!/bin/sh\necho 'the disk is on fire' >&2; exit 3\n").unwrap();
    Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    let receive_pack = Some(script.to_str().unwrap().into());
    let mut options = Options { receive_pack, ..Options::default() };
    let err = push_to(&remote.url, &local(10), &mut options).unwrap_err();
    assert!(err.to_string().contains("the disk is on fire"), "{err}");
}
