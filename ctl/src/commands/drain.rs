//! `cellctl drain`

use cellblock_proto::client::{Reply, Request};
use clap::Args;
use serde_json::json;

use crate::client::unexpected;
use crate::commands::{print_json, say};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// End cellblockd when nothing runs any more
///
/// From now on new Executions are refused. Cells that run have time, what is being saved is finished, then
/// cellblockd ends. What still runs when the time is over goes on without it, which is exit code 4: the next
/// cellblockd takes it back. For operators; asks cellblockd, whichever user it runs as. SIGTERM does the same.
#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// How long cells that run have [default: as cellblockd was told]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86_400))]
    seconds: Option<u32>,

    /// Print one JSON object instead of words
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    socket: SocketArgs,
}

impl Drain {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let request = Request::Drain { seconds: self.seconds };
        let reply = Session::find(&self.socket)?.connection.ask(&request)?.reply;
        let Reply::Drained { running, waiting, unsaved } = reply else {
            return Err(unexpected(&reply).into());
        };
        if self.json {
            print_json(&json!({ "running": running, "waiting": waiting, "unsaved": unsaved }))?;
        } else if running + waiting + unsaved > 0 {
            say(&format!(
                "left for the next cellblockd: {running} running, {waiting} waiting, {unsaved} being saved\n"
            ));
        }
        Ok(if running + unsaved == 0 { Exit::Ok } else { Exit::TimedOut })
    }
}
