//! cellblockd and the anchor: JSON frames over a SEQPACKET socket, one per message. There is
//! nothing here but starting shims and ending the anchor, because what outlives the daemon must
//! not need an upgrade.

use serde::{Deserialize, Serialize};

use crate::id::WorkerId;

/// What the anchor is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorRequest {
    /// Who are you? Answer: [`AnchorReply::Hello`].
    Hello,
    /// Start a shim. Two descriptors come along: its standard input and its program, so that an
    /// anchor that has outlived an upgrade starts shims of the new build. Answer:
    /// [`AnchorReply::Started`].
    Spawn {
        /// For the process list; the shim learns everything else over its socket.
        worker: WorkerId,
    },
    /// Which shims live? Answer: [`AnchorReply::Shims`].
    List,
    /// Kill a shim, and so its sandbox. Answer: [`AnchorReply::Done`].
    Kill {
        /// Which.
        worker: WorkerId,
    },
    /// End, together with all shims. Answer: [`AnchorReply::Done`].
    Shutdown,
}

/// What the anchor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorReply {
    /// To `Hello`.
    Hello {
        /// The anchor's own build; any build can use it.
        build: String,
        /// The first host uid of the range that workers use; absent when rootless.
        first_uid: Option<u32>,
        /// How much of cgroups its sandboxes have.
        #[serde(default)]
        cgroup: CgroupTier,
        /// What that is, and why it is no more; one sentence.
        #[serde(default)]
        cgroup_detail: String,
    },
    /// To `Spawn`.
    Started {
        /// The shim's process id.
        pid: u32,
    },
    /// To `List`.
    Shims {
        /// Worker and process id.
        shims: Vec<(WorkerId, u32)>,
    },
    /// To `Kill` and `Shutdown`.
    Done,
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
    },
}

/// How much of cgroups an anchor's sandboxes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupTier {
    /// v2 with the controllers of memory and processes.
    Full,
    /// The controllers of v1, and of v2 what needs none.
    Hybrid,
    /// The shim watches memory and processor time itself.
    #[default]
    None,
}
