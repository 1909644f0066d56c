//! Why a request has no answer, and what to do about it.

use std::io;
use std::path::PathBuf;

use cellblock_proto::client::{ErrorCode, Reply};
use cellblock_proto::codec::CodecError;
use cellblock_proto::frame::FrameError;
use cellblock_proto::operations::Hint;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there, or we may not.
    #[error("cannot connect to cellblockd at `{}`", socket.display())]
    Connect {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection ended in the middle.
    #[error("lost the connection to cellblockd")]
    Lost(#[source] io::Error),
    /// cellblockd said no.
    #[error("{message}")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
        /// When to try again, where it may be done later.
        hint: Option<Hint>,
    },
    /// What came is not the protocol.
    #[error("cellblockd sent something that is no frame")]
    Frame(#[from] FrameError),
    /// A frame came whose message is unknown.
    #[error("cellblockd sent a frame without a known message")]
    Message(#[from] CodecError),
    /// A reply that does not fit the request.
    #[error("cellblockd answered with `{found}`, which does not fit the request")]
    Unexpected {
        /// The reply's name.
        found: String,
    },
}

impl ClientError {
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Connect { .. } if self.is_forbidden() => {
                Some("the socket belongs to another group; become a member, or use --private".into())
            }
            ClientError::Connect { .. } => {
                Some("start cellblockd, or name the right socket with --socket".into())
            }
            ClientError::Lost(_) => Some(
                "the worker and its variables outlive a daemon that is restarted: run the command \
                 again; what ran is not run twice when it is sent under the same execution id"
                    .into(),
            ),
            ClientError::Refused { code: ErrorCode::Busy, hint: Some(hint), .. } => {
                let before = hint.position.filter(|before| *before > 0);
                let before = before.map_or(String::new(), |before| format!(", {before} are before it"));
                Some(format!("try again in {} s{before}", hint.retry_ms.div_ceil(1000)))
            }
            ClientError::Refused { code: ErrorCode::Busy, message, .. }
                if message.contains("not evicted: variables cannot be saved") =>
            {
                Some(
                    "delete them in the notebook (`del NAME`), `cellctl restart NOTEBOOK` if they may be lost, or \
                     have its profile say `evict = \"any\"` in [lifecycle]"
                        .into(),
                )
            }
            ClientError::Refused { code: ErrorCode::Busy, .. } => {
                Some("try again in a moment; `cellctl ls` shows what is running".into())
            }
            ClientError::Refused { code: ErrorCode::UnknownNotebook, .. } => Some(
                "`cellctl ls` shows those that are open; `cellctl exec NOTEBOOK -c ''` opens one that has been \
                 closed: its files are still there"
                    .into(),
            ),
            ClientError::Refused { code: ErrorCode::Forbidden, message, .. }
                if message.contains(" is for operators") =>
            {
                Some("run it with sudo, or have an operator run it; `cellctl ls` shows your own notebooks".into())
            }
            ClientError::Refused { code: ErrorCode::Sandbox, .. } => {
                Some("`cellctl doctor` shows what this host can enforce, and why not".into())
            }
            ClientError::Refused { code: ErrorCode::Version, .. }
            | ClientError::Frame(_)
            | ClientError::Message(_) => {
                Some("cellctl and cellblockd are of different versions; install both from one build".into())
            }
            _ => None,
        }
    }
}

pub(crate) fn unexpected(reply: &Reply) -> ClientError {
    let shown = format!("{reply:?}");
    let name: String = shown.chars().take_while(|c| c.is_alphanumeric()).collect();
    ClientError::Unexpected { found: name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_would_lose_variables_needs_another_cure_than_one_that_has_something_to_do() {
        let hint = |why: &str| {
            let message = format!("the worker was not evicted: {why}");
            ClientError::Refused { code: ErrorCode::Busy, message, hint: None }.hint().unwrap()
        };
        assert!(hint("variables cannot be saved: lk").contains("`del NAME`"));
        assert!(hint("it has something to do").contains("try again"));
    }
}
