//! `cellctl warm`

use cellblock_proto::client::{WarmInfo, ZygoteState};
use clap::Args;
use serde::Serialize;

use super::{print, print_json, say, table};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Show the warm interpreters (zygotes) and the spare workers of a running cellblockd
///
/// One line per profile that has been used, or is warmed at the start: whether workers can be forked, how
/// many wait for a notebook, and what is wrong. With `warm_start = "exec"` a profile has no line.
#[derive(Args, Debug)]
pub(crate) struct Warm {
    #[command(flatten)]
    socket: SocketArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    profiles: Vec<WarmInfo>,
}

impl Warm {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let profiles = Session::find(&self.socket)?.connection.warm()?;
        if self.json {
            print_json(&Document { profiles })?;
        } else if profiles.is_empty() {
            say("nothing is warm (yet: a profile has its line once its Python has been looked at): see \
                 `warm_start` in docs/profiles.md, and cellblockd --warm-start\n");
        } else {
            print(&list(&profiles))?;
        }
        Ok(Exit::Ok)
    }
}

fn list(profiles: &[WarmInfo]) -> String {
    let mut rows = vec![["PROFILE", "ZYGOTE", "SPARES", "DETAIL"].map(str::to_owned).to_vec()];
    rows.extend(profiles.iter().map(|info| {
        let zygote = match info.zygote {
            ZygoteState::Starting => "starting",
            ZygoteState::Up => "up",
            ZygoteState::Failed => "failed",
        };
        let spares = format!("{} of {}", info.spares_ready, info.spares_wanted);
        vec![info.profile.clone(), zygote.to_owned(), spares, info.detail.clone()]
    }));
    table(&rows)
}
