//! What is on the disk, as far as we know.
//!
//! A sync that failed is never tried again and believed: the kernel may have dropped what it could
//! not write, and says yes the next time. What such a sync was for is *in doubt*, and is written
//! again, as another file with a sync of its own, before anything relies on it.

use super::heal::{modified, remove};
use super::locks::{Note, Taken};
use super::pack::{Content, Objects};
use super::refs::sync_up;
use super::{Error, Repo};
use crate::model::ids::CommitId;
use crate::step::Step;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

/// In the git directory: says that a sync of all failed, and by its age when. It outlives the
/// process, since so does what the kernel believes.
const UNSYNCED: &str = "intake/unsynced";
/// So many bytes of loose objects are written again at once.
const AGAIN_BYTES_MAX: usize = 64 << 20;

impl Repo {
    /// Makes sure that what `tip` reaches, and our refs, are on the disk, whoever wrote them.
    ///
    /// People's git does not sync what it writes one by one, and a crash may have come between a
    /// ref's renaming and its sync.
    pub fn make_durable(&self, tip: CommitId) -> Result<(), Error> {
        let failed = |it: io::Error| Error::io("force the history to the disk", it);
        self.doubt_unsynced()?;
        self.write_doubted()?;
        if self.durable.get() == Some(tip) {
            return Ok(());
        }
        let synced = self.steps.pass(Step::Sync).and_then(|()| {
            let objects = File::open(self.gix.objects.store_ref().path())?;
            Ok(rustix::fs::syncfs(&objects)?)
        });
        let note = self.git_dir().join(UNSYNCED);
        if let Err(error) = synced {
            self.unsynced.set(true);
            if self.steps.pass(Step::WriteFile).and_then(|()| File::create(note)).is_err() {
                tracing::warn!("cannot note that a sync failed; this process remembers it");
            }
            return Err(failed(error));
        }
        if self.unsynced.replace(false) || note.exists() {
            remove(&note).map_err(failed)?;
        }
        self.durable.set(Some(tip));
        Ok(())
    }

    /// After a sync of all that failed: what others wrote since a while is written again, loose
    /// objects as a pack of ours, packs and the branch in their places.
    fn doubt_unsynced(&self) -> Result<(), Error> {
        let failed = |it: io::Error| Error::io("write the history again", it);
        let noted = modified(&self.git_dir().join(UNSYNCED)).map_err(failed)?;
        if noted.is_none() && !self.unsynced.get() {
            return Ok(());
        }
        let since = self.run_began(noted).map_err(failed)?;
        let store = self.loose();
        let (mut again, mut bytes) = (Objects::new(), 0);
        let mut buffer = Vec::new();
        for (id, _, _) in self.loose_since(since).map_err(failed)? {
            // What cannot be read is for the next start to put aside.
            let Ok(Some(found)) = store.try_find(&id, &mut buffer) else { continue };
            let kind = found.kind;
            bytes += buffer.len();
            again.push((id, kind, Content::Own(std::mem::take(&mut buffer))));
            if bytes >= AGAIN_BYTES_MAX {
                self.write_pack(std::mem::take(&mut again))?;
                bytes = 0;
            }
        }
        self.write_pack(again)?;
        let packs = self.packs_since(since).map_err(failed)?;
        self.doubted_packs.borrow_mut().extend(packs);
        self.doubts.borrow_mut().extend(self.head()?.branch);
        Ok(())
    }

    /// Writes again what was renamed into place and not synced.
    pub(super) fn write_doubted(&self) -> Result<(), Error> {
        self.write_doubted_packs().map_err(|it| Error::io("write a pack again", it))?;
        let doubted: Vec<String> = self.doubts.borrow().iter().cloned().collect();
        for name in doubted {
            self.write_again(&name)?;
        }
        Ok(())
    }

    fn write_again(&self, name: &str) -> Result<(), Error> {
        let failed = |it: io::Error| Error::io(format!("write {name} again"), it);
        let path = self.gix.common_dir().join(name);
        if let Some(tip) = self.tip(name)? {
            let text = format!("{}\n", tip.0);
            let note = Note::write(self.git_dir(), name, path.clone(), text.as_bytes());
            match note.and_then(Note::lock).map_err(failed)? {
                Taken::Ours(lock) if self.tip(name)? == Some(tip) => {
                    self.steps.pass(Step::Rename).map_err(failed)?;
                    lock.commit().map_err(failed)?;
                    self.steps.pass(Step::Sync).map_err(failed)?;
                    sync_up(&path).map_err(failed)?;
                }
                Taken::Ours(_) => (),
                Taken::Theirs(lock) => {
                    let busy = format!("{} is held by another process", lock.display());
                    return Err(failed(io::Error::other(busy)));
                }
            }
        }
        self.doubts.borrow_mut().remove(name);
        Ok(())
    }

    /// Writes packs again whose names may not have reached the disk. To sync the directory once more
    /// and believe it would not do: the kernel may have dropped what it could not write.
    pub(super) fn write_doubted_packs(&self) -> io::Result<()> {
        let dir = self.gix.objects.store_ref().path().join("pack");
        let doubted: Vec<String> = self.doubted_packs.borrow().iter().cloned().collect();
        for name in doubted {
            for extension in ["pack", "idx"] {
                let place = dir.join(format!("{name}.{extension}"));
                let mut old = match File::open(&place) {
                    Ok(it) => it,
                    // git has repacked meanwhile.
                    Err(it) if it.kind() == io::ErrorKind::NotFound => continue,
                    Err(it) => return Err(it),
                };
                let prefix = format!("tmp_{extension}{}", self.temp_mark());
                let mut temp = tempfile::Builder::new().prefix(&prefix).tempfile_in(&dir)?;
                io::copy(&mut old, &mut temp)?;
                temp.as_file().set_permissions(Permissions::from_mode(0o444))?;
                self.steps.pass(Step::Sync)?;
                temp.as_file().sync_all()?;
                self.steps.pass(Step::Rename)?;
                temp.persist(place)?;
            }
            self.steps.pass(Step::Sync)?;
            File::open(&dir)?.sync_all()?;
            self.doubted_packs.borrow_mut().remove(&name);
        }
        Ok(())
    }
}
