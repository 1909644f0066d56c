//! `cargo xtask fuzz`: the targets of `fuzz/`, for a bounded time each, from the committed corpus.
//!
//! cargo-fuzz needs a nightly compiler only for its sanitizers; what libFuzzer itself needs (coverage counters) the pinned
//! compiler makes too. So nothing has to be installed but a C++ compiler, which libFuzzer's runtime is built with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, in_ci, say, show};
use crate::{apt, tree};

const TARGETS: [&str; 5] = ["frame", "codec", "messages", "profile", "offer"];

const PACKAGES: [&str; 2] = ["g++", "libc6-dev"];

/// Within `cargo xtask test`: enough to replay the corpus and to find again what was found once.
pub(crate) const TEST_TIME: Duration = Duration::from_secs(3);

/// A single input that takes longer, or a process that grows larger, is a finding.
const BOUNDS: [&str; 3] = ["-timeout=5", "-rss_limit_mb=1024", "-max_len=4096"];

/// # Errors
/// An unknown target, a build that fails, or a finding: the message names the input that shows it.
pub(crate) fn run(target: Option<&str>, time: Duration) -> Result<()> {
    if apt::program(&["c++"], &PACKAGES, "the fuzz targets").is_none() {
        let cure = apt::command(&PACKAGES);
        let sentence =
            format!("no C++ compiler on PATH, which libFuzzer needs; `{cure}` as root installs it");
        if in_ci() {
            bail!("{sentence}");
        }
        say(format!("{sentence}; fuzzing is skipped"));
        return Ok(());
    }
    if let Some(unknown) = target.filter(|target| !TARGETS.contains(target)) {
        bail!("no fuzz target `{unknown}`: there are {}", TARGETS.join(", "));
    }
    build()?;
    let chosen = TARGETS.into_iter().filter(|name| target.is_none_or(|target| target == *name));
    let mut failed = Vec::new();
    for name in chosen {
        match fuzz(name, time) {
            Ok(line) => say(line),
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("fuzz targets failed: {}", failed.join(", "));
    }
    Ok(())
}

/// A build folder of its own: these flags would make everything else be built again.
fn folder() -> PathBuf {
    tree::target().join("fuzz")
}

fn build() -> Result<()> {
    let flags = [
        "-Cpasses=sancov-module",
        "-Ccodegen-units=1",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
    ];
    let mut build = cargo();
    build.args(["build", "--release", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a named target build scripts and macros are not instrumented: they have no libFuzzer to report to.
    build.args(["--target", "host-tuple"]).env("CARGO_TARGET_DIR", folder());
    crate::process::run(build.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))
}

/// Runs a target and returns what it did in one line.
fn fuzz(name: &str, time: Duration) -> Result<String> {
    // New inputs go to a folder of ours; the corpus in the tree is read only.
    let found = folder().join("found").join(name);
    let artifacts = folder().join("artifacts").join(name);
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    }
    let corpus = tree::root().join("fuzz/corpus").join(name);
    let seeds = fs::read_dir(&corpus).with_context(|| format!("failed to list `{}`", corpus.display()))?;
    if seeds.count() == 0 {
        bail!("`{}` is empty: every target starts from committed inputs", corpus.display());
    }
    let mut command = Command::new(program(name)?);
    command.args(BOUNDS).arg("-print_final_stats=1").arg(format!("-max_total_time={}", time.as_secs()));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&found).arg(&corpus);
    command.current_dir(tree::root());
    let shown = show(&command);
    let output = command.output().with_context(|| format!("failed to start `{shown}`"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let tail: Vec<_> = text.lines().rev().take(40).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("fuzz target {name} found something ({}):\n{tail}\nrun again: {shown}", output.status);
    }
    let executions = executions(&text).context("failed to read how often the target ran")?;
    Ok(format!("fuzz target {name}: {executions} executions in {} s, nothing found", time.as_secs()))
}

/// The folder of the host's target has the host's name, which cargo alone knows.
fn program(name: &str) -> Result<PathBuf> {
    let programs = fs::read_dir(folder()).context("failed to list the fuzz targets' build folder")?;
    let mut found = programs.flatten().map(|entry| entry.path().join("release").join(name));
    found.find(|path| path.is_file()).with_context(|| format!("failed to find the fuzz target `{name}`"))
}

fn executions(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read_from_libfuzzers_statistics() {
        let text = "Done 7 runs\nstat::number_of_executed_units: 1234\nstat::average_exec_per_sec: 5\n";
        assert_eq!(executions(text), Some(1234));
        assert_eq!(executions("crashed"), None);
    }
}
