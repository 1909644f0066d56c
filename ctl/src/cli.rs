//! The command line as a whole; each verb's own arguments are in its file below `commands/`.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::exit::EXIT_HELP;

/// Run notebooks and code in isolated Python workers
///
/// Talks to cellblockd over its Unix socket. `run`, `exec`, `doctor`, `profile` and `bench` start a
/// private cellblockd when none is running, so that nothing needs to be set up for them; `selftest`
/// always does.
#[derive(Debug, Parser)]
#[command(name = "cellctl", version, after_help = EXIT_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs. What each is for stands with its arguments, whole: a line here would hide the rest.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(commands::run::Run),
    Exec(commands::exec::Exec),
    Ls(commands::ls::Ls),
    Status(commands::status::Status),
    Interrupt(commands::interrupt::Interrupt),
    Restart(commands::restart::Restart),
    Evict(commands::evict::Evict),
    Pin(commands::evict::Pin),
    Rm(commands::rm::Rm),
    /// List, fetch, store and remove files of a notebook's workspace
    ///
    /// PATH is relative to the workspace, which the notebook sees as /workspace. Names are written as
    /// `files ls` shows them: bytes that are no UTF-8 and control characters as \xNN, a backslash as \\.
    /// Links are listed and can be removed; they are never followed. The notebook must be open, but may
    /// run something meanwhile.
    ///
    /// Example: cellctl files get analysis results/table.csv -o table.csv
    Files(commands::files::FilesVerb),
    /// Save a notebook's variables; list, restore, fork, move and remove what is saved
    ///
    /// A checkpoint is a notebook's variables as they were at one moment, with a number. Where the
    /// profile says so they are taken by themselves after each cell; docs/checkpoints.md tells what is
    /// in them. ID is a number that `checkpoint ls` shows, by default that of the current checkpoint,
    /// with which the notebook's next worker begins. Of a notebook that is not open only `ls`, `show`,
    /// `export` and `verify` can be asked.
    ///
    /// Example: cellctl checkpoint restore analysis 41
    Checkpoint(commands::checkpoint::CheckpointVerb),
    Top(commands::top::Top),
    Events(commands::events::Events),
    Metrics(commands::metrics::Metrics),
    Doctor(commands::doctor::Doctor),
    Profile(commands::profile::ProfileArgs),
    Warm(commands::warm::Warm),
    Tenants(commands::tenants::Tenants),
    Drain(commands::drain::Drain),
    Selftest(commands::selftest::Selftest),
    Bench(commands::bench::Bench),
    Completions(commands::completions::Completions),
}
