//! The command line as a whole; each verb's own arguments are in its file below `commands/`.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::exit::EXIT_HELP;

/// Run notebooks and code in isolated Python workers
///
/// Talks to cellblockd over its Unix socket. `run`, `exec`, `doctor` and `profile` start a private
/// cellblockd when none is running, so that nothing needs to be set up for them; `selftest` always does.
#[derive(Debug, Parser)]
#[command(name = "cellctl", version, after_help = EXIT_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run notebooks or scripts cell by cell, and write what came out
    Run(commands::run::Run),
    /// Run a piece of code in a notebook, and show what comes out
    Exec(commands::exec::Exec),
    /// List the open notebooks
    Ls(commands::ls::Ls),
    /// Show one notebook: its worker, queue, variables and sandbox
    Status(commands::status::Status),
    /// Interrupt what a notebook is running
    Interrupt(commands::interrupt::Interrupt),
    /// End a notebook's worker; the next code gets a new one
    Restart(commands::restart::Restart),
    /// Close a notebook, and with --files delete its files
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
    /// Show what this host can enforce, and what to do about the rest
    Doctor(commands::doctor::Doctor),
    /// List, explain and check what notebooks may be allowed
    Profile(commands::profile::ProfileArgs),
    // Without a description here its own is shown whole: what it does to a host must be.
    Selftest(commands::selftest::Selftest),
    /// Print a completion script for a shell
    Completions(commands::completions::Completions),
}
