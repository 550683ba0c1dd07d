//! What is remembered beside the records, and what is forgotten of them.

use super::write::Batch;
use super::{BATCH_MAX, Error, Settlement, Store, decode, get, joined, read};
use crate::model::fabric::FabricName;
use crate::model::key::ResourceId;
use crate::model::path::RawPath;
use crate::model::record::{Orphan, Stray};
use std::io;

impl Store {
    /// Forgets a fabric's records, so that they can be made again from git.
    pub fn forget_records(&self, fabric: &FabricName) -> Result<(), Error> {
        self.write(Batch { unsynced: Some(fabric), ..Batch::default() })?;
        loop {
            let some: Vec<_> =
                self.places.scan_prefix(joined(fabric, b"")).take(BATCH_MAX).collect();
            let ids: Result<Vec<ResourceId>, Error> = some
                .into_iter()
                .map(|item| {
                    let (_, id) = item.map_err(read)?;
                    let id = uuid::Uuid::from_slice(&id)
                        .map_err(|it| Error::Read(io::Error::other(it)))?;
                    Ok(ResourceId(id))
                })
                .collect();
            let gone = ids?;
            if gone.is_empty() {
                return self.sync();
            }
            self.write(Batch::of(&Settlement { gone, ..Settlement::default() }))?;
        }
    }

    /// One orphan.
    pub fn orphan(&self, id: &ResourceId) -> Result<Option<Orphan>, Error> {
        get(self.sound(&self.orphans)?, id.0.as_bytes())
    }

    /// The orphans of all fabrics.
    pub fn orphans(&self) -> impl Iterator<Item = Result<Orphan, Error>> + use<'_> {
        let (trouble, orphans) = match self.sound(&self.orphans) {
            Ok(orphans) => (None, Some(orphans.iter())),
            Err(error) => (Some(Err(error)), None),
        };
        let found = orphans.into_iter().flatten();
        trouble.into_iter().chain(found.map(|item| decode(&item.map_err(read)?.1)))
    }

    /// The files in a fabric's `managed/` that have no record, in the order of their paths.
    pub fn strays(
        &self,
        fabric: &FabricName,
    ) -> impl Iterator<Item = Result<Stray, Error>> + use<'_> {
        let (trouble, strays) = match self.sound(&self.strays) {
            Ok(strays) => (None, Some(strays.scan_prefix(joined(fabric, b"")))),
            Err(error) => (Some(Err(error)), None),
        };
        let found = strays.into_iter().flatten();
        trouble.into_iter().chain(found.map(|item| decode(&item.map_err(read)?.1)))
    }

    /// One of them.
    pub fn stray(&self, fabric: &FabricName, path: &RawPath) -> Result<Option<Stray>, Error> {
        get(self.sound(&self.strays)?, &joined(fabric, path.as_bytes()))
    }

    /// Forgets all that is known of a fabric but what the journal says.
    pub fn forget_fabric(&self, fabric: &FabricName) -> Result<(), Error> {
        self.forget_records(fabric)?;
        let orphans: Result<Vec<Orphan>, Error> = self.orphans().collect();
        let orphans = orphans?.into_iter().filter(|it| it.record.fabric == *fabric);
        let mut gone: Vec<ResourceId> = orphans.map(|it| it.record.id).collect();
        let strays: Result<Vec<Stray>, Error> = self.strays(fabric).collect();
        let mut homed: Vec<_> = strays?.into_iter().map(|it| (fabric.clone(), it.path)).collect();
        let rejects = self.rejects(fabric)?.into_iter();
        let mut cleared: Vec<_> = rejects.map(|it| (fabric.clone(), it.path)).collect();
        let conflicts = self.conflicts()?.into_iter().filter(|it| it.fabric == *fabric);
        let mut resolved: Vec<ResourceId> = conflicts.map(|it| it.id).collect();
        while !(gone.is_empty() && homed.is_empty() && cleared.is_empty() && resolved.is_empty()) {
            let gone = gone.split_off(gone.len().saturating_sub(BATCH_MAX));
            let homed = homed.split_off(homed.len().saturating_sub(BATCH_MAX));
            let cleared = cleared.split_off(cleared.len().saturating_sub(BATCH_MAX));
            let resolved = resolved.split_off(resolved.len().saturating_sub(BATCH_MAX));
            self.settle(Settlement { gone, homed, cleared, resolved, ..Settlement::default() })?;
        }
        Ok(())
    }
}
