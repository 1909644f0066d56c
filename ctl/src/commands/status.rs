//! `cellctl status`

use std::fmt::Write;

use cellblock_proto::client::{NotebookInfo, NotebookStatus, WorkerState};
use cellblock_proto::id::NotebookId;
use clap::Args;
use sandbox_profiles::Start;

use super::{print, print_json, report_table, state_of, table};
use crate::ending::bytes;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Show one notebook: its worker, queue, variables and sandbox
///
/// The variables are those known when the last execution ended.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// The notebook's name, as `cellctl ls` shows it
    notebook: NotebookId,

    #[command(flatten)]
    socket: SocketArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let status = Session::find(&self.socket)?.connection.status(&self.notebook)?;
        if self.json {
            print_json(&status)?;
        } else {
            print(&text(&status))?;
        }
        Ok(Exit::Ok)
    }
}

fn state(info: &NotebookInfo) -> String {
    let word = state_of(info);
    match info.state {
        WorkerState::Waiting => format!("{word} for others: as many cells run as may"),
        WorkerState::None if info.evicted => {
            format!("{word}: it comes back, with what is saved, with the next cell")
        }
        _ => word,
    }
}

fn text(status: &NotebookStatus) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let queue: Vec<_> = status.queue.iter().map(ToString::to_string).collect();
    let line = |name: &str, value: String| vec![name.to_owned(), value];
    let mut text = table(&[
        line("notebook", status.info.notebook.to_string()),
        line("profile", status.info.profile.clone()),
        line("state", state(&status.info)),
        line("python", or_none(status.python.clone())),
        line("worker", or_none(status.worker_pid.map(|pid| format!("process {pid}")))),
        line("started", or_none(status.report.as_ref().map(|report| started(&report.start)))),
        line("running", or_none(status.running.as_ref().map(ToString::to_string))),
        line("queue", or_none((!queue.is_empty()).then(|| queue.join(", ")))),
        line("executions", status.info.executions.to_string()),
        line("pinned", if status.info.pinned { "yes: it is not evicted" } else { "no" }.to_owned()),
    ]);
    if !status.names.is_empty() {
        let mut rows = vec![["VARIABLE", "TYPE", "SIZE"].map(str::to_owned).to_vec()];
        rows.extend(status.names.iter().map(|name| {
            vec![name.name.clone(), name.kind.clone(), name.bytes.map(bytes).unwrap_or_default()]
        }));
        let _ = write!(text, "\n{}", table(&rows));
    }
    if let Some(report) = &status.report {
        let _ = write!(text, "\n{}", report_table(report));
    }
    text
}

/// How a worker's Python came to be.
fn started(start: &Start) -> String {
    match start {
        Start::Exec => "executed".to_owned(),
        Start::Zygote => "forked from a zygote".to_owned(),
        Start::Fallback { why } => format!("executed, though its profile asks for a zygote: {why}"),
    }
}
