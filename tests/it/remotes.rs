//! The same walk over every kind of remote, against git's own servers.

use crate::remote::{Auth, PASSWORD, Remote, TOKEN, USER};
use crate::world::{World, vpc};
use git_intake::model::report::Delivery;
use git_intake::step::Steps;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn walk(mut world: World, prepare: impl FnOnce(&mut World)) {
    prepare(&mut world);
    world.drop("vpc.yaml", vpc("vpc-1"));
    let report = world.turn();
    assert!(matches!(report.delivery, Delivery::Pushed { .. }), "{:?}", report.delivery);
    // Somebody else pushes, so that this host has to fetch over the same way.
    let other = World::beside(&world);
    other.drop("other.yaml", vpc("vpc-2"));
    other.turn();
    world.drop("third.yaml", vpc("vpc-3"));
    let report = world.turn();
    assert!(matches!(report.delivery, Delivery::Pushed { .. }), "{:?}", report.delivery);
    assert_eq!(world.clone_of_remote().len(), 3);
    world.at_rest();
}

#[test]
fn over_ssh() {
    let Some(remote) = Remote::ssh() else { return };
    walk(World::over(&remote), |world| {
        let command = remote.ssh_command.clone().unwrap();
        world.git(&["config", "core.sshCommand", &command]);
    });
}

#[test]
fn the_remote_is_called_while_the_commit_is_being_made() {
    let Some(remote) = Remote::ssh() else { return };
    let mut world = World::over(&remote);
    let (log, ssh) = (world.dir.path().join("calls"), world.dir.path().join("ssh"));
    let command = remote.ssh_command.clone().unwrap();
    let script = format!("#!/bin/sh\necho called >> {}\nexec {command} \"$@\"\n", log.display());
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.git(&["config", "core.sshCommand", &ssh.display().to_string()]);
    let calls = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    world.drop("vpc.yaml", vpc("vpc-1"));
    // The directories of the fabric are a commit of their own.
    world.turn();
    let before = calls();
    world.drop("more.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(calls(), before + 1, "one call for what is pushed");
    world.drop("third.yaml", vpc("vpc-3"));
    let tip = world.git(&["rev-parse", "main"]);
    let called_before_commit = (1..50).any(|n| {
        world.steps = Steps::default();
        world.steps.stop_after(n);
        let before = calls();
        world.try_turn().unwrap_err();
        // The program is started by then, and says so in its own time.
        (0..10).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            calls() > before
        })
    });
    assert!(called_before_commit);
    assert_eq!(world.git(&["rev-parse", "main"]), tip, "called while it was made");
    world.steps = Steps::default();
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-3.yaml"));
    // Where there is nothing to commit, there is nobody to call.
    let before = calls();
    world.turn();
    assert_eq!(calls(), before);
}

#[test]
fn over_https_with_a_token_in_a_file() {
    let Some(remote) = Remote::https(Auth::Basic) else { return };
    walk(World::over(&remote), |world| {
        let token = world.dir.path().join("token");
        std::fs::write(&token, format!("{PASSWORD}\n")).unwrap();
        world.repository.token_file = Some(token);
        world.repository.username = Some(USER.to_owned());
        world.repository.ca_file = remote.ca_file.clone();
    });
}

#[test]
fn over_https_with_a_credential_helper() {
    let Some(remote) = Remote::https(Auth::Basic) else { return };
    walk(World::over(&remote), |world| {
        let helper = format!(
            "!f() {{ test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' '{USER}' '{PASSWORD}'; }}; f"
        );
        world.git(&["config", "credential.helper", &helper]);
        world.repository.ca_file = remote.ca_file.clone();
    });
}

/// Nothing but git's own settings knows the token, so fetch and push must both have read them.
#[test]
fn over_https_with_a_header_of_gits_own_settings() {
    let Some(remote) = Remote::https(Auth::Bearer) else { return };
    walk(World::over(&remote), |world| {
        let key = format!("http.{}.extraHeader", remote.url);
        world.git(&["config", &key, &format!("Authorization: Bearer {TOKEN}")]);
        world.repository.ca_file = remote.ca_file.clone();
    });
}

#[test]
fn a_wrong_token_is_told_and_never_shown() {
    let Some(remote) = Remote::https(Auth::Basic) else { return };
    let mut world = World::over(&remote);
    let token = world.dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    world.repository.token_file = Some(token);
    world.repository.ca_file = remote.ca_file.clone();
    world.drop("vpc.yaml", vpc("vpc-1"));
    let report = world.turn();
    let Delivery::Held { reason } = &report.delivery else { panic!("{:?}", report.delivery) };
    assert!(!reason.contains(TOKEN), "{reason}");
    assert!(report.commit_id.is_some(), "what was dropped is committed here");
}

#[test]
fn a_hook_that_refuses_is_told_in_its_own_words() {
    let remote = Remote::file();
    let world = World::over(&remote);
    world.turn();
    remote.hook("pre-receive", "#!/bin/sh\necho 'no pushing on Fridays' >&2\nexit 1\n");
    world.drop("vpc.yaml", vpc("vpc-1"));
    let report = world.turn();
    let Delivery::Held { reason } = &report.delivery else { panic!("{:?}", report.delivery) };
    assert!(reason.contains("no pushing on Fridays"), "{reason}");
    std::fs::remove_file(remote.path.join("hooks/pre-receive")).unwrap();
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 1);
}
