//! A notebook's checkpoints, over the connection.

use std::io::Read;
use std::path::Path;

use cellblock_proto::checkpoint::{
    Checkpoint, CheckpointContent, CheckpointInfo, Collected, Keep, NotRestored, Verified,
};
use cellblock_proto::client::{NotebookInfo, Reply, Request};
use cellblock_proto::execution::NameInfo;
use cellblock_proto::id::NotebookId;

use crate::client::{ClientError, Connection, unexpected};
use crate::fault::Fault;

/// What one request carries, in bytes.
const PART_BYTES: u64 = 1 << 20;

/// Those of a notebook that is open. Where a number is absent, it is the current checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoints<'a> {
    connection: &'a mut Connection,
    notebook: &'a NotebookId,
}

/// What is kept.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Kept {
    pub(crate) checkpoints: Vec<CheckpointInfo>,
    pub(crate) used_bytes: u64,
    pub(crate) damage: Vec<String>,
}

/// What came back.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Restored {
    pub(crate) checkpoint: u64,
    pub(crate) names: Vec<NameInfo>,
    pub(crate) losses: Vec<NotRestored>,
}

impl<'a> Checkpoints<'a> {
    pub(crate) fn of(connection: &'a mut Connection, notebook: &'a NotebookId) -> Self {
        Checkpoints { connection, notebook }
    }

    /// Those that are kept, oldest first.
    pub(crate) fn list(&mut self) -> Result<Kept, ClientError> {
        match self.connection.ask(&Request::Checkpoints { notebook: self.notebook.clone() })?.reply {
            Reply::Checkpoints { checkpoints, used_bytes, damage } => {
                Ok(Kept { checkpoints, used_bytes, damage })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// What is in one.
    pub(crate) fn content(&mut self, checkpoint: Option<u64>) -> Result<CheckpointContent, ClientError> {
        let request = Request::CheckpointContent { notebook: self.notebook.clone(), checkpoint };
        match self.connection.ask(&request)?.reply {
            Reply::CheckpointContent(content) => Ok(content),
            other => Err(unexpected(&other)),
        }
    }

    /// Saves the variables, and waits for it.
    pub(crate) fn create(&mut self) -> Result<Checkpoint, ClientError> {
        match self.connection.ask(&Request::Checkpoint { notebook: self.notebook.clone() })?.reply {
            Reply::Checkpoint(checkpoint) => Ok(checkpoint),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a worker with what is in one.
    pub(crate) fn restore(&mut self, checkpoint: Option<u64>) -> Result<Restored, ClientError> {
        let request = Request::Restore { notebook: self.notebook.clone(), checkpoint };
        match self.connection.ask(&request)?.reply {
            Reply::Restored { checkpoint, names, losses } => Ok(Restored { checkpoint, names, losses }),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a notebook that begins with what is in one.
    pub(crate) fn fork(
        &mut self,
        checkpoint: Option<u64>,
        to: &NotebookId,
    ) -> Result<NotebookInfo, ClientError> {
        let request = Request::Fork { notebook: self.notebook.clone(), checkpoint, to: to.clone() };
        match self.connection.ask(&request)?.reply {
            Reply::Notebook(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives one as a file to `sink`, part by part.
    pub(crate) fn export(
        &mut self,
        checkpoint: Option<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let request = Request::ExportCheckpoint { notebook: self.notebook.clone(), checkpoint };
        for received in self.connection.ask_for_many(&request)? {
            let received = received?;
            match received.reply {
                Reply::Part => sink(&received.payload)?,
                Reply::Done => return Ok(()),
                other => return Err(unexpected(&other).into()),
            }
        }
        Err(unexpected(&Reply::Part).into())
    }

    /// Takes over an exported one, and returns its number here. `from` is what errors of `source` are about;
    /// `progress` is told of the bytes sent, and ends it by an error.
    pub(crate) fn import(
        &mut self,
        source: &mut dyn Read,
        from: &Path,
        progress: &mut dyn FnMut(u64) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let mut next = || {
            let mut part = Vec::new();
            let read = Read::take(&mut *source, PART_BYTES).read_to_end(&mut part);
            read.map(|_| part).map_err(Fault::file("read", from))
        };
        let (mut offset, mut part) = (0, next()?);
        loop {
            progress(offset)?;
            let following = next()?;
            let count = part.len() as u64;
            let last = following.is_empty();
            let request = Request::ImportCheckpoint { notebook: self.notebook.clone(), offset, last };
            match self.connection.ask_with(&request, part)?.reply {
                Reply::Done if !last => {}
                Reply::Imported { checkpoint } if last => return Ok(checkpoint),
                other => return Err(unexpected(&other).into()),
            }
            (offset, part) = (offset + count, following);
        }
    }

    /// Reads every byte of one, of all when none is named.
    pub(crate) fn verify(&mut self, checkpoint: Option<u64>) -> Result<Vec<Verified>, ClientError> {
        let request = Request::VerifyCheckpoints { notebook: self.notebook.clone(), checkpoint };
        match self.connection.ask(&request)?.reply {
            Reply::Verified { checkpoints } => Ok(checkpoints),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes what a rule, or the profile's, does not keep.
    pub(crate) fn collect(&mut self, keep: Option<Keep>) -> Result<Collected, ClientError> {
        let request = Request::CollectCheckpoints { notebook: self.notebook.clone(), keep };
        match self.connection.ask(&request)?.reply {
            Reply::Collected(collected) => Ok(collected),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the worker and removes them all.
    pub(crate) fn clear(&mut self) -> Result<(), ClientError> {
        self.connection.tell(&Request::Clear { notebook: self.notebook.clone() })
    }
}
