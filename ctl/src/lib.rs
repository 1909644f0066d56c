//! `cellctl`: notebooks and code through cellblockd, from the command line.
//!
//! ```text
//! cli ─▶ commands/<verb> ─▶ session (a daemon, found or private) ─▶ client ─▶ the socket
//!                    run ─▶ runner ─▶ notebook (the document), html (the page),
//!                                     show (the terminal), figures (images in it)
//! ```
//!
//! It is a library as well so that tests and the benchmark can use [`client`] and [`daemon`];
//! neither the verbs nor the page are meant for anybody else.
//!
//! Invariant: data goes to standard output, words go to standard error; every way to end has a
//! name in [`exit`].

pub mod client;
pub mod daemon;
pub mod exit;
pub mod fault;
pub mod selftest;

mod bench;
mod charts;
mod checkpoints;
mod cli;
mod commands;
mod ending;
mod figures;
mod files;
mod html;
mod notebook;
mod runner;
mod session;
mod show;
mod signals;
mod whole_file;
mod workspace;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Parses the command line, does what it says, and reports what went wrong.
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap knows whether this is help (stdout) or a mistake (stderr).
            let exit = if error.use_stderr() { exit::Exit::Usage } else { exit::Exit::Ok };
            // When even that cannot be printed there is nobody left to tell.
            let _ = error.print();
            return exit.into();
        }
    };
    match commands::run(cli.command) {
        Ok(exit) => exit.into(),
        Err(fault) => {
            let _ = write!(std::io::stderr(), "{}", fault.report());
            fault.exit().into()
        }
    }
}
