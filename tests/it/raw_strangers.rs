//! Somebody who may write to `raw/` and to nothing else, and means harm.
//!
//! Three users of the host: the agent, a person, and a stranger. The stranger can neither read nor
//! change what lies elsewhere, nor keep the person's drops from being taken. Needs root, to be all
//! three; without it these tests say so and pass.

use crate::agent::{Agent, until};
use crate::world::{World, hermetic, vpc};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const AGENT: u32 = 20_001;
const PERSON: u32 = 20_002;
const STRANGER: u32 = 20_003;
/// What nobody but the agent may read.
const SECRET: &str = "token-of-the-agent";

struct Host {
    world: World,
    _agent: Option<Agent>,
}

fn as_user(uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.uid(uid).gid(uid).envs(hermetic());
    command
}

impl Host {
    /// A host where all may drop into `raw/`, as in `/tmp`; none where we are not root.
    fn new(settings: &[(&str, &str)]) -> Option<Host> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("notice: only root can be several users; passed over");
            return None;
        }
        let world = World::new();
        let top = world.dir.path();
        fs::set_permissions(top, fs::Permissions::from_mode(0o755)).unwrap();
        // A program that the other users may run.
        let program = top.join("git-intake");
        fs::copy(env!("CARGO_BIN_EXE_git-intake"), &program).unwrap();
        let secret = top.join("secret.yaml");
        fs::write(&secret, format!("{}# {SECRET}\n", vpc("secret"))).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let own = Command::new("chown").arg("-R").arg(format!("{AGENT}:{AGENT}")).arg(top).status();
        assert!(own.unwrap().success());
        let mut host = Host { world, _agent: None };
        assert!(host.intake(AGENT, &["init", "--fabric", "fabric-1"]).status.success());
        let inbox = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(host.world.raw(""), inbox).unwrap();
        host.start(settings);
        Some(host)
    }

    fn program(&self) -> PathBuf {
        self.world.dir.path().join("git-intake")
    }

    fn intake(&self, uid: u32, args: &[&str]) -> Output {
        as_user(uid, self.program()).args(args).current_dir(self.world.work()).output().unwrap()
    }

    fn start(&mut self, settings: &[(&str, &str)]) {
        self._agent = None;
        let mut command = as_user(AGENT, self.program());
        command.arg("run").current_dir(self.world.work()).envs(settings.iter().copied());
        command.env("GIT_INTAKE_FETCH_EVERY", "off").stderr(Stdio::null());
        self._agent = Some(Agent(command.spawn().unwrap()));
        until("the agent answers", || {
            let said = self.intake(AGENT, &["status", "--json"]).stdout;
            String::from_utf8_lossy(&said).contains("\"running\": true")
        });
    }

    /// Runs a script in `raw/` as one of the users.
    fn script(&self, uid: u32, script: &str) -> Child {
        let mut command = as_user(uid, "sh");
        command.args(["-c", script]).current_dir(self.world.raw(""));
        command.env("TOP", self.world.dir.path()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// What the person drops is taken, whatever goes on beside it.
    fn a_person_is_served(&self, name: &str) {
        let path = self.world.raw(&format!("{name}.yaml"));
        let beside = self.world.dir.path().join(format!("{name}.beside"));
        fs::write(&beside, vpc(name)).unwrap();
        chown(&beside, Some(PERSON), Some(PERSON)).unwrap();
        fs::rename(beside, path).unwrap();
        until(&format!("{name} is on the remote"), || self.filed(name));
    }

    fn git(&self, args: &[&str]) -> String {
        let out =
            as_user(AGENT, "git").args(args).current_dir(&self.world.remote).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn filed(&self, name: &str) -> bool {
        let path = format!("main:fabric-1/managed/vpcs/{name}.yaml");
        self.git(&["cat-file", "-t", &path]).starts_with("blob")
    }

    /// Nothing that is not the stranger's has got out, neither into history nor into a report.
    fn nothing_leaked(&self) {
        for objects in [&self.world.remote, &self.world.work().join(".git")] {
            let mut cat = as_user(AGENT, "git");
            cat.args(["cat-file", "--batch-all-objects", "--batch"]).current_dir(objects);
            let all = cat.output().unwrap();
            assert!(all.status.success() && all.stdout.len() > 100);
            assert!(!contains(&all.stdout, SECRET.as_bytes()), "the secret is in {objects:?}");
        }
        for entry in fs::read_dir(self.world.raw("")).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().is_some_and(|it| it.ends_with(".rejected.txt")) && path.is_file() {
                let text = fs::read(&path).unwrap();
                assert!(!contains(&text, SECRET.as_bytes()), "{path:?} tells the secret");
            }
        }
        assert!(!self.filed("secret"));
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|it| it == part)
}

fn done(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

#[test]
fn links_pipes_and_planted_names_lead_nowhere() {
    let Some(mut host) = Host::new(&[]) else { return };
    let plant = r#"
        ln -s ../../../secret.yaml a.yaml
        ln -s "$TOP/secret.yaml" b.yaml
        ln -s /proc/self/environ c.yaml
        ln -s ../managed d
        ln -s "$TOP" e
        mkfifo f.yaml g.yaml.rejected.txt
        echo '[BAD' > g.yaml
        echo '[BAD' > h.yaml; ln -s "$TOP/planted-report" h.yaml.rejected.txt
        echo '[BAD' > i.yaml; mkdir i.yaml.rejected.txt
        mkdir shut; echo '[BAD' > shut/j.yaml; chmod 0 shut
        mkdir mine; echo x > mine/.git-intake-x.tmp; echo '[BAD' > mine/.git-intake-taken-k.yaml
        echo x > .git-intake-y.tmp
        mkdir .git-intake-taken-l.yaml
        mkdir -p .git/objects; echo '[core]' > .git/config
    "#;
    done(host.script(STRANGER, plant));
    // In a directory of the stranger's own the agent may read, and not remove.
    fs::write(host.world.raw("mine/filed.yaml"), vpc("filed-and-stuck")).unwrap();
    host.a_person_is_served("first");
    until("it is filed though it cannot be cleared", || host.filed("filed-and-stuck"));
    assert!(!host.world.dir.path().join("planted-report").exists());
    host.a_person_is_served("second");
    // What was planted keeps the agent from nothing at its next start either.
    host.start(&[]);
    host.a_person_is_served("third");
    host.nothing_leaked();
    let commits: usize = host.git(&["rev-list", "--count", "main"]).trim().parse().unwrap();
    host.a_person_is_served("fourth");
    let after: usize = host.git(&["rev-list", "--count", "main"]).trim().parse().unwrap();
    assert_eq!(after, commits + 1, "what is stuck makes no commits");
}

#[test]
fn a_hard_link_to_what_only_the_agent_may_read_is_not_read() {
    let Some(host) = Host::new(&[]) else { return };
    // Where the kernel does not protect hard links, the stranger makes one; root plays that kernel.
    fs::hard_link(host.world.dir.path().join("secret.yaml"), host.world.raw("link.yaml")).unwrap();
    host.a_person_is_served("after-the-link");
    until("it is told", || host.world.raw("link.yaml.rejected.txt").exists());
    assert!(host.world.dir.path().join("secret.yaml").exists());
    host.nothing_leaked();
}

#[test]
fn races_are_lost_by_whoever_runs_them() {
    let Some(host) = Host::new(&[]) else { return };
    let secret = host.world.dir.path().join("outside");
    fs::create_dir(&secret).unwrap();
    let text = format!("{}# {SECRET}\n", vpc("secret"));
    for name in ["a.yaml", "b.yaml"] {
        fs::write(secret.join(name), &text).unwrap();
    }
    chown(&secret, Some(AGENT), Some(AGENT)).unwrap();
    // A directory and a link in turn; a drop, a link and a pipe in turn.
    let swap = r#"
        n=0; while [ $n -lt 300 ]; do n=$((n+1))
            mkdir -p swap; echo '[BAD' > swap/a.yaml; echo '[BAD' > swap/b.yaml
            mv swap away.$n; ln -s "$TOP/outside" swap; rm swap; rm -rf away.$n
            echo '[BAD' > turn.yaml; rm -f turn.yaml; ln -s "$TOP/outside/a.yaml" turn.yaml
            rm -f turn.yaml; mkfifo turn.yaml; rm -f turn.yaml
        done"#;
    let child = host.script(STRANGER, swap);
    for n in 0..5 {
        host.a_person_is_served(&format!("in-the-race-{n}"));
    }
    done(child);
    host.a_person_is_served("after-the-race");
    host.nothing_leaked();
}

#[test]
fn a_crowd_of_bad_drops_keeps_nobody_out() {
    let Some(host) = Host::new(&[("GIT_INTAKE_INTAKE_FILES_PER_TURN_MAX", "200")]) else { return };
    let crowd = "n=0; while [ $n -lt 1500 ]; do n=$((n+1)); echo '[BAD' > crowd-$n.yaml; done";
    done(host.script(STRANGER, crowd));
    host.a_person_is_served("through-the-crowd");
    until("the crowd is judged", || host.world.raw("crowd-1500.yaml.rejected.txt").exists());
    host.a_person_is_served("after-the-crowd");
}

#[test]
fn what_stands_in_the_agents_own_places_is_put_out_of_the_way() {
    let all = [("GIT_INTAKE_ARCHIVE", "directory"), ("GIT_INTAKE_ON_INVALID", "quarantine")];
    for plant in [
        "ln -s \"$TOP\" processed; ln -s \"$TOP\" errors",
        "echo x > processed; echo x > errors",
        "mkfifo processed errors",
        "mkdir processed errors",
    ] {
        let Some(mut host) = Host::new(&[]) else { return };
        done(host.script(STRANGER, plant));
        host.start(&all);
        host.a_person_is_served("one");
        fs::write(host.world.raw("bad.yaml"), "[BAD").unwrap();
        until(&format!("it is quarantined after: {plant}"), || {
            !host.world.raw("bad.yaml").exists()
        });
        let kept = |dir: &str| fs::read_dir(host.world.raw(dir)).map_or(0, Iterator::count);
        assert!(kept("errors") == 2 && kept("processed") == 1, "{plant}");
        let outside: &Path = host.world.dir.path();
        assert!(
            fs::read_dir(outside)
                .unwrap()
                .all(|it| { !it.unwrap().file_name().to_string_lossy().contains("archived") })
        );
    }
}
