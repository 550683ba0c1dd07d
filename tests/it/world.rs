//! A repository with a fabric, a real remote, and the agent's own code over both.
//!
//! `World::new().drop("vpc.yaml", VPC).turn()` reads like what a person would do; what counts is
//! always looked up in a fresh clone of the remote.

use crate::remote::Remote;
use git_intake::agent::Error;
use git_intake::agent::desk;
use git_intake::agent::lane::Lane;
use git_intake::config::{FabricSettings, RepositorySettings, Settings};
use git_intake::model::fabric::FabricName;
use git_intake::model::report::IngestReport;
use git_intake::step::Steps;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A VPC of this name.
pub fn vpc(name: &str) -> String {
    format!(
        "# {name}, as written\napiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: {name}\nspec:\n  subnets:\n    default: {{subnet: 10.0.1.0/24, vlan: 1001}}\n"
    )
}

/// Git without the configuration of whoever runs the tests.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = git_output(dir, args);
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

pub fn git_output(dir: &Path, args: &[&str]) -> Output {
    Command::new("git").current_dir(dir).envs(hermetic()).args(args).output().unwrap()
}

/// The environment of every program that the tests start.
pub fn hermetic() -> Vec<(String, String)> {
    let mut variables = vec![
        ("HOME".to_owned(), "/nonexistent".to_owned()),
        ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
        ("GIT_CONFIG_GLOBAL".to_owned(), "/dev/null".to_owned()),
    ];
    for who in ["AUTHOR", "COMMITTER"] {
        variables.push((format!("GIT_{who}_NAME"), "A Person".to_owned()));
        variables.push((format!("GIT_{who}_EMAIL"), "person@example.com".to_owned()));
    }
    variables
}

/// One host: a work tree, its settings, and where its commits go.
pub struct World {
    pub dir: tempfile::TempDir,
    pub remote: PathBuf,
    pub settings: Settings,
    pub repository: RepositorySettings,
    pub steps: Steps,
}

