//! `cargo xtask test`: every test, Rust and Python, with everything they need.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::bench::{BWRAP, BWRAP_PACKAGES};
use crate::process::{cargo, in_ci, on_path, run as run_command, say, seconds, show};
use crate::{acceptance, apt, chromium, faults, fuzz, host, python_env, tree};

/// Variables that tell tests where things are.
pub(crate) type Variables = Vec<(&'static str, OsString)>;

/// # Errors
/// When something cannot be prepared, or a test fails.
pub(crate) fn run(runner_args: &[String]) -> Result<()> {
    let started = Instant::now();
    host::warn_about_sandboxes();
    let variables = prepare()?;
    say("building");
    run_command(cargo().arg("build"))?;

    let mut failed = Vec::new();
    let mut part = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    };
    part("Rust tests", rust_tests(&variables, runner_args));
    if runner_args.is_empty() {
        part(
            "Rust documentation tests",
            run_command(with(cargo().args(["test", "--quiet", "--workspace", "--doc"]), &variables)),
        );
        part("Python tests", python_tests(&variables));
        part("acceptance cases", acceptance::run(&variables));
        part("checkpoint faults", faults::checkpoints(&variables));
        part("chaos", faults::chaos(&variables));
        part("fuzz targets", fuzz::run(None, fuzz::TEST_TIME));
    }
    if !failed.is_empty() {
        bail!("failed: {} ({})", failed.join(", "), seconds(started.elapsed()));
    }
    say(format!("all tests passed ({})", seconds(started.elapsed())));
    Ok(())
}

fn prepare() -> Result<Variables> {
    let mut variables: Variables = vec![
        ("CELLBLOCK_BIN_DIR", tree::target().join("debug").into()),
        ("CELLBLOCK_TEST_PYTHON", python_env::worker_env(None)?.into()),
        ("CELLBLOCK_DEV_PYTHON", python_env::dev_env(None)?.into()),
    ];
    match python_env::rootless_worker_env() {
        Ok(python) => variables.push(("CELLBLOCK_TEST_PYTHON_ROOTLESS", python.into())),
        Err(error) if in_ci() => return Err(error),
        Err(error) => say(format!("tests as an ordinary user are skipped: {error:#}")),
    }
    if let Some(browser) = chromium::find()? {
        variables.push(("CELLBLOCK_CHROMIUM", browser.into()));
    }
    apt::program_for_tests(&BWRAP, &BWRAP_PACKAGES, "tests of the benchmark")?;
    if in_ci() {
        // What a test would skip for lack of something on a developer's machine is a failure here.
        variables.push(("CELLBLOCK_REQUIRE", "all".into()));
    }
    Ok(variables)
}

fn rust_tests(variables: &Variables, runner_args: &[String]) -> Result<()> {
    let mut command = cargo();
    if on_path("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--workspace"]);
        if in_ci() {
            command.args(["--profile", "ci"]);
        }
    } else {
        command.args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]);
    }
    run_command(with(command.args(runner_args), variables))
}

/// One run per folder: each has a `conftest.py` of its own, and pytest takes two of that name in one
/// run for one. As many at once as there are processors: each uses one, and waits a lot.
fn python_tests(variables: &Variables) -> Result<()> {
    let python = python_env::dev_env(None)?;
    let waiting = Mutex::new(test_folders()?);
    let failed = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
    let work = || {
        while let Some(folder) = next() {
            if let Err(error) = python_tests_of(&folder, &python, variables) {
                eprintln!("error: {error:#}");
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(tree::short(&folder));
            }
        }
    };
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// What it says comes in one piece.
fn python_tests_of(folder: &Path, python: &Path, variables: &Variables) -> Result<()> {
    let root = tree::root();
    let search = std::env::join_paths([root.join("clients/python/src"), root.join("worker-shim/python")])?;
    let mut command = Command::new(python);
    command.current_dir(root).env("PYTHONPATH", search).stdin(Stdio::null());
    command.args(["-m", "pytest", "-c", "pyproject.toml", "--rootdir", "."]).arg(folder);
    let output = with(&mut command, variables).output().context("failed to start Python")?;
    let said = [output.stdout, output.stderr].concat();
    io::stdout().lock().write_all(&said).context("failed to tell what the tests said")?;
    if !output.status.success() {
        bail!("`{}` ended with {}", show(&command), output.status);
    }
    Ok(())
}

/// Every folder that holds a `test_*.py`, so that a new one cannot be forgotten.
fn test_folders() -> Result<BTreeSet<PathBuf>> {
    let is_test =
        |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("test_"));
    let files = tree::sources(&["py"])?.into_iter().filter(is_test);
    let all: BTreeSet<PathBuf> = files.filter_map(|file| file.parent().map(PathBuf::from)).collect();
    // pytest looks below a folder by itself.
    let is_within = |folder: &PathBuf| folder.ancestors().skip(1).any(|above| all.contains(above));
    Ok(all.iter().filter(|folder| !is_within(folder)).cloned().collect())
}

pub(crate) fn with<'a>(command: &'a mut Command, variables: &Variables) -> &'a mut Command {
    command.envs(variables.iter().map(|(name, value)| (name, value)))
}
