//! `cargo xtask check`: everything that can be judged without running cellblock. All steps run, all failures are told.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_command, say, seconds};
use crate::{python_env, tools, tree};

/// A longer file has two stories; it is split by noun.
const MAX_LINES: usize = 500;

/// Trees whose Python is strictly typed; those that do not exist yet are left out.
const TYPED: [&str; 6] =
    ["clients/python", "clients/jupyter", "worker-shim/python", "bench", "tests/faults", "tests/chaos"];

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 8] = [
    ("format", || {
        run_command(cargo().args(["fmt", "--all", "--check"]))?;
        // A workspace of its own.
        run_command(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
    }),
    ("clippy", || {
        run_command(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    }),
    ("documentation", || {
        let mut doc = cargo();
        run_command(
            doc.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
        )
    }),
    ("licences, bans, sources", deny),
    ("ruff format", || run_command(dev_tool("ruff")?.args(["format", "--check", "--quiet", "."]))),
    ("ruff check", || run_command(dev_tool("ruff")?.args(["check", "--quiet", "."]))),
    ("mypy", mypy),
    ("file lengths", file_lengths),
];

/// # Errors
/// When any step failed; each has said why, and the summary names them.
pub(crate) fn run() -> Result<()> {
    let results: Vec<_> = STEPS.iter().map(|(name, step)| (*name, timed(name, step))).collect();
    eprintln!();
    for (name, (passed, time)) in &results {
        eprintln!("  {}  {name} ({})", if *passed { "ok    " } else { "FAILED" }, seconds(*time));
    }
    let failed: Vec<_> = results.iter().filter(|(_, (passed, _))| !passed).map(|(name, _)| *name).collect();
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), results.len(), failed.join("; "));
    }
    Ok(())
}

fn timed(name: &str, step: &fn() -> Result<()>) -> (bool, Duration) {
    say(format!("check: {name}"));
    let started = Instant::now();
    let result = step();
    if let Err(error) = &result {
        eprintln!("error: {error:#}");
    }
    (result.is_ok(), started.elapsed())
}

fn deny() -> Result<()> {
    let mut deny = Command::new(tools::cargo_deny()?);
    // The advisory database is a git repository elsewhere: `cargo deny check advisories`, where it can be reached.
    run_command(deny.current_dir(tree::root()).args([
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

fn mypy() -> Result<()> {
    let trees: Vec<_> = TYPED.into_iter().filter(|tree| has_python(tree)).collect();
    if trees.is_empty() {
        return Ok(());
    }
    run_command(dev_tool("mypy")?.arg("--strict").args(trees))
}

fn has_python(folder: &str) -> bool {
    let folder = tree::root().join(folder);
    tree::sources(&["py"]).is_ok_and(|files| files.iter().any(|file| file.starts_with(&folder)))
}

/// A tool of the dev environment, started in the repository's folder, where its configuration is.
fn dev_tool(name: &str) -> Result<Command> {
    let python = python_env::dev_env(None)?;
    let mut command = Command::new(python.with_file_name(name));
    command.current_dir(tree::root());
    Ok(command)
}

fn file_lengths() -> Result<()> {
    let mut long = Vec::new();
    for file in tree::sources(&["rs", "py"])? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("failed to read `{}`", file.display()))?;
        long.extend(too_long(file, &text));
    }
    if !long.is_empty() {
        let list: Vec<_> =
            long.iter().map(|(file, lines)| format!("{} ({lines})", tree::short(file))).collect();
        bail!("longer than {MAX_LINES} lines: {}", list.join(", "));
    }
    Ok(())
}

fn too_long(file: PathBuf, text: &str) -> Option<(PathBuf, usize)> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then_some((file, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_500th_line_is_allowed_and_the_501st_is_not() {
        assert_eq!(too_long("a.rs".into(), &"x\n".repeat(500)), None);
        assert_eq!(too_long("a.rs".into(), &"x\n".repeat(501)), Some(("a.rs".into(), 501)));
    }
}
