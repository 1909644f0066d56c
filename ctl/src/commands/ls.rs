//! `cellctl ls`

use cellblock_proto::client::NotebookInfo;
use clap::Args;

use super::{print, print_json, state_of, table};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// List the open notebooks
///
/// One line each: name, profile, what its worker is doing, how many executions wait and how many
/// have ended. A worker that is `waiting` has something to run, and as many cells run as may: see
/// `cellblockd --max-running`. One that was `evicted` comes back, with what is saved, with the next
/// cell; one that is pinned (`cellctl pin`) is not evicted.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    #[command(flatten)]
    socket: SocketArgs,

    /// List the notebooks of all tenants, as an operator
    #[arg(long, conflicts_with = "tenant")]
    all_tenants: bool,

    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let mut connection = Session::find(&self.socket)?.connection;
        let notebooks =
            if self.all_tenants { connection.overview()?.notebooks } else { connection.notebooks()? };
        if self.json {
            print_json(&notebooks)?;
            return Ok(Exit::Ok);
        }
        let mut rows = vec![
            ["NOTEBOOK", "PROFILE", "STATE", "QUEUED", "EXECUTIONS", "PINNED"].map(str::to_owned).to_vec(),
        ];
        rows.extend(notebooks.iter().map(|info| {
            vec![
                info.notebook.to_string(),
                info.profile.clone(),
                state_of(info),
                info.queued.to_string(),
                info.executions.to_string(),
                if info.pinned { "yes" } else { "-" }.to_owned(),
            ]
        }));
        if self.all_tenants {
            let tenant =
                |info: &NotebookInfo| info.tenant.as_ref().map_or(String::new(), ToString::to_string);
            let tenants = std::iter::once("TENANT".to_owned()).chain(notebooks.iter().map(tenant));
            for (row, tenant) in rows.iter_mut().zip(tenants) {
                row.insert(0, tenant);
            }
        }
        print(&table(&rows))?;
        Ok(Exit::Ok)
    }
}
