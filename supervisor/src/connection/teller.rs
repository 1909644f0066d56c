//! What is counted and written down of a connection: its requests, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cellblock_proto::client::{ErrorCode, Request};
use cellblock_proto::id::TenantId;

use crate::audit::Peer;
use crate::daemon::Daemon;

/// Connections of this process so far.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Tells metrics and audit log of one client.
#[derive(Debug)]
pub(crate) struct Teller {
    daemon: Arc<Daemon>,
    peer: Peer,
}

impl Teller {
    /// A client of whom only the kernel has said anything.
    pub(super) fn new(daemon: Arc<Daemon>, uid: u32, pid: Option<i32>) -> Self {
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1;
        Teller { daemon, peer: Peer { uid, pid, connection, ..Peer::default() } }
    }

    /// It has said hello.
    pub(super) fn named(&self, tenant: &TenantId, client: &str) -> Self {
        let (tenant, client) = (tenant.as_str().to_owned(), client.to_owned());
        let peer = Peer { tenant, client, ..self.peer.clone() };
        Teller { daemon: Arc::clone(&self.daemon), peer }
    }

    /// Whose it is.
    pub(crate) fn uid(&self) -> u32 {
        self.peer.uid
    }

    /// A request has come.
    pub(super) fn asked(&self, id: u32, request: &Request, payload: &[u8]) {
        self.daemon.metrics.request(request);
        self.daemon.audit.asked(&self.peer, id, request, payload);
    }

    /// One, or the connection (0), was refused.
    pub(crate) fn refused(&self, id: u32, code: ErrorCode, message: &str) {
        self.daemon.metrics.refused(code);
        self.daemon.audit.refused(&self.peer, id, code, message);
    }
}
