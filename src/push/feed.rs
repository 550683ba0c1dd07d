//! Any bytes whatever, fed to everything that reads a remote: property tests and fuzzers call this.
//!
//! What must hold: it ends, nothing panics, and what is kept is no more than what came.
#![allow(clippy::disallowed_methods, clippy::expect_used, missing_docs)]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use gix::bstr::ByteSlice;

use super::{
    Deadlines, Expect, Limits, Options, RefStatus, RefUpdate, advertisement, line::Lines, report,
};

/// As a remote's first words.
pub fn advertisement(bytes: &[u8]) {
    for smart_http in [false, true] {
        for hash in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
            let mut lines = Lines::new(bytes, "the references", bytes.len() as u64);
            let Ok(it) = advertisement::read(&mut lines, "url", hash, smart_http) else { continue };
            let names: usize = it.refs.keys().map(|it| it.len()).sum();
            assert!(names <= bytes.len() && it.tips().count() * hash.len_in_hex() <= bytes.len());
            assert!(it.tips().chain(it.shallow.iter().copied()).all(|it| it.kind() == hash));
        }
    }
}

/// As a remote's last words.
pub fn report(bytes: &[u8]) {
    for sideband in [false, true] {
        let mut lines = Lines::new(bytes, "the report", bytes.len() as u64);
        let mut heard = 0;
        let mut emit = |text: &[u8], _: bool| heard += text.len();
        let read = report::read(&mut lines, "url", sideband, &mut emit);
        assert!(heard <= bytes.len());
        let Ok(it) = read else { continue };
        let kept = it
            .refs
            .iter()
            .map(|it| it.name.len() + it.options.iter().map(|it| it.len()).sum::<usize>());
        assert!(kept.sum::<usize>() <= bytes.len());
    }
}

/// A server on this machine that says what it is given, and a repository to push from.
pub struct Remote {
    script: Arc<Mutex<Vec<Vec<u8>>>>,
    url: gix::Url,
    repo: gix::ThreadSafeRepository,
    update: RefUpdate,
    _dir: tempfile::TempDir,
}

/// Stands between what is said in one connection and in the next, and on a stream between what is
/// said before and after the commands.
const NEXT: &[u8] = b"\xff\xff";

