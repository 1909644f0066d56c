//! What a client may not: refused, and told in the log each time, so that whoever tries doors is seen.

use cellblock_proto::id::{NotebookId, TenantId};

/// Something that was refused because of who asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denial<'a> {
    /// Who asked.
    pub(crate) uid: u32,
    /// As which tenant; `None` when he is none.
    pub(crate) tenant: Option<&'a TenantId>,
    /// For what.
    pub(crate) request: &'static str,
    /// For which notebook, where it is about one.
    pub(crate) notebook: Option<&'a NotebookId>,
    /// Why not, as the client is told.
    pub(crate) reason: &'a str,
}

/// Notes a denial.
pub(crate) fn deny(denial: &Denial<'_>) {
    let Denial { uid, tenant, request, notebook, reason } = denial;
    let tenant = tenant.map(TenantId::as_str);
    let notebook = notebook.map(NotebookId::as_str);
    tracing::warn!(target: "audit", action = "denied", uid, tenant, request, notebook, reason, "denied");
}
