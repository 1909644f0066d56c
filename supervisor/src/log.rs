//! The log: to standard error, for people and journald alike, without ANSI. Never user code and
//! never output of a worker.

use std::error::Error;
use std::fmt::Write as _;

use tracing_subscriber::EnvFilter;

/// Starts the log. `CELLBLOCK_LOG` takes a filter such as `debug` or `cellblockd=trace`.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env("CELLBLOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // It would say on standard error that standard error is closed, and panic over that: a
        // private daemon whose program was killed has still to clean up.
        .log_internal_errors(false)
        .init();
}

/// An error with its sources on one line; a Display of ours never repeats its source.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
