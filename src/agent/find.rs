//! What people name, found in the store: one record, one operation, or a clear word why not.

use super::Error;
use super::desk::LISTED_MAX;
use super::lane::Lane;
use crate::model::ids::OperationId;
use crate::model::operation::{Headline, Operation};
use crate::model::record::Record;

/// The records of all fabrics, of one kind only where one is named.
pub(super) fn records(lane: &Lane, kind: Option<&str>) -> Result<Vec<Record>, Error> {
    let mut found = Vec::new();
    for it in &lane.fabrics {
        for record in lane.store.records(&it.fabric.name) {
            let record = record?;
            if kind.is_none_or(|it| it.eq_ignore_ascii_case(&record.key.kind))
                && found.len() < LISTED_MAX
            {
                found.push(record);
            }
        }
    }
    Ok(found)
}

/// One record: by its id, its path, or `Kind/name`.
pub(super) fn record(lane: &Lane, name: &str) -> Result<Record, Error> {
    if let Ok(id) = name.parse()
        && let Some(it) = lane.store.record(&crate::model::key::ResourceId(id))?
    {
        return Ok(it);
    }
    let slash = name.split_once('/');
    let matches = |it: &Record| {
        it.path.as_str() == name
            || it.key.name == name
            || slash.is_some_and(|(kind, name)| {
                it.key.kind.eq_ignore_ascii_case(kind) && it.key.name == name
            })
    };
    let mut found = records(lane, None)?.into_iter().filter(matches);
    match (found.next(), found.next()) {
        (Some(it), None) => Ok(it),
        (Some(_), Some(_)) => {
            Err(Error::NotFound { what: format!("single record `{name}`; write Kind/name") })
        }
        (None, _) => Err(Error::NotFound {
            what: format!("record `{name}`; git-intake records list shows all"),
        }),
    }
}

/// One operation, by its id or the beginning of it.
pub(super) fn operation(lane: &Lane, id: &str) -> Result<Operation, Error> {
    if let Ok(id) = id.parse::<OperationId>()
        && let Some(it) = lane.store.operation(&id)?
    {
        return Ok(it);
    }
    let begins = |it: &Headline| !id.is_empty() && it.id.to_string().starts_with(id);
    let begins = |it: &Result<Headline, _>| it.as_ref().map_or(true, begins);
    let mut found = lane.store.headlines().take(LISTED_MAX).filter(begins);
    match (found.next(), found.next()) {
        (Some(it), None) => {
            let it = lane.store.operation(&it?.id)?;
            it.ok_or_else(|| Error::NotFound { what: format!("operation {id}") })
        }
        (Some(_), Some(_)) => {
            Err(Error::NotFound { what: format!("single operation {id}; write more of its id") })
        }
        (None, _) => Err(Error::NotFound {
            what: format!("operation {id}; git-intake operations list shows the newest"),
        }),
    }
}
