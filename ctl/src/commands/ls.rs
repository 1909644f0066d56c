//! `cellctl ls`

use clap::Args;

use super::{print, print_json, table};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// List the open notebooks
///
/// One line each: name, profile, what its worker is doing, how many executions wait and how many
/// have ended. A worker that is `waiting` has something to run, and as many cells run as may: see
/// `cellblockd --max-running`.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    #[command(flatten)]
    socket: SocketArgs,

    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let notebooks = Session::find(&self.socket)?.connection.notebooks()?;
        if self.json {
            print_json(&notebooks)?;
            return Ok(Exit::Ok);
        }
        let mut rows =
            vec![["NOTEBOOK", "PROFILE", "STATE", "QUEUED", "EXECUTIONS"].map(str::to_owned).to_vec()];
        rows.extend(notebooks.iter().map(|info| {
            vec![
                info.notebook.to_string(),
                info.profile.clone(),
                format!("{:?}", info.state).to_lowercase(),
                info.queued.to_string(),
                info.executions.to_string(),
            ]
        }));
        print(&table(&rows))?;
        Ok(Exit::Ok)
    }
}
