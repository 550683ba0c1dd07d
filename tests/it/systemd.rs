//! The service as systemd judges it: the unit is understood, and the sandbox is tight.
//!
//! Needs `systemd-analyze`, not a running systemd.

#![expect(clippy::disallowed_methods, reason = "tests prepare files of their own")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Of 100, less is tighter; a unit without any sandbox has 96.
const EXPOSURE_MAX: &str = "--threshold=15";

fn analyze(args: &[&str], file: &Path) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).arg(file).output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("passed over: systemd-analyze is not installed");
            None
        }
    }
}

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/git-intake.service");
    fs::read_to_string(path).unwrap()
}

/// The unit as it would be installed, but naming the program that was just built.
fn installed(dir: &Path) -> std::path::PathBuf {
    let text = unit().replace("/usr/bin/git-intake", env!("CARGO_BIN_EXE_git-intake"));
    let file = dir.join("git-intake.service");
    fs::write(&file, text).unwrap();
    file
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[test]
fn systemd_understands_the_whole_unit() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["verify", "--man=no", "--recursive-errors=no"];
    let Some(output) = analyze(&args, &installed(dir.path())) else { return };
    // A key that is not understood is only a line on standard error.
    let said = text(&output);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_sandbox_leaves_little_open() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["security", "--offline=true", "--no-pager", EXPOSURE_MAX];
    let Some(output) = analyze(&args, &installed(dir.path())) else { return };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_unit_keeps_what_the_agent_lives_by() {
    let unit = unit();
    for line in [
        "Type=notify",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "StateDirectory=git-intake",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "CapabilityBoundingSet=CAP_LEASE",
        "AmbientCapabilities=CAP_LEASE",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    assert!(unit.lines().any(|it| it.starts_with("WatchdogSec=")));
}

#[test]
fn the_user_of_the_unit_is_the_one_that_is_made() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/git-intake.sysusers.conf");
    let users = fs::read_to_string(path).unwrap();
    assert!(users.lines().any(|it| it.starts_with("u git-intake ")));
    assert!(unit().lines().any(|it| it == "User=git-intake"));
}