impl Remote {
    /// `scheme` is `git` or `http`.
    pub fn start(scheme: &str) -> Remote {
        let dir = tempfile::tempdir().expect("there is room");
        let repo = gix::init(dir.path()).expect("it can be made");
        let tree = repo.empty_tree().id;
        let who = gix::actor::SignatureRef { name: "c".into(), email: "c".into(), time: "1 +0000" };
        let commit =
            repo.commit_as(who, who, "refs/heads/main", "x", tree, gix::commit::NO_PARENT_IDS);
        let new = commit.expect("it can be written").detach();
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it has one");
        let script = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
        let said = script.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let next = said.lock().expect("nobody panics").pop();
                let Some(words) = next else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                let mut asked = [0; 4096];
                for words in words.split_str(NEXT) {
                    // What is asked does not matter, but an answer comes after it.
                    let _ = stream.read(&mut asked);
                    let _ = stream.write_all(words);
                }
                let _ = stream.shutdown(Shutdown::Write);
                while stream.read(&mut asked).is_ok_and(|n| n > 0) {}
            }
        });
        let url = format!("{scheme}://{address}/x");
        let url = gix::url::parse(url.as_bytes().as_bstr()).expect("it is one");
        let update = RefUpdate { name: "refs/heads/main".into(), new, expect: Expect::Force };
        Remote { script, url, repo: repo.into_sync(), update, _dir: dir }
    }

    /// A push to a server that says this. On http, `0xff 0xff` ends one connection.
    pub fn push(&self, bytes: &[u8]) {
        let web = self.url.scheme == gix::url::Scheme::Http;
        let mut script: Vec<_> = match web {
            true => bytes.split_str(NEXT).map(<[u8]>::to_vec).collect(),
            false => vec![bytes.to_vec()],
        };
        script.reverse();
        *self.script.lock().expect("nobody panics") = script;
        let second = Duration::from_secs(1);
        let mut options = Options {
            deadlines: Deadlines { connect: second, idle: second, wall: 2 * second },
            limits: Limits {
                advertisement_bytes_max: 1 << 20,
                report_bytes_max: 1 << 20,
                messages_bytes_max: 1 << 16,
            },
            ..Options::default()
        };
        options.client.no_environment = true;
        let updates = [self.update.clone()];
        let answer = super::push(&self.repo.to_thread_local(), &self.url, &updates, &mut options);
        if let Ok(outcome) = answer {
            let kept: usize = outcome.messages.iter().map(|it| it.len() + 1).sum();
            assert!(kept <= 1 << 16);
            // Only a remote that says so has moved a reference.
            let claimed = |word: &str| bytes.contains_str(word);
            match &outcome.refs[0].status {
                RefStatus::Ok => assert!(claimed("ok refs/heads/main"), "{outcome:?}"),
                RefStatus::Refused(_) => assert!(claimed("ng refs/heads/main"), "{outcome:?}"),
                RefStatus::UpToDate => assert!(claimed(&self.update.new.to_string())),
                RefStatus::Rejected(_) | RefStatus::Unknown => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many are tried; `PUSH_FEED_TIMES` makes it so many times more.
    fn cases(usual: u32) -> u32 {
        let times = std::env::var("PUSH_FEED_TIMES").ok().and_then(|it| it.parse().ok());
        usual.saturating_mul(times.unwrap_or(1))
    }

    const ID: &str = "1234567890123456789012345678901234567890";

    /// One line as a remote might say it, or nearly.
    fn spoken() -> impl Strategy<Value = Vec<u8>> {
        let words = prop_oneof![
            Just(format!("{ID} refs/heads/main\0report-status side-band-64k object-format=sha1")),
            Just(format!("{ID} refs/heads/main\0object-format=sha256")),
            Just(format!("{ID} refs/heads/other\n")),
            Just(format!("{ID} .have")),
            Just(format!("shallow {ID}")),
            Just(format!("{} capabilities^{{}}\0atomic", "0".repeat(40))),
            Just("# service=git-receive-pack\n".to_owned()),
            Just("version 1".to_owned()),
            Just("ERR no\n".to_owned()),
            Just("unpack ok\n".to_owned()),
            Just("unpack index-pack abnormal exit\n".to_owned()),
            Just("ok refs/heads/main\n".to_owned()),
            Just("ng refs/heads/main because\n".to_owned()),
            Just("option refname refs/heads/x\n".to_owned()),
            "[ -~\n]{0,40}",
        ];
        let banded = |(band, text): (Option<u8>, Vec<u8>)| match band {
            Some(band) => [&[band][..], &text].concat(),
            None => text,
        };
        // A report in a sideband is framed twice.
        let inner = words.clone().prop_map(|it| framed(it.as_bytes()));
        let bare = words.prop_map(String::into_bytes);
        let text = prop_oneof![3 => bare, 1 => inner];
        let band = proptest::option::of(0u8..5);
        prop_oneof![
            6 => (band, text).prop_map(banded).prop_map(|it| framed(&it)),
            2 => Just(b"0000".to_vec()),
            1 => Just(b"0001".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..12),
        ]
    }

    fn framed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        super::super::line::put(&mut out, text);
        out
    }

    /// A conversation, of which some bytes are wrong and the end may be missing.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let wrong = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        let said = proptest::collection::vec(spoken(), 0..12);
        (said, wrong, proptest::option::of(any::<prop::sample::Index>())).prop_map(
            |(said, wrong, end)| {
                let mut bytes = said.concat();
                for (at, byte) in wrong {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                    }
                }
                if let Some(end) = end.filter(|_| !bytes.is_empty()) {
                    bytes.truncate(end.index(bytes.len()));
                }
                bytes
            },
        )
    }

    /// The head of an answer, or nearly.
    fn head(kind: &'static str) -> impl Strategy<Value = String> {
        let status = prop_oneof![
            6 => Just("200 OK"),
            1 => Just("401 Unauthorized"),
            1 => Just("302 Found\r\nLocation: http://elsewhere.invalid/"),
            1 => Just("413 Too Large"),
            1 => Just("204 No Content"),
            1 => Just("999 ?"),
        ];
        let length = prop_oneof![
            3 => Just(String::new()),
            1 => Just("Content-Length: 99999\r\n".to_owned()),
            1 => Just("Content-Length: -1\r\n".to_owned()),
            1 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
            1 => "[ -~]{0,30}".prop_map(|it| format!("{it}\r\n")),
        ];
        (status, length).prop_map(move |(status, length)| {
            format!(
                "HTTP/1.1 {status}\r\n{length}Connection: close\r\n\
                 Content-Type: application/x-git-receive-pack-{kind}\r\n\r\n"
            )
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(2000)))]

        #[test]
        fn any_first_words_end_in_an_answer(bytes in conversation()) {
            advertisement(&bytes);
        }

        #[test]
        fn any_last_words_end_in_an_answer(bytes in conversation()) {
            report(&bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(400)))]

        #[test]
        fn any_daemon_ends_in_an_answer(before in conversation(), after in conversation()) {
            static REMOTE: std::sync::OnceLock<Remote> = std::sync::OnceLock::new();
            let remote = REMOTE.get_or_init(|| Remote::start("git"));
            remote.push(&[before, after].join(NEXT));
        }

        #[test]
        fn any_web_server_ends_in_an_answer(
            heads in (head("advertisement"), head("result")),
            bodies in (conversation(), conversation()),
        ) {
            static REMOTE: std::sync::OnceLock<Remote> = std::sync::OnceLock::new();
            let first = [b"001f# service=git-receive-pack\n0000", &*bodies.0].concat();
            let answers = [[heads.0.as_bytes(), &first].concat(), [heads.1.as_bytes(), &bodies.1].concat()];
            REMOTE.get_or_init(|| Remote::start("http")).push(&answers.join(NEXT));
        }
    }
}
