//! `cellctl restart`

use cellblock_proto::client::Request;
use cellblock_proto::id::NotebookId;
use clap::Args;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// End a notebook's worker; the next code gets a new one
///
/// The new one begins without variables. The files stay, and the checkpoints: `cellctl checkpoint restore`
/// goes back to one.
#[derive(Args, Debug)]
pub(crate) struct Restart {
    /// The notebook's name, as `cellctl ls` shows it
    notebook: NotebookId,

    #[command(flatten)]
    socket: SocketArgs,
}

impl Restart {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let request = Request::Restart { notebook: self.notebook };
        Session::find(&self.socket)?.connection.tell(&request)?;
        Ok(Exit::Ok)
    }
}
