//! The acceptance cases of the ExecutionService: what a caller of the service that cellblock replaces may expect.
//!
//! They are not of this repository: whoever wrote down what is expected keeps them beside it, at
//! `../shared/acceptance/cases.py`, or where `CELLBLOCK_ACCEPTANCE` says.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{run as run_command, say};
use crate::test::{Variables, with};
use crate::{python_env, tree};

/// # Errors
/// When a case fails, or the cases cannot be read.
pub(crate) fn run(variables: &Variables) -> Result<()> {
    let named = std::env::var_os("CELLBLOCK_ACCEPTANCE").map(PathBuf::from);
    let cases = match named {
        Some(cases) => cases,
        None => tree::root().join("../shared/acceptance/cases.py"),
    };
    if !cases.is_file() {
        say(format!("acceptance cases are not run: there is no `{}`", cases.display()));
        return Ok(());
    }
    // It ends with a failure when one case does.
    let mut command = Command::new(python_env::dev_env(None)?);
    command.current_dir(tree::root()).arg(&cases).args(["--executor", "tests/acceptance/executor.py"]);
    run_command(with(&mut command, variables))
}
