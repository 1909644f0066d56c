//! A switch that only tests have: plans with barriers left out, to see which attack each one stops.
//! Not in release builds, which do not even know the variable's name.

use sandbox_profiles::{Omit, Step, without};

/// Names of what is left out, comma-separated.
const VARIABLE: &str = "CELLBLOCK_TEST_DROP_BARRIERS";

/// The plan without what the variable names.
///
/// # Errors
/// A name that is none: a test that misspells one must not believe that the barrier was gone.
pub(crate) fn weaken(steps: Vec<Step>) -> Result<Vec<Step>, String> {
    let Ok(names) = std::env::var(VARIABLE) else { return Ok(steps) };
    let names = names.split(',').filter(|name| !name.is_empty());
    let omitted = names.map(str::parse).collect::<Result<Vec<Omit>, String>>()?;
    if !omitted.is_empty() {
        tracing::warn!(?omitted, "a test has left barriers out of the plan");
    }
    Ok(without(steps, &omitted))
}
