//! Reads of the API under load from a second process, and drops meanwhile.
//!
//! `cargo bench --bench api [-- reads|drops]`.
//!
//! - `reads`: over a fabric of 100,000 records the agent is kept to one core and the client to another;
//!   each route is asked as fast as it answers, over 32 connections that stay open.
//! - `drops`: one file at a time, from the rename into `raw/` until the remote's branch has it, first in
//!   peace and then while the client reads 10,000 resources a second; nothing is kept to a core.
//!
//! `API_BENCH_RECORDS` (100000), `API_BENCH_RATE` (10000), `API_BENCH_SECONDS` (10) and
//! `API_BENCH_DROPS` (60) change the size.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const CONNECTIONS: usize = 32;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    if args.first().is_some_and(|it| it == "client") {
        return client(&args[1..]);
    }
    let asked = |it: &str| args.first().is_none_or(|word| word == it);
    let place = Place::new(number("API_BENCH_RECORDS", 100_000));
    if asked("reads") {
        reads(&place);
    }
    if asked("drops") {
        drops(&place);
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// A fabric with so many records, its remote, and an agent's token.
struct Place {
    dir: tempfile::TempDir,
    port: u16,
    token: String,
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new(records: usize) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut place = Place { dir, port, token: String::new() };
        let (top, work) = (place.dir.path(), place.work());
        git(top, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(top, &["init", "-q", "-b", "main", "work"]);
        git(&work, &["remote", "add", "origin", "../remote.git"]);
        let mut import = command("git", &work);
        let mut import =
            import.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut out = std::io::BufWriter::new(import.stdin.take().unwrap());
        out.write_all(b"commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata 1\nx\n")
            .unwrap();
        for n in 0..records {
            let (text, shard) = (vpc(&format!("old-{n}")), n % 256);
            let path = format!("fabric-1/managed/vpcs/{shard:02x}/old-{n}.yaml");
            write!(out, "M 100644 inline {path}\ndata {}\n{text}\n", text.len()).unwrap();
        }
        drop(out);
        assert!(import.wait().unwrap().success());
        git(&work, &["reset", "-q", "--hard"]);
        git(&work, &["push", "-q", "-u", "origin", "main"]);
        intake(&work, &["init", "--fabric", "fabric-1"]);
        place.token = intake(&work, &["token", "add", "bench"]).trim().to_owned();
        let settings =
            format!("api:\n  listen: [\"127.0.0.1:{port}\"]\n  requests_per_second: 10000000\n");
        fs::write(top.join("config.yaml"), settings).unwrap();
        place
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// An agent that has everything on record, kept to a core where one is named.
    fn start(&self, core: Option<&str>) -> Agent {
        let program = env!("CARGO_BIN_EXE_git-intake");
        let config = self.dir.path().join("config.yaml");
        let mut started = match core {
            Some(core) => {
                let mut it = command("taskset", &self.work());
                it.args(["-c", core, program]);
                it
            }
            None => command(program, &self.work()),
        };
        started.args(["run", "--config"]).arg(config).arg(self.work());
        let log = fs::File::create(self.dir.path().join("agent.log")).unwrap();
        let agent = Agent(started.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (url, begun) = (format!("http://127.0.0.1:{}/readyz", self.port), Instant::now());
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        while !client.get(&url).send().is_ok_and(|it| it.status() == 200) {
            assert!(begun.elapsed() < Duration::from_secs(300), "the agent does not get ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        agent
    }

    fn get(&self, path: &str) -> serde_json::Value {
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = client.get(url).bearer_auth(&self.token).send().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().unwrap()
    }

    /// The ids of some resources from all over the fabric.
    fn ids(&self) -> Vec<String> {
        let count = self.get("/api/v1/resources?limit=1")["count"].as_u64().unwrap();
        let mut ids = Vec::new();
        for n in 0..10 {
            let at = n * count / 10;
            let page = self.get(&format!("/api/v1/resources?limit=1000&offset={at}"));
            let some = page["results"].as_array().unwrap().iter();
            ids.extend(some.map(|it| it["id"].as_str().unwrap().to_owned()));
        }
        ids
    }

    /// A client of so many requests a second (0 is as many as are answered), as a process of its own.
    fn client(&self, paths: &[String], rate: usize, seconds: usize, core: Option<&str>) -> Child {
        let file = self.dir.path().join("paths");
        fs::write(&file, paths.join("\n")).unwrap();
        let me = std::env::current_exe().unwrap();
        let mut it = Command::new(match core {
            Some(_) => Path::new("taskset"),
            None => &me,
        });
        if let Some(core) = core {
            it.args(["-c", core]).arg(&me);
        }
        it.arg("client").arg(self.port.to_string()).arg(&self.token).arg(&file);
        it.arg(rate.to_string()).arg(seconds.to_string());
        it.stdout(Stdio::piped()).spawn().unwrap()
    }
}

fn told(child: Child) -> String {
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn reads(place: &Place) {
    let agent = place.start(Some("0"));
    let (ids, seconds) = (place.ids(), number("API_BENCH_SECONDS", 10));
    let of = |tail: &str| -> Vec<String> {
        ids.iter().map(|it| format!("/api/v1/resources/{it}{tail}")).collect()
    };
    let one = |path: &str| vec![path.to_owned()];
    let routes = [
        ("one resource", of("")),
        ("file mapping", of("/file-mapping")),
        ("state", of("/state")),
        ("a page of 50", one("/api/v1/resources?limit=50")),
        ("a late page of 50", one("/api/v1/resources?limit=50&offset=90000")),
        ("a fabric", one("/api/v1/fabrics/fabric-1")),
        ("health", one("/api/v1/fabrics/fabric-1/sync-health")),
        ("operations", one("/api/v1/fabrics/fabric-1/sync-operations")),
    ];
    println!("reads, one core      as fast as they are answered, {CONNECTIONS} connections");
    for (name, paths) in routes {
        let before = processor_time(&agent);
        let said = told(place.client(&paths, 0, seconds, Some("1")));
        let used = processor_time(&agent) - before;
        println!("{name:<20} {said}  (of the core: {:.0} %)", used * 100.0 / seconds as f64);
    }
}

fn drops(place: &Place) {
    let _agent = place.start(None);
    let ids = place.ids();
    let paths: Vec<String> = ids.iter().map(|it| format!("/api/v1/resources/{it}")).collect();
    let (count, rate) = (number("API_BENCH_DROPS", 60), number("API_BENCH_RATE", 10_000));
    dropped(place, "warm", 5);
    let peace = dropped(place, "peace", count);
    let seconds = (peace.iter().sum::<Duration>().as_secs_f64() * 3.0) as usize + 5;
    let client = place.client(&paths, rate, seconds, None);
    std::thread::sleep(Duration::from_secs(1));
    let load = dropped(place, "load", count);
    let said = told(client);
    let middle = |all: &[Duration], share: f64| {
        all[((all.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
    };
    println!("drops, {count} each, in ms     median      p95");
    println!("in peace                 {:>8.1} {:>8.1}", middle(&peace, 0.5), middle(&peace, 0.95));
    println!("with {rate} reads/s     {:>8.1} {:>8.1}", middle(&load, 0.5), middle(&load, 0.95));
    println!(
        "ratio                    {:>8.2} {:>8.2}",
        middle(&load, 0.5) / middle(&peace, 0.5),
        middle(&load, 0.95) / middle(&peace, 0.95)
    );
    println!("the reads meanwhile      {said}");
}

/// How long each of so many drops took, the shortest first.
fn dropped(place: &Place, name: &str, count: usize) -> Vec<Duration> {
    let (work, top) = (place.work(), place.dir.path());
    let tip = top.join("remote.git/refs/heads/main");
    let mut all = Vec::new();
    for n in 0..count {
        let before = fs::read(&tip).unwrap();
        let aside = top.join("aside");
        fs::write(&aside, vpc(&format!("{name}-{n}"))).unwrap();
        let begun = Instant::now();
        fs::rename(&aside, work.join(format!("fabric-1/raw/{name}-{n}.yaml"))).unwrap();
        while fs::read(&tip).is_ok_and(|it| it == before || it.is_empty()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "a drop does not arrive");
            std::thread::sleep(Duration::from_micros(200));
        }
        all.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    all.sort();
    all
}

/// Processor time of the agent so far, in seconds.
fn processor_time(agent: &Agent) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.0.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in ticks of a hundredth of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn vpc(name: &str) -> String {
    format!(
        "apiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: {name}\nspec:\n  subnets:\n    default: {{subnet: 10.0.1.0/24, vlan: 1001}}\n"
    )
}

fn intake(dir: &Path, args: &[&str]) -> String {
    let out = command(env!("CARGO_BIN_EXE_git-intake"), dir).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn git(dir: &Path, args: &[&str]) {
    let out = command("git", dir).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("HOME", "/nonexistent");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A Person");
        command.env(format!("GIT_{who}_EMAIL"), "person@example.com");
    }
    command
}

/// The second process: port, token, file of paths, rate, seconds.
fn client(args: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seconds: u64 = args[4].parse().unwrap();
    let rate: u64 = args[3].parse().unwrap();
    let asks: Vec<Vec<u8>> = fs::read_to_string(&args[2])
        .unwrap()
        .lines()
        .map(|path| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer {}\r\n\r\n",
                args[1]
            )
            .into_bytes()
        })
        .collect();
    let (asks, next, address) =
        (Arc::new(asks), Arc::new(AtomicU64::new(0)), format!("127.0.0.1:{}", args[0]));
    let begun = Instant::now();
    let mut took: Vec<Duration> = runtime.block_on(async {
        let end = begun + Duration::from_secs(seconds);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (asks, next, address) = (asks.clone(), next.clone(), address.clone());
            all.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut took, mut buffer) = (Vec::new(), Vec::with_capacity(64 << 10));
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    // With a rate a request is as old as its turn, so that no queue is hidden.
                    let due = match rate {
                        0 => Instant::now(),
                        rate => begun + Duration::from_nanos(n * 1_000_000_000 / rate),
                    };
                    // Who cannot keep the rate is told so, and not given longer.
                    if due >= end || Instant::now() >= end {
                        return took;
                    }
                    if due > Instant::now() {
                        tokio::time::sleep_until(due.into()).await;
                    }
                    // Steps through all of them in no order of theirs.
                    let ask = &asks[(n as usize).wrapping_mul(7919) % asks.len()];
                    stream.write_all(ask).await.unwrap();
                    answer(&mut stream, &mut buffer).await;
                    took.push(due.elapsed());
                }
            });
        }
        let mut took = Vec::new();
        while let Some(it) = all.join_next().await {
            took.extend(it.unwrap());
        }
        took
    });
    let elapsed = begun.elapsed().as_secs_f64();
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:>7} requests/s   p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms",
        (took.len() as f64 / elapsed) as u64,
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

/// Reads one whole answer, which must be a yes.
async fn answer(stream: &mut tokio::net::TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    let (mut head, mut length) = (None, 0);
    loop {
        if let Some(head) = head
            && buffer.len() >= head + length
        {
            return;
        }
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the agent hung up");
        if head.is_none()
            && let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&buffer[..at]).to_ascii_lowercase();
            assert!(text.starts_with("http/1.1 200"), "{text}");
            let field = text.split("content-length: ").nth(1).expect("the answer has a length");
            length = field.split("\r\n").next().unwrap().parse().unwrap();
            head = Some(at + 4);
        }
    }
}
