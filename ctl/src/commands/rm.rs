//! `cellctl rm`

use cellblock_proto::client::{ErrorCode, Request};
use cellblock_proto::id::NotebookId;
use clap::Args;

use crate::client::ClientError;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Close a notebook, and with --files delete its files
///
/// Its worker ends. Without --files its workspace stays on disk, and so do its checkpoints; opening the
/// notebook again finds them. Variables that no checkpoint has are lost.
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The notebooks' names, as `cellctl ls` shows them
    #[arg(required = true, value_name = "NOTEBOOK")]
    notebooks: Vec<NotebookId>,

    /// Delete the notebook's files and checkpoints too; there is no way back
    #[arg(long)]
    files: bool,

    #[command(flatten)]
    socket: SocketArgs,
}

impl Rm {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let mut session = Session::find(&self.socket)?;
        for notebook in self.notebooks {
            let name = notebook.to_string();
            let request = if self.files { Request::Delete { notebook } } else { Request::Close { notebook } };
            session.connection.tell(&request).map_err(|error| in_our_words(error, &name, self.files))?;
        }
        Ok(Exit::Ok)
    }
}

/// The daemon answers in words of the protocol, which are for those who write clients.
fn in_our_words(error: ClientError, name: &str, files: bool) -> Fault {
    match error {
        ClientError::Refused { code: ErrorCode::UnknownNotebook, .. } if !files => Fault::usage(format!(
            "no notebook {name:?} is open; `cellctl rm --files {name}` deletes the files of a closed one"
        )),
        ClientError::Refused { code: ErrorCode::UnknownNotebook, .. } => {
            Fault::usage(format!("there is no notebook {name:?}, open or closed"))
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_notebook_is_told_how_its_files_are_deleted() {
        let message = "notebook \"x\" is not open: open it first (`open_notebook`)".into();
        let fault = in_our_words(
            ClientError::Refused { code: ErrorCode::UnknownNotebook, message, hint: None },
            "x",
            false,
        );
        assert_eq!(fault.exit(), Exit::Usage);
        assert_eq!(
            fault.to_string(),
            "no notebook \"x\" is open; `cellctl rm --files x` deletes the files of a closed one"
        );
    }
}
