//! What a shim and a zygote say to each other when a worker is forked into a sandbox.
//!
//! The shim connects to the zygote's socket and sends a [`Request`]. The zygote answers [`Reply::Forked`]
//! or [`Reply::Refused`]; the new worker, which has the same connection, says [`Reply::Waits`] when Python
//! is prepared, is sealed by a [`Seal`] and answers [`Reply::Sealed`]. Either may say [`Reply::Failed`].

use sandbox_profiles::{Namespace, Step};
use serde::{Deserialize, Serialize};

use crate::StepError;

/// The namespaces that a worker joins, in this order, as descriptors: the user namespace first, because it
/// owns the others; the pid namespace is entered by being born into it.
pub const NAMESPACES: [Namespace; 7] = [
    Namespace::User,
    Namespace::Pid,
    Namespace::Mount,
    Namespace::Network,
    Namespace::Ipc,
    Namespace::Uts,
    Namespace::Cgroup,
];

/// What becomes a worker's descriptors 1 to 4: stdout, stderr, the frame channel, the interrupt word.
pub const FILES: usize = 4;

/// Fork a worker into a sandbox. Along come, in this order: [`NAMESPACES`], the cgroup it is to be born
/// into if there is one, the files by which it enters others, and its own [`FILES`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Whether there is a cgroup to be born into.
    pub birth: bool,
    /// How many cgroups are entered otherwise.
    pub late: u32,
    /// Nobody waits for it: it may take its time before it waits for its notebook.
    pub spare: bool,
    /// For the marks.
    pub nonce: [u8; 16],
    /// The steps that come before Python prepares itself: whose files it makes.
    pub steps: Vec<Step>,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// By the zygote: there is a process of this number in the sandbox's pid namespace. Its pidfd comes
    /// along. Init is its parent.
    Forked {
        /// Its number there.
        pid: i32,
    },
    /// By the zygote: nothing has been made, and the sandbox is as it was.
    Refused(StepError),
    /// By the worker: Python is prepared, and waits to be sealed.
    Waits,
    /// By the worker: it is sealed. These best-effort steps failed, by position among those sent.
    Sealed {
        /// Position and the kernel's answer.
        missing: Vec<(u32, String)>,
    },
    /// By the worker: a step failed, and it ends.
    Failed(StepError),
}

/// Apply the steps and go on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seal {
    /// The worker's, in order.
    pub steps: Vec<Step>,
}
