//! What requests and refusals are called in labels: as on the wire.

use cellblock_proto::client::{ErrorCode, Request};

pub(crate) fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello(_) => "hello",
        Request::OpenNotebook { .. } => "open_notebook",
        Request::Execute { .. } => "execute",
        Request::Attach { .. } => "attach",
        Request::Interrupt { .. } => "interrupt",
        Request::Cancel { .. } => "cancel",
        Request::Input { .. } => "input",
        Request::Query { .. } => "query",
        Request::Restart { .. } => "restart",
        Request::Close { .. } => "close",
        Request::Delete { .. } => "delete",
        Request::Notebooks | Request::NotebooksAfter { .. } => "notebooks",
        Request::Status { .. } => "status",
        Request::Doctor => "doctor",
        Request::Comm { .. } => "comm",
        Request::Shutdown => "shutdown",
        Request::Profiles => "profiles",
        Request::Warm => "warm",
        Request::Plan { .. } => "plan",
        Request::ListFiles { .. } => "list_files",
        Request::ReadFile { .. } => "read_file",
        Request::WriteFile { .. } => "write_file",
        Request::RemoveFile { .. } => "remove_file",
        Request::Checkpoint { .. } => "checkpoint",
        Request::Checkpoints { .. } => "checkpoints",
        Request::CheckpointContent { .. } => "checkpoint_content",
        Request::Restore { .. } => "restore",
        Request::Fork { .. } => "fork",
        Request::ExportCheckpoint { .. } => "export_checkpoint",
        Request::ImportCheckpoint { .. } => "import_checkpoint",
        Request::VerifyCheckpoints { .. } => "verify_checkpoints",
        Request::CollectCheckpoints { .. } => "collect_checkpoints",
        Request::Clear { .. } => "clear",
        Request::Events { .. } => "events",
        Request::Pin { .. } => "pin",
        Request::Evict { .. } => "evict",
        Request::Drain { .. } => "drain",
        Request::Metrics => "metrics",
        Request::Overview => "overview",
        Request::Tenants => "tenants",
    }
}

pub(crate) fn code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "bad_request",
        ErrorCode::Version => "version",
        ErrorCode::TooLarge => "too_large",
        ErrorCode::UnknownNotebook => "unknown_notebook",
        ErrorCode::UnknownExecution => "unknown_execution",
        ErrorCode::BadProfile => "bad_profile",
        ErrorCode::Interpreter => "interpreter",
        ErrorCode::Sandbox => "sandbox",
        ErrorCode::Forbidden => "forbidden",
        ErrorCode::Unsupported => "unsupported",
        ErrorCode::Busy => "busy",
        ErrorCode::Storage => "storage",
        ErrorCode::ShuttingDown => "shutting_down",
        ErrorCode::Internal => "internal",
        ErrorCode::File => "file",
        ErrorCode::Checkpoint => "checkpoint",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellblock_proto::codec::Codec;

    #[test]
    fn requests_are_called_as_on_the_wire() {
        for request in [Request::Notebooks, Request::Events { notebook: None, all: false }, Request::Shutdown]
        {
            let json = String::from_utf8(Codec::Json.encode(&request).unwrap()).unwrap();
            assert!(json.contains(&format!("\"{}\"", name(&request))), "{json}");
        }
    }
}
