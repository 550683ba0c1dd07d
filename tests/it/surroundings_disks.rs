//! Disks as they come: `raw/` on another one, one that is full of files, one that is read only, one that
//! knows neither hard links nor capitals.

use crate::powercut::did;
use crate::storm::agent;
use crate::surroundings::until;
use crate::world::{World, git_output, vpc};
use std::path::Path;
use std::process::{Command, Stdio};

/// A file system in memory, or a notice why there is none.
fn memory(at: &Path, options: &str) -> Option<Mounted> {
    std::fs::create_dir_all(at).unwrap();
    let mount = did(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at));
    match mount {
        Ok(()) => Some(Mounted(at.to_owned())),
        Err(why) => {
            eprintln!("notice: nothing is mounted here: {why}");
            None
        }
    }
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = did(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn a_raw_directory_on_another_file_system_is_taken_from_or_left_alone_as_the_settings_say() {
    let mut world = World::in_memory();
    world.turn();
    let Some(_mounted) = memory(&world.raw(""), "size=8m") else { return };
    world.drop("a.yaml", vpc("vpc-1")).drop("team/bad.yaml", vpc("BAD"));
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-1.yaml"));
    assert!(!world.raw("a.yaml").exists());
    assert!(world.raw("team/bad.yaml.rejected.txt").exists());
    world.at_rest();
    world.settings.intake.one_file_system = true;
    world.drop("b.yaml", vpc("vpc-2"));
    // It is not looked into, which is told; the rest goes on.
    let _ = world.try_turn();
    assert!(world.raw("b.yaml").exists());
    world.settings.intake.one_file_system = false;
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"));
    world.at_rest();
}

/// There is room for bytes, and none for one more file.
#[test]
fn a_disk_that_takes_no_more_files_takes_no_drop_and_is_gone_on_from_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = memory(dir.path(), "size=64m,nr_inodes=2000") else { return };
    let world = World::in_directory(dir.path());
    let init = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(init.status.success());
    let run = || agent(&world, &["run"]).stderr(Stdio::null()).spawn().unwrap();
    let mut running = run();
    let beside = world.dir.path().join("dropping");
    std::fs::write(&beside, vpc("vpc-1")).unwrap();
    let fillers = dir.path().join("fillers");
    std::fs::create_dir(&fillers).unwrap();
    // All but a few: it is in the middle of a turn that they run out.
    let free = rustix::fs::statvfs(dir.path()).unwrap().f_favail;
    for n in 6..free {
        std::fs::write(fillers.join(n.to_string()), "").unwrap();
    }
    std::fs::rename(&beside, world.raw("a.yaml")).unwrap();
    until("status tells of the disk", || {
        if running.try_wait().unwrap().is_some() {
            running = run();
        }
        let out = agent(&world, &["status"]).output().unwrap();
        let told = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        told.contains("space left") || told.contains("no storage space")
    });
    assert_eq!(std::fs::read_to_string(world.raw("a.yaml")).unwrap(), vpc("vpc-1"));
    std::fs::remove_dir_all(&fillers).unwrap();
    until("the drop arrives", || {
        if running.try_wait().unwrap().is_some() {
            running = run();
        }
        let place = "main:fabric-1/managed/vpcs/vpc-1.yaml";
        git_output(&world.remote, &["cat-file", "-e", place]).status.success()
    });
    running.kill().unwrap();
    running.wait().unwrap();
    world.at_rest();
}

#[test]
fn a_disk_that_became_read_only_keeps_every_drop_until_it_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = memory(dir.path(), "size=64m") else { return };
    let world = World::in_directory(dir.path());
    world.drop("a.yaml", vpc("vpc-1"));
    world.turn();
    world.drop("b.yaml", vpc("vpc-2"));
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        did(Command::new("mount").args(["-o", &options]).arg(dir.path())).unwrap();
    };
    remount("ro");
    let told = world.try_turn().unwrap_err().chain();
    assert!(told.to_lowercase().contains("read-only"), "{told}");
    assert!(world.raw("b.yaml").exists());
    remount("rw");
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"));
    world.at_rest();
}

/// exFAT: `A.yaml` and `a.yaml` are one file, and there are no hard links and no symbolic ones.
#[test]
fn a_disk_that_knows_no_capitals_and_no_links_is_worked_on() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let at = dir.path().join("mounted");
    std::fs::create_dir(&at).unwrap();
    std::fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
    let device = Command::new("losetup").args(["-f", "--show"]).arg(&image).output();
    let device = device.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    let device = device.unwrap_or_default();
    let made = did(Command::new("mkfs.exfat").arg(&device))
        .and_then(|()| did(Command::new("mount.exfat-fuse").arg(&device).arg(&at)));
    let detach = || {
        let _ = did(Command::new("losetup").arg("-d").arg(&device));
    };
    if let Err(why) = made {
        detach();
        return eprintln!("notice: no exFAT is mounted here: {why}");
    }
    let mounted = Mounted(at.clone());
    let world = World::in_directory(&at);
    assert_eq!(world.git(&["config", "core.ignorecase"]), "true\n");
    world.drop("First.yaml", vpc("vpc-1")).drop("first.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().keys().collect::<Vec<_>>(), ["managed/vpcs/vpc-2.yaml"]);
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    world.drop("Map.yaml", map("one"));
    world.turn();
    world.drop("map.yaml", map("two"));
    world.turn();
    let all = world.clone_of_remote();
    for name in ["one", "two"] {
        assert!(all.values().any(|it| *it == map(name)), "{name} is lost: {:?}", all.keys());
    }
    assert_eq!(world.git(&["status", "--porcelain"]), "", "the index is whole");
    world.at_rest();
    drop(world);
    drop(mounted);
    detach();
}
