//! `cellctl rm`

use cellblock_proto::client::Request;
use cellblock_proto::id::NotebookId;
use clap::Args;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Close a notebook, and with --files delete its files
///
/// Its worker ends and its variables are lost. Without --files its workspace stays on disk, and
/// opening the notebook again finds it.
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The notebooks' names, as `cellctl ls` shows them
    #[arg(required = true, value_name = "NOTEBOOK")]
    notebooks: Vec<NotebookId>,

    /// Delete the notebook's files too; there is no way back
    #[arg(long)]
    files: bool,

    #[command(flatten)]
    socket: SocketArgs,
}

impl Rm {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let mut session = Session::find(&self.socket)?;
        for notebook in self.notebooks {
            let request = if self.files { Request::Delete { notebook } } else { Request::Close { notebook } };
            session.connection.tell(&request)?;
        }
        Ok(Exit::Ok)
    }
}
