//! `cellctl metrics`

use clap::Args;

use super::print;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// Print the daemon's metrics in the text format that Prometheus reads
///
/// For operators. docs/monitoring.md says what each is. A Prometheus on the same machine can fetch them
/// itself: see `cellblockd --metrics-address`.
#[derive(Args, Debug)]
pub(crate) struct Metrics {
    #[command(flatten)]
    socket: SocketArgs,
}

impl Metrics {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let text = Session::find(&self.socket)?.connection.metrics()?;
        print(&String::from_utf8_lossy(&text))?;
        Ok(Exit::Ok)
    }
}