impl World {
    /// A repository with `fabric-1` and a bare remote on disk.
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let remote = dir.path().join("remote.git");
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        World::at(dir, &remote.display().to_string(), remote.clone())
    }

    /// The same where nothing waits for a disk.
    pub fn in_memory() -> World {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => World::in_directory(memory),
            false => World::new(),
        }
    }

    /// The same below a directory of somebody's choice.
    pub fn in_directory(place: &Path) -> World {
        let dir = tempfile::tempdir_in(place).unwrap();
        let remote = dir.path().join("remote.git");
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        // It would be tidied up with each push.
        git(&remote, &["config", "receive.autogc", "false"]);
        World::at(dir, &remote.display().to_string(), remote.clone())
    }

    /// The same world once more, work tree, store and remote, in another place.
    pub fn copy(&self) -> World {
        let dir = tempfile::tempdir_in(self.dir.path().parent().unwrap()).unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.work())
            .arg(&self.remote)
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(copied.success());
        let remote = dir.path().join("remote.git");
        let work = dir.path().join("work");
        git(&work, &["config", "remote.origin.url", &remote.display().to_string()]);
        // It says where the state of the other one lies.
        let _ = std::fs::remove_file(work.join(".git/intake/where"));
        let mut copy = World::of(dir, remote);
        copy.settings = self.settings.clone();
        copy.repository = RepositorySettings { path: work, ..self.repository.clone() };
        copy
    }

    /// The same with a remote of another kind.
    pub fn over(remote: &Remote) -> World {
        World::at(tempfile::tempdir().unwrap(), &remote.url, remote.path.clone())
    }

    /// A second host with its own clone of the same remote.
    pub fn beside(other: &World) -> World {
        let dir = tempfile::tempdir_in(other.dir.path().parent().unwrap()).unwrap();
        git(dir.path(), &["clone", "-q", &other.remote.display().to_string(), "work"]);
        World::of(dir, other.remote.clone())
    }

    /// One in a directory of somebody's choice, without a remote, on the disk as a whole.
    pub fn alone_in(place: &Path) -> World {
        let dir = tempfile::tempdir_in(place).unwrap();
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        // Git itself syncs nothing of a new repository.
        rustix::fs::sync();
        let remote = dir.path().join("none");
        World::of(dir, remote)
    }

    fn at(dir: tempfile::TempDir, url: &str, remote: PathBuf) -> World {
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        git(&dir.path().join("work"), &["remote", "add", "origin", url]);
        World::of(dir, remote)
    }

    fn of(dir: tempfile::TempDir, remote: PathBuf) -> World {
        let mut settings = Settings::default();
        settings.intake.quiet = Duration::from_millis(10);
        let repository = RepositorySettings {
            path: dir.path().join("work"),
            fabrics: vec![FabricSettings::new(FabricName::parse("fabric-1").unwrap(), None)],
            ..RepositorySettings::default()
        };
        World { dir, remote, settings, repository, steps: Steps::default() }
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn raw(&self, name: &str) -> PathBuf {
        self.work().join("fabric-1/raw").join(name)
    }

    pub fn managed(&self, name: &str) -> PathBuf {
        self.work().join("fabric-1/managed").join(name)
    }

    /// Drops a file.
    pub fn drop(&self, name: &str, text: impl AsRef<[u8]>) -> &World {
        let path = self.raw(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.work(), args)
    }

    /// Starts what a process would start with.
    pub fn open(&self) -> Result<Lane, Error> {
        let interrupt = Arc::new(AtomicBool::new(false));
        Lane::open(&self.settings, &self.repository, interrupt, self.steps.clone())
    }

    /// One `ingest`, as a process of its own would do it.
    pub fn try_turn(&self) -> Result<IngestReport, Error> {
        let mut lane = self.open()?;
        lane.prepare()?;
        Ok(desk::ingest(&mut lane, false)?.remove(0))
    }

    pub fn turn(&self) -> IngestReport {
        self.try_turn().unwrap()
    }

    /// What a fresh clone of the remote holds below the fabric, less the README files.
    pub fn clone_of_remote(&self) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["clone", "-q", &self.remote.display().to_string(), "clone"]);
        let clone = dir.path().join("clone");
        assert_eq!(git(&clone, &["fsck", "--strict", "--no-dangling"]), "");
        let names = git(&clone, &["ls-files", "-z", "fabric-1"]);
        names
            .split('\0')
            .filter(|it| !it.is_empty() && !it.ends_with("README.md"))
            .map(|it| {
                let bytes = std::fs::read(clone.join(it)).unwrap();
                let name = it.strip_prefix("fabric-1/").unwrap().to_owned();
                (name, String::from_utf8_lossy(&bytes).into_owned())
            })
            .collect()
    }

    pub fn commits(&self) -> usize {
        self.git(&["rev-list", "--count", "HEAD"]).trim().parse().unwrap()
    }

    /// Nothing is left half done, nothing disagrees, and one more turn does nothing.
    pub fn at_rest(&self) {
        drop(self.resting());
    }

    /// The same; what git says of the work tree comes back, ignored files included.
    pub fn resting(&self) -> (Lane, String) {
        let mut lane = self.open().unwrap();
        let before = lane.repo.head().unwrap().commit;
        lane.prepare().unwrap();
        desk::ingest(&mut lane, false).unwrap();
        let steps = self.steps.taken();
        desk::ingest(&mut lane, false).unwrap();
        assert_eq!(self.steps.taken(), steps, "a turn with nothing to do did something");
        let report = git_intake::agent::verify::verify(&lane, true).unwrap();
        assert_eq!(report.differences, vec![]);
        assert!(lane.store.open_operations().unwrap().is_empty(), "an operation is open");
        let after = lane.repo.head().unwrap().commit;
        assert_eq!(after, before, "a turn with nothing to do made a commit");
        assert_eq!(self.git(&["fsck", "--strict", "--no-dangling"]), "");
        let strays = self.git(&["status", "--porcelain", "--ignored"]);
        assert!(!strays.contains(".git-intake-"), "{strays}");
        (lane, strays)
    }
}
