//! `cellctl events`

use cellblock_proto::checkpoint::{Checkpoint, NotebookEvent};
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::id::NotebookId;
use clap::Args;

use super::{print, print_json, say};
use crate::client::unexpected;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};
use crate::show::one_line;

/// Show what happens in notebooks, as it happens
///
/// One line each: notebooks opened and closed, workers starting, up and gone, Executions started and ended,
/// workers evicted and returned, checkpoints. It begins with what happens next: nothing is kept for who
/// does not listen. Without --follow it ends after the first event.
///
/// Example: cellctl events -f analysis
#[derive(Args, Debug)]
pub(crate) struct Events {
    /// Only those of this notebook; of all of yours when absent
    notebook: Option<NotebookId>,

    /// Go on until interrupted
    #[arg(short, long)]
    follow: bool,

    /// Those of all tenants, for operators
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    socket: SocketArgs,

    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let mut session = Session::find(&self.socket)?;
        let request = Request::Events { notebook: self.notebook, all: self.all };
        for received in session.connection.ask_for_many(&request)? {
            match received?.reply {
                Reply::Listening => say("listening\n"),
                Reply::Event(event) => {
                    if self.json {
                        print_json(&event)?;
                    } else {
                        print(&format!("{}\n", one_line(&line(&event, self.all))))?;
                    }
                    if !self.follow {
                        break;
                    }
                }
                other => return Err(unexpected(&other).into()),
            }
        }
        Ok(Exit::Ok)
    }
}

/// An event in words; whose it is only where that can differ.
fn line(event: &NotebookEvent, with_tenant: bool) -> String {
    let whose = match event.whose() {
        Some((tenant, notebook)) if with_tenant => format!("{tenant}/{notebook}: "),
        Some((_, notebook)) => format!("{notebook}: "),
        None => String::new(),
    };
    let what = match event {
        NotebookEvent::Opened { profile, .. } => format!("opened with profile {profile}"),
        NotebookEvent::Closed { deleted: false, .. } => "closed".to_owned(),
        NotebookEvent::Closed { deleted: true, .. } => "closed and deleted".to_owned(),
        NotebookEvent::Worker { state, .. } => format!("worker {}", format!("{state:?}").to_lowercase()),
        NotebookEvent::Started { execution, .. } => format!("execution {execution} started"),
        NotebookEvent::Ended { execution, end, wall_us, .. } => {
            format!("execution {execution} ended: {end} after {} ms", wall_us / 1000)
        }
        NotebookEvent::Evicted { reason, .. } => format!("worker evicted: {reason}"),
        NotebookEvent::Returned { took_ms, .. } => format!("worker returned after {took_ms} ms"),
        NotebookEvent::Checkpoint { execution, checkpoint, .. } => {
            format!("checkpoint after execution {execution}: {}", checkpoint_words(checkpoint))
        }
        NotebookEvent::Missed { count } => {
            format!("{count} events were missed: this was too slow to read them")
        }
    };
    whose + &what
}

fn checkpoint_words(checkpoint: &Checkpoint) -> String {
    match checkpoint {
        Checkpoint::Pending => "pending".to_owned(),
        Checkpoint::Saved { id, .. } => format!("{id} saved"),
        Checkpoint::Partial { id, left_out_count, .. } => {
            format!("{id} saved without {left_out_count} values")
        }
        Checkpoint::Failed { reason } => format!("failed: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_names_the_tenant_where_there_are_several() {
        let (notebook, tenant) = ("a".parse::<NotebookId>().unwrap(), "web".parse().unwrap());
        let execution = "e1".parse().unwrap();
        let event =
            NotebookEvent::Ended { notebook, tenant, execution, end: "timed_out".into(), wall_us: 2_500 };
        assert_eq!(line(&event, false), "a: execution e1 ended: timed_out after 2 ms");
        assert!(line(&event, true).starts_with("web/a: "));
    }
}
