//! What a request does, as the audit log has it. Reading what there is (lists, status, metrics) is no deed; taking
//! content out (files, exported checkpoints) is one.

use cellblock_proto::client::Request;
use cellblock_proto::execution::Task;
use serde::Serialize;

use super::Peer;

/// What a client asks for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Deed<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    notebook: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<u64>,
    /// The other notebook of a fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    /// Of code, or of what is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// BLAKE3 of code, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

impl<'a> Deed<'a> {
    /// What a request does; `None` of one that only looks.
    pub(super) fn of(request: &'a Request) -> Option<Self> {
        let on = |action, notebook: &'a cellblock_proto::id::NotebookId| Deed {
            action,
            notebook: Some(notebook.as_str()),
            ..Deed::default()
        };
        Some(match request {
            Request::OpenNotebook { notebook, profile } => {
                Deed { profile: profile.as_deref(), ..on("open", notebook) }
            }
            Request::Execute { notebook, execution, .. } => {
                Deed { execution: Some(execution.as_str()), ..on("execute", notebook) }
            }
            Request::Interrupt { notebook } => on("interrupt", notebook),
            Request::Cancel { notebook, execution } => {
                Deed { execution: Some(execution.as_str()), ..on("cancel", notebook) }
            }
            Request::Restart { notebook } => on("restart", notebook),
            Request::Close { notebook } => on("close", notebook),
            Request::Delete { notebook } => on("delete", notebook),
            Request::Clear { notebook } => on("clear", notebook),
            Request::Restore { notebook, checkpoint } => {
                Deed { checkpoint: *checkpoint, ..on("restore", notebook) }
            }
            Request::Fork { notebook, checkpoint, to } => {
                Deed { checkpoint: *checkpoint, to: Some(to.as_str()), ..on("fork", notebook) }
            }
            Request::ExportCheckpoint { notebook, checkpoint } => {
                Deed { checkpoint: *checkpoint, ..on("export", notebook) }
            }
            Request::ImportCheckpoint { notebook, offset: 0, .. } => on("import", notebook),
            Request::CollectCheckpoints { notebook, .. } => on("collect", notebook),
            Request::ReadFile { notebook, offset: 0, .. } => on("read_file", notebook),
            Request::WriteFile { notebook, offset: 0, .. } => on("write_file", notebook),
            Request::RemoveFile { notebook, .. } => on("remove_file", notebook),
            Request::Pin { notebook, pinned: true } => on("pin", notebook),
            Request::Pin { notebook, pinned: false } => on("unpin", notebook),
            Request::Evict { notebook } => on("evict", notebook),
            Request::Drain { .. } => Deed { action: "drain", ..Deed::default() },
            Request::Shutdown => Deed { action: "shutdown", ..Deed::default() },
            _ => return None,
        })
    }

    /// With what is to be said of the payload.
    pub(super) fn with_payload(self, request: &Request, payload: &[u8]) -> Self {
        match request {
            Request::Execute { options, .. } if !matches!(options.task, Task::Get { .. }) => {
                let blake3 = Some(blake3::hash(payload).to_hex().to_string());
                Deed { bytes: Some(payload.len()), blake3, ..self }
            }
            Request::ImportCheckpoint { .. } | Request::WriteFile { .. } => {
                Deed { bytes: Some(payload.len()), ..self }
            }
            _ => self,
        }
    }

    /// Executions are many, and the log has a line about each one's end; only with `audit=debug` it has theirs.
    fn is_frequent(&self) -> bool {
        matches!(self.action, "execute" | "read_file" | "write_file")
    }

    /// Whether the log shows it.
    pub(super) fn is_logged(&self) -> bool {
        if self.is_frequent() {
            tracing::enabled!(target: "audit", tracing::Level::DEBUG)
        } else {
            tracing::enabled!(target: "audit", tracing::Level::INFO)
        }
    }

    /// Says it in the log.
    pub(super) fn log(&self, peer: &Peer, request: u32) {
        let Peer { uid, pid, tenant, client, connection } = peer;
        let Deed { action, notebook, execution, profile, checkpoint, to, bytes, blake3 } = self;
        let blake3 = blake3.as_deref();
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(target: "audit", action, uid, pid, tenant, client, connection, request, notebook,
                    execution, profile, checkpoint, to, bytes, blake3, "asked")
            };
        }
        if self.is_frequent() { say!(debug) } else { say!(info) }
    }
}
