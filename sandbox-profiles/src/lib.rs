//! What a notebook may do, as data. A [`Profile`] (TOML) says what is allowed; [`plan`] turns it
//! and what is known of the [`Host`] into the ordered list of [`Step`]s that *is* the sandbox; the
//! shim executes that list in one loop and answers with a [`SandboxReport`].
//!
//! Invariant: nothing here makes a system call or reads a file. What must be looked up is in
//! [`Host`], so that a plan can be printed, tested and compared on any machine.

mod host;
pub mod ids;
mod plan;
mod profile;
mod report;
mod step;
mod without;

pub use host::{Host, Interpreter, Tree};
pub use plan::{PATH_IN_SANDBOX, plan};
pub use profile::{Limits, Mount, Network, Profile, ProfileError};
pub use report::{BarrierReport, BarrierState, SandboxReport};
pub use step::{Action, Actor, Barrier, Namespace, Need, Resource, Step};
pub use without::{LOAD_BEARING, Omit, omittable, without};
