//! `cellctl interrupt`

use cellblock_proto::client::Request;
use cellblock_proto::id::NotebookId;
use clap::Args;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Interrupt what a notebook is running
///
/// Like Ctrl-C: the code gets a KeyboardInterrupt and its variables stay. Code that does not heed
/// it is ended with its worker after the profile's grace.
#[derive(Args, Debug)]
pub(crate) struct Interrupt {
    /// The notebook's name, as `cellctl ls` shows it
    notebook: NotebookId,

    #[command(flatten)]
    socket: SocketArgs,
}

impl Interrupt {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let request = Request::Interrupt { notebook: self.notebook };
        Session::find(&self.socket)?.connection.tell(&request)?;
        Ok(Exit::Ok)
    }
}
