//! `cellctl evict` and `cellctl pin`

use cellblock_proto::client::Request;
use cellblock_proto::id::NotebookId;
use clap::Args;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Save a notebook's variables and end its worker
///
/// The worker comes back, with its variables, when the notebook is asked for something. Refused while it
/// runs something, and when variables would be lost that its profile wants kept.
#[derive(Args, Debug)]
pub(crate) struct Evict {
    /// The notebook's name, as `cellctl ls` shows it
    notebook: NotebookId,

    #[command(flatten)]
    socket: SocketArgs,
}

/// Keep a notebook's worker, however long nobody wants it
///
/// It is evicted neither for being idle nor to make room, until it is unpinned. Holds over restarts of
/// cellblockd too.
#[derive(Args, Debug)]
pub(crate) struct Pin {
    /// The notebook's name, as `cellctl ls` shows it
    notebook: NotebookId,

    /// Let it be evicted again
    #[arg(long)]
    off: bool,

    #[command(flatten)]
    socket: SocketArgs,
}

impl Evict {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let request = Request::Evict { notebook: self.notebook };
        Session::find(&self.socket)?.connection.tell(&request)?;
        Ok(Exit::Ok)
    }
}

impl Pin {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let request = Request::Pin { notebook: self.notebook, pinned: !self.off };
        Session::find(&self.socket)?.connection.ask(&request)?;
        Ok(Exit::Ok)
    }
}
