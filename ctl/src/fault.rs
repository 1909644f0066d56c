//! What can go wrong in cellctl itself, with the exit code and the cure. Code that fails inside a
//! notebook is not a fault: that is an outcome.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use cellblock_proto::client::ErrorCode;

use crate::client::ClientError;
use crate::daemon::StartError;
use crate::exit::Exit;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// What was asked for cannot be meant.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// Nobody listens where a cellblockd was expected.
    #[error("no cellblockd is listening at `{tried}`")]
    NoSupervisor {
        /// The sockets tried, comma-separated.
        tried: String,
    },
    /// A private cellblockd did not come up.
    #[error("cannot start a private cellblockd")]
    Start(#[from] StartError),
    /// The private cellblockd went away in the middle.
    #[error("the private cellblockd has ended{log}")]
    PrivateEnded {
        /// What it said last.
        log: String,
    },
    /// The conversation with cellblockd failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `bench`: what is measured failed, or gave a wrong answer.
    #[error("{what}: {sentence}")]
    NotMeasured {
        /// Which part of it.
        what: String,
        /// How it ended.
        sentence: String,
        /// What that is called.
        exit: Exit,
    },
    /// Standard output went away or is full.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// Ctrl-C before there was anything to interrupt.
    #[error("interrupted")]
    Interrupted,
}

impl Fault {
    pub(crate) fn usage(message: impl Into<String>) -> Fault {
        Fault::Usage { message: message.into(), hint: None }
    }

    pub(crate) fn usage_with_hint(message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Fault {
        let path = path.to_owned();
        move |source| Fault::File { action, path, source }
    }

    /// The code to end with.
    pub fn exit(&self) -> Exit {
        match self {
            Fault::Usage { .. } => Exit::Usage,
            Fault::NoSupervisor { .. } | Fault::Start(_) => Exit::NoSupervisor,
            Fault::Client(ClientError::Connect { .. }) => Exit::NoSupervisor,
            Fault::Client(ClientError::Refused { code, .. }) => match code {
                ErrorCode::BadRequest
                | ErrorCode::UnknownNotebook
                | ErrorCode::BadProfile
                | ErrorCode::Forbidden
                | ErrorCode::Interpreter
                | ErrorCode::File
                | ErrorCode::Checkpoint
                | ErrorCode::TooLarge => Exit::Usage,
                ErrorCode::Version | ErrorCode::ShuttingDown | ErrorCode::Busy => Exit::NoSupervisor,
                _ => Exit::Internal,
            },
            // A file that is missing, closed to us or a folder was named by whoever called us.
            Fault::File { source, .. } if source.kind() != io::ErrorKind::StorageFull => Exit::Usage,
            // The reader of a pipe has seen enough: `cellctl ls | head -1` is no failure.
            Fault::Stdout(source) if source.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Fault::Interrupted => Exit::Interrupted,
            Fault::NotMeasured { exit, .. } => *exit,
            Fault::Client(_) | Fault::File { .. } | Fault::Stdout(_) | Fault::PrivateEnded { .. } => {
                Exit::Internal
            }
        }
    }

    /// What standard error gets: an `error:` line with all causes, then a `hint:` line.
    pub fn report(&self) -> String {
        if matches!(self, Fault::Stdout(source) if source.kind() == io::ErrorKind::BrokenPipe) {
            return String::new();
        }
        let mut text = format!("error: {}\n", chain(self));
        if let Some(hint) = self.hint() {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    fn hint(&self) -> Option<String> {
        match self {
            Fault::Usage { hint, .. } => hint.clone(),
            Fault::NoSupervisor { .. } => Some(
                "start one (`systemctl start cellblockd`), name its socket with --socket, or let \
                 `cellctl run` and `cellctl exec` start a private one with --private"
                    .into(),
            ),
            Fault::Start(error) => error.hint(),
            Fault::Client(error) => error.hint(),
            _ => None,
        }
    }
}

/// The error and everything behind it, on one line. Our own errors do not repeat their source.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let _ = write!(text, ": {source}");
        next = source.source();
    }
    text
}
