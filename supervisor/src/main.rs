//! `cellblockd`: the supervisor. One tokio process, one task per notebook, no user code.
//!
//! The way of an Execution: [`connection`] reads it, [`notebook`] owns it from there on and asks
//! [`machine`] what to do, [`launch`] starts a worker when there is none, [`link`] carries Commands
//! and Events, [`records`] keeps what came, [`delivery`] and [`outbox`] bring it to the client.
//!
//! Invariant: this process never forks code (see [`process`]), never enters a namespace, never
//! mounts, and of what a worker sends it decodes only bounded frames.

mod adopt;
mod anchor;
mod args;
mod audit;
mod build;
mod checkpoints;
mod connection;
#[cfg(test)]
mod connection_tests;
mod daemon;
mod delivery;
mod denial;
mod doctor;
mod doctor_kernel;
mod drain;
mod entry;
mod evict;
mod expiry;
mod files;
mod groups;
mod host;
mod intake;
mod interpreter;
mod journal;
mod launch;
mod launches;
mod line;
mod link;
mod log;
mod loss;
mod machine;
mod metrics;
mod newest;
mod notebook;
#[cfg(test)]
mod notebook_tests;
mod outbox;
mod outdated;
mod overview;
mod pace;
mod places;
mod prepare;
mod pressure;
mod process;
mod profiles;
mod quota;
mod reconcile;
mod records;
mod registry;
mod removal;
mod runners;
mod runtime_dir;
mod server;
mod shims;
mod slots;
mod spill;
mod stat;
mod store;
mod systemd;
mod taken;
mod tenants;
mod time;
mod unsaved;
mod vitals;
mod warm;
#[cfg(debug_assertions)]
mod weaken;
mod workspace;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// What was needed for a moment goes back to the kernel soon, whichever thread had it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Ended while something ran or was being saved, which goes on for the next daemon: EX_TEMPFAIL of sysexits.h.
const UNFINISHED: u8 = 75;

/// What reads or writes files when the daemon ends gets this long.
const LAST_FILES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = args::Args::parse();
    if let Err(error) = log::init(args.log_format) {
        say(format_args!("failed to open the journal's socket for --log-format journald: {error}"));
        return ExitCode::FAILURE;
    }
    // Before there is a second thread.
    let given = match systemd::Given::take() {
        Ok(given) => given,
        Err(error) => {
            say(format_args!("{}", log::chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("failed to start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(server::run(args, given));
    runtime.shutdown_timeout(LAST_FILES);
    match result {
        Ok(left) if left.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(UNFINISHED),
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Not `eprintln!`, which panics when whoever read our standard error is gone.
fn say(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "cellblockd: {message}");
}
