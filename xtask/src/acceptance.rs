//! The acceptance cases of the ExecutionService: what a caller of the service that cellblock replaces may expect.
//!
//! They are not of this repository: whoever wrote down what is expected keeps them beside it, at
//! `../shared/acceptance/cases.py`, or where `CELLBLOCK_ACCEPTANCE` says.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{output, run as run_command, say};
use crate::test::{Variables, with};
use crate::{python_env, tree};

/// Cases about state that outlives its worker. It comes with checkpoints, and they with it.
const NEED_SAVED_STATE: [&str; 8] = ["E14", "F01", "F03", "F04", "F06", "F08", "F10", "G07"];

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
    let python = python_env::dev_env(None)?;
    let listed = output(Command::new(&python).arg(&cases).arg("--list"))?;
    let all: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let chosen: Vec<&str> = all.iter().copied().filter(|id| !NEED_SAVED_STATE.contains(id)).collect();
    if all.len() < chosen.len() + NEED_SAVED_STATE.len() {
        bail!("`{}` lacks one of the cases {}", cases.display(), NEED_SAVED_STATE.join(", "));
    }
    say(format!(
        "{} of {} acceptance cases; {} wait for checkpoints",
        chosen.len(),
        all.len(),
        NEED_SAVED_STATE.len()
    ));
    let mut command = Command::new(&python);
    command.current_dir(tree::root()).arg(&cases).args([
        "--executor",
        "tests/acceptance/executor.py",
        "--only",
        &chosen.join(","),
    ]);
    run_command(with(&mut command, variables))
}
