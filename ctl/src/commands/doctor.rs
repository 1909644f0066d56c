//! `cellctl doctor`

use std::fmt::Write;

use cellblock_proto::client::DoctorLine;
use clap::Args;

use super::{print, print_json, state_mark};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{DaemonArgs, Session};
use crate::signals::Signals;

/// Show what this host can enforce, and what to do about the rest
///
/// One line per check: ✓ holds, ~ holds by a weaker means, ✗ does not hold; below it the command
/// that mends it, when one does.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    daemon: DaemonArgs,

    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
        let checks = Session::find_or_start(&self.daemon, &signals)?.connection.doctor()?;
        if self.json {
            print_json(&checks)?;
        } else {
            print(&text(&checks))?;
        }
        Ok(Exit::Ok)
    }
}

fn text(checks: &[DoctorLine]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for DoctorLine { name, state, detail, cure } in checks {
        let line = format!("{} {name:<width$}  {detail}", state_mark(*state));
        let _ = writeln!(text, "{}", line.trim_end());
        if let Some(cure) = cure {
            let _ = writeln!(text, "  hint: {cure}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use sandbox_profiles::BarrierState;

    use super::*;

    #[test]
    fn each_check_has_its_mark_and_its_cure() {
        let line = |name: &str, state, detail: &str, cure: Option<&str>| DoctorLine {
            name: name.into(),
            state,
            detail: detail.into(),
            cure: cure.map(str::to_owned),
        };
        insta::assert_snapshot!(text(&[
            line("user namespaces", BarrierState::Enforced, "unprivileged", None),
            line("memory", BarrierState::Degraded, "watched every 250 ms", None),
            line("landlock", BarrierState::Missing, "not in this kernel", Some("apt install linux-image-amd64")),
        ]), @r"
        ✓ user namespaces  unprivileged
        ~ memory           watched every 250 ms
        ✗ landlock         not in this kernel
          hint: apt install linux-image-amd64
        ");
    }
}
