//! Small files of our own (settings, tokens, notes beside the store): each is written whole or not
//! at all, and what a killed writer left half-written is swept away.
//!
//! Files of the work tree go through `worktree`, which follows no link on its way to them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// How names of half-written files begin, which are tempfile's own.
const HALF_WRITTEN: &[u8] = b".tmp";

/// Writes a file anew, for the agent's user alone. It is on the disk when this returns, and open
/// for whoever wants to write on.
///
/// # Errors
///
/// Of the system, or what `write` gives; the file is what it was before, then.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let dir = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temp = tempfile::NamedTempFile::new_in(dir)?;
    write(temp.as_file_mut())?;
    temp.as_file().sync_all()?;
    let file = temp.persist(path).map_err(|it| it.error)?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Removes what is half-written in a directory and has no writer any more, and says how much that
/// was. A writer may have been killed, or its disk so full that not even that could be taken back.
///
/// # Errors
///
/// Of the system. A directory that is not there has nothing in it.
#[expect(clippy::disallowed_methods, reason = "our own leftovers")]
pub fn sweep(dir: &Path) -> io::Result<u32> {
    let entries = match std::fs::read_dir(dir) {
        Ok(it) => it,
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(it) => return Err(it),
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry?;
        let half = entry.file_name().as_encoded_bytes().starts_with(HALF_WRITTEN);
        if half && entry.file_type()?.is_file() && !is_written(&entry.path()) {
            match std::fs::remove_file(entry.path()) {
                Ok(()) => swept += 1,
                Err(it) if it.kind() == io::ErrorKind::NotFound => (),
                Err(it) => return Err(it),
            }
        }
    }
    Ok(swept)
}

/// Says whether somebody has the file open for writing, by asking for a read lease (`fcntl(2)`).
/// Where the kernel does not tell, it counts as so.
pub fn is_written(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    // SAFETY: F_SETLEASE takes one integer and touches no memory of ours.
    let lease =
        |kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 };
    !(lease(libc::F_RDLCK) && lease(libc::F_UNLCK))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "set-up of tests")]

    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_is_whole_or_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        let mut file = replace(&path, |it| it.write_all(b"one\n")).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        let failed = replace(&path, |it| {
            it.write_all(b"half")?;
            Err(io::Error::other("no room"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_nobody_writes_any_more_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".tmpGone00"), "half").unwrap();
        std::fs::write(dir.path().join("kept"), "whole").unwrap();
        std::fs::create_dir(dir.path().join(".tmpdir")).unwrap();
        let _writer = File::create(dir.path().join(".tmpBusy00")).unwrap();
        assert_eq!(sweep(dir.path()).unwrap(), 1);
        let names = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, [".tmpBusy00", ".tmpdir", "kept"]);
        assert_eq!(sweep(&dir.path().join("none")).unwrap(), 0);
    }
}
