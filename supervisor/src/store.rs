//! Store processes, for what clients ask of checkpoints: this process reads and writes none itself. Each does one
//! thing, as whoever the files belong to, and can reach nothing but the notebook's folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cellblock_proto::client::ErrorCode;
use cellblock_proto::codec::Codec;
use cellblock_proto::store::{StoreOrder, StoreReply};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::anchor::send_with;
use crate::daemon::{Daemon, Key};
use crate::log::chain;
use crate::process::{self, ProcessError};
use crate::workspace::{self, WorkspaceError};

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("there is no notebook {:?}", notebook.as_str())]
    Unknown { notebook: Key },
    #[error(transparent)]
    Folder(#[from] WorkspaceError),
    #[error("failed to open the folder of checkpoints")]
    Open(#[source] io::Error),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the store process said something else")]
    Reply,
    /// What the store process says of it.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// What a client is told.
    pub(crate) fn for_client(&self) -> (ErrorCode, String) {
        let code = match self {
            StoreError::Unknown { .. } => ErrorCode::UnknownNotebook,
            StoreError::Folder(_) | StoreError::Open(_) => ErrorCode::Storage,
            StoreError::Process(_) | StoreError::Reply => ErrorCode::Internal,
            StoreError::Failed(_) => ErrorCode::Checkpoint,
        };
        (code, chain(self))
    }
}

/// Has an order done on a notebook's checkpoints; `other` is the descriptor that goes with some.
///
/// # Errors
/// There is no such notebook, no process, or it could not do it.
pub(crate) async fn run(
    daemon: &Daemon,
    notebook: &Key,
    order: &StoreOrder,
    other: Option<OwnedFd>,
) -> Result<StoreReply, StoreError> {
    if !workspace::exists(&daemon.state, notebook) {
        return Err(StoreError::Unknown { notebook: notebook.clone() });
    }
    let owner = daemon.anchor.first_uid();
    let folder = File::open(workspace::checkpoints(&daemon.state, notebook, owner)?);
    let folder = folder.map_err(StoreError::Open)?;
    let orders = told(order, &folder, other).map_err(StoreError::Open)?;
    let said = process::store(&daemon.anchor.program(), owner, orders).await;
    let said = said.inspect_err(|_| daemon.metrics.store_failed())?;
    match Codec::Json.decode(said.trim_end().as_bytes()) {
        Ok(StoreReply::Failed { reason }) => Err(StoreError::Failed(reason)),
        Ok(reply) => Ok(reply),
        Err(_) => Err(StoreError::Reply),
    }
}

/// The standard input of a process that is to do this.
fn told(order: &StoreOrder, folder: &File, other: Option<OwnedFd>) -> io::Result<OwnedFd> {
    let (ours, its) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let order = Codec::Json.encode(order).map_err(io::Error::other)?;
    let files: Vec<_> = [folder.as_fd()].into_iter().chain(other.as_ref().map(AsFd::as_fd)).collect();
    send_with(ours.as_fd(), &order, &files)?;
    Ok(its)
}
