//! What a notebook may do, as data. A [`Profile`] (TOML) says what is allowed; [`plan`] turns it
//! and what is known of the [`Host`] into the ordered list of [`Step`]s that *is* the sandbox; the
//! shim executes that list in one loop and answers with a [`SandboxReport`].
//!
//! Invariant: nothing here makes a system call or reads a file. What must be looked up is in
//! [`Host`], so that a plan can be printed, tested and compared on any machine.

mod barriers;
mod builtin;
mod checkpoints;
pub mod document;
mod error;
mod explain;
mod host;
pub mod ids;
mod lifecycle;
mod limits;
mod plan;
mod profile;
mod reader;
mod report;
mod step;
mod warm;
mod without;
mod words;

pub use builtin::{BUILTINS, text as builtin_text};
pub use checkpoints::{CheckpointPolicy, Checkpointing, Keep, Serializer};
pub use error::{Fault, Faults, ProfileError, quoted};
pub use explain::explain;
pub use host::{Host, Interpreter, Quota, Tree, Workspace, proc_covers};
pub use lifecycle::{Evictable, Lifecycle};
pub use limits::{LIMITS, LimitKey, Limits, Unit};
pub use plan::{PATH_IN_SANDBOX, plan, unplanned};
pub use profile::{Bases, MAX_CHAIN, Mount, Network, Preload, Profile, WarmStart, is_profile_name};
pub use report::{BarrierReport, BarrierState, SandboxReport, Start};
pub use step::{Action, Actor, Barrier, Namespace, Need, Resource, Step};
pub use warm::{SparePlan, early, spare_plan, zygote_plan};
pub use without::{LOAD_BEARING, Omit, omittable, without};
