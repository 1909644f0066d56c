//! A switch that only tests have: plans with barriers left out, to see which attack each one stops.
//! Not in release builds, which do not even know the variable's name.

use sandbox_profiles::{Barrier, Omit, Step, without};

/// Names of what is left out, comma-separated.
const VARIABLE: &str = "CELLBLOCK_TEST_DROP_BARRIERS";

/// The plan without what the variable names.
///
/// # Errors
/// A name that is none: a test that misspells one must not believe that the barrier was gone.
pub(crate) fn weaken(steps: Vec<Step>) -> Result<Vec<Step>, String> {
    let omitted = omitted()?;
    if !omitted.is_empty() {
        tracing::warn!(?omitted, "a test has left barriers out of the plan");
    }
    Ok(without(steps, &omitted))
}

/// Whether a barrier is left out that begins before there is a plan: what holds a workspace is on the disk.
pub(crate) fn leaves_out(barrier: Barrier) -> bool {
    omitted().is_ok_and(|omitted| omitted.contains(&Omit::Barrier(barrier)))
}

fn omitted() -> Result<Vec<Omit>, String> {
    let names = std::env::var(VARIABLE).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::parse).collect()
}
