//! The log: for people, for programs, or for the journal, on standard error and never with ANSI.
//!
//! What it says of a notebook carries the fields `tenant` and `notebook`, what it says of an Execution
//! `execution` as well: they are spans, see [`crate::registry`] and [`execution`]. Lines name no variable, no
//! file of a workspace and no exception, and have no code and no output: not at any level above trace.

mod journal;
mod printable;
mod structured;

pub(crate) use printable::json;
pub(crate) use structured::now;

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::linux::fs::MetadataExt;

use cellblock_proto::id::ExecutionId;
use tracing::Span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use self::journal::Journal;
use self::structured::Structured;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// To the journal when standard error is the journal's, else text
    Auto,
    /// A line each, for people
    Text,
    /// A JSON object each
    Json,
    /// To the journal, with fields such as CELLBLOCK_NOTEBOOK
    Journald,
}

/// Starts the log. `CELLBLOCK_LOG` takes a filter such as `debug` or `cellblockd=trace`.
///
/// # Errors
/// The journal was asked for by name and does not listen.
pub(crate) fn init(format: Format) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("CELLBLOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Json => Structured::json().boxed(),
        Format::Text => text(),
        Format::Journald => journal()?,
        // A journal that does not listen has our standard error all the same.
        Format::Auto if is_journal() => journal().unwrap_or_else(|_| text()),
        Format::Auto => text(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

fn text() -> Box<dyn Layer<Registry> + Send + Sync> {
    tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        // It would say on standard error that standard error is closed, and panic over that: a
        // private daemon whose program was killed has still to clean up.
        .log_internal_errors(false)
        .boxed()
}

fn journal() -> io::Result<Box<dyn Layer<Registry> + Send + Sync>> {
    let journal = Journal::open()?;
    let lines = Structured::new(move |fields, metadata| {
        if !journal.write(&fields, metadata) {
            // When nobody can read it the daemon goes on.
            let _ = writeln!(io::stderr().lock(), "{}", journal::message(&fields));
        }
    });
    Ok(lines.boxed())
}

/// Whether standard error is a stream of the journal's, as systemd says in the environment.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| names(&stream, stderr.st_dev(), stderr.st_ino()))
}

/// `JOURNAL_STREAM` is device and inode, in decimal; it is inherited by those whose standard error is another.
fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// Within it, what is said is said of this Execution.
pub(crate) fn execution(execution: &ExecutionId) -> Span {
    tracing::info_span!("execution", %execution)
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

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn standard_error_is_the_journals_only_when_both_numbers_are_its() {
        assert!(names("8:1234", 8, 1234));
        for stream in ["8:1235", "9:1234", "8", "", ":", "8:1234:1", "x:y", "81234"] {
            assert!(!names(stream, 8, 1234), "{stream}");
        }
    }
}
