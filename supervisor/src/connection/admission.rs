//! Whether a request is to be done at all: who asks may, and there is room for what it takes.

use cellblock_proto::client::{ErrorCode, Request};
use cellblock_proto::id::NotebookId;
use cellblock_proto::operations::Hint;

use super::Connection;
use crate::denial::{Denial, deny};
use crate::outbox::Responder;
use crate::pace::hint;

/// When to ask again for what only the client itself can make room for.
pub(super) const FULL: Hint = Hint { retry_ms: 30_000, position: None };

impl Connection {
    /// The request and who is to answer it, unless it has been refused.
    pub(super) fn admit(&self, request: Request, responder: Responder) -> Option<(Request, Responder)> {
        if let Some(name) = operators_only(&request)
            && !self.operator
        {
            let reason = format!(
                "{name} is for operators: root, the daemon's own user, and whom the file of tenants makes one"
            );
            self.deny(name, None, &reason, responder);
            return None;
        }
        if let Some((notebook, profile)) = profile_of(&request)
            && let Some(reason) = self.tenant.forbids(profile)
        {
            self.deny("open_notebook", Some(notebook), &reason, responder);
            return None;
        }
        if takes_memory(&request)
            && let Err(met) = self.tenant.has_room()
        {
            let until = self.daemon.runners.until_next(Some(self.tenant.id.as_str()));
            responder.busy(self.tenant.explain(met), hint(until, None));
            return None;
        }
        Some((request, responder))
    }

    fn deny(&self, request: &'static str, notebook: Option<&NotebookId>, reason: &str, responder: Responder) {
        let tenant = Some(&self.tenant.id);
        deny(&Denial { uid: self.uid, tenant, request, notebook, reason });
        responder.refuse(ErrorCode::Forbidden, reason);
    }
}

/// The name of a request that only operators may make: what is about all tenants, or shows where things are on the host.
fn operators_only(request: &Request) -> Option<&'static str> {
    Some(match request {
        Request::Shutdown => "shutdown",
        Request::Drain { .. } => "drain",
        Request::Metrics => "metrics",
        Request::Overview => "overview",
        Request::Events { all: true, .. } => "events of all tenants",
        Request::Tenants => "tenants",
        Request::Doctor => "doctor",
        Request::Plan { .. } => "plan",
        Request::Warm => "warm",
        _ => return None,
    })
}

/// The profile that a request names for a notebook.
fn profile_of(request: &Request) -> Option<(&NotebookId, &str)> {
    match request {
        Request::OpenNotebook { notebook, profile: Some(profile) } => Some((notebook, profile)),
        _ => None,
    }
}

/// Whether it brings bytes that are held, or begins what makes some. What makes room, and what stops
/// something, is always done.
fn takes_memory(request: &Request) -> bool {
    matches!(
        request,
        Request::Execute { .. }
            | Request::Query { .. }
            | Request::ReadFile { .. }
            | Request::WriteFile { .. }
            | Request::ImportCheckpoint { .. }
            | Request::ExportCheckpoint { .. }
    )
}
