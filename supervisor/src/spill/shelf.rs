//! What ended Executions of a notebook have on the disk: so much in all, for so many days, and less where the disk has
//! little left.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use cellblock_proto::id::ExecutionId;

use super::{DAYS, NOTEBOOK_BYTES, list, parse, remove_all};
use crate::entry::blocking;
use crate::journal::Journal;

/// A notebook's ended Executions may have one part in so many of what their disk has left.
const PART_OF_FREE: u64 = 16;

/// What ended Executions of a notebook have on the disk, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(super) owners: VecDeque<(ExecutionId, u64)>,
}

impl Shelf {
    /// What daemons before us have left. What is old, or whose Execution is known no more, is removed.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(folder: &Path, journal: &Journal) -> io::Result<Self> {
        let mut shelf = Shelf::default();
        for owner in owners(folder)? {
            if !journal.knows(&owner.execution) || (owner.is_old() && journal.has_ended(&owner.execution)) {
                remove_all(folder, &owner.execution);
            } else if journal.has_ended(&owner.execution) {
                shelf.owners.push_back((owner.execution, owner.bytes));
            }
        }
        Ok(shelf)
    }

    /// An Execution has ended and has so much; above the notebook's cap the oldest goes.
    pub(crate) fn put(&mut self, folder: Option<&Path>, execution: &ExecutionId, bytes: u64) {
        self.owners.push_back((execution.clone(), bytes));
        let mut all: u64 = self.owners.iter().map(|(_, bytes)| bytes).sum();
        let most = folder.map_or(NOTEBOOK_BYTES, |folder| allowed(blocking(|| free_bytes(folder))));
        while all > most && self.owners.len() > 1 {
            let Some((oldest, bytes)) = self.owners.pop_front() else { return };
            all -= bytes;
            if let Some(folder) = folder {
                blocking(|| remove_all(folder, &oldest));
            }
        }
    }

    /// Removes what belongs to Executions that are forgotten.
    pub(crate) fn clear(&mut self, folder: &Path, journal: &Journal) {
        self.owners.retain(|(execution, _)| {
            let is_known = journal.knows(execution);
            if !is_known {
                blocking(|| remove_all(folder, execution));
            }
            is_known
        });
    }
}

/// Removes from a notebook's folder what ended Executions had put out longer ago than it is kept; returns how many, and
/// their bytes. Its task may be at work there.
///
/// # Errors
/// What the disk says.
pub(crate) fn expire(folder: &Path) -> io::Result<(u64, u64)> {
    let old = match owners(folder) {
        Ok(owners) => owners.into_iter().filter(Owner::is_old).collect(),
        // Of one that is just being trimmed, or deleted.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if old.is_empty() {
        return Ok((0, 0));
    }
    let journal = Journal::look(&folder.into())?;
    let (mut count, mut bytes) = (0, 0);
    for owner in old.iter().filter(|owner| journal.has_ended(&owner.execution)) {
        remove_all(folder, &owner.execution);
        (count, bytes) = (count + 1, bytes + owner.bytes);
    }
    Ok((count, bytes))
}

/// What the ended Executions of one notebook may keep where a disk has so much left: outputs that have been read are the
/// first thing that a disk can do without.
pub(super) fn allowed(free: Option<u64>) -> u64 {
    free.map_or(NOTEBOOK_BYTES, |free| NOTEBOOK_BYTES.min(free / PART_OF_FREE))
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whose segments are in a folder, oldest first by when they were last written to, with their bytes.
///
/// # Errors
/// What the disk says.
fn owners(folder: &Path) -> io::Result<Vec<Owner>> {
    let mut owners: Vec<Owner> = Vec::new();
    for name in list(folder)? {
        let Some((execution, ..)) = parse(&name) else { continue };
        let found = fs::metadata(folder.join(&name))?;
        let touched = found.modified()?;
        match owners.iter_mut().find(|owner| owner.execution == execution) {
            Some(owner) => {
                owner.bytes += found.len();
                owner.touched = owner.touched.max(touched);
            }
            None => owners.push(Owner { execution, bytes: found.len(), touched }),
        }
    }
    owners.sort_by_key(|owner| owner.touched);
    Ok(owners)
}

/// An Execution that has segments.
struct Owner {
    execution: ExecutionId,
    bytes: u64,
    touched: SystemTime,
}

impl Owner {
    /// Whether it is kept no longer. A clock that was set back makes nothing old.
    fn is_old(&self) -> bool {
        self.touched.elapsed().is_ok_and(|age| age.as_secs() > DAYS * 24 * 60 * 60)
    }
}
