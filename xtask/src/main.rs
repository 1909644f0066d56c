//! `cargo xtask <task>`: the developer's commands, one file per task.
//!
//! Each task prepares what it needs (Python environments, tools) by itself, keeps it under `target/` or the user's cache,
//! and says in one sentence what it cannot prepare. Data goes to stdout, words to stderr.

mod acceptance;
mod apt;
mod bench;
mod check;
mod chromium;
mod demo;
mod dist;
mod faults;
mod fuzz;
mod host;
mod interpreter;
mod licences;
mod pip;
mod process;
mod python_env;
mod test;
mod tools;
mod tree;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The developer's commands of cellblock")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run the example notebooks in sandboxes
    ///
    /// Results are written to target/demo as .ipynb and self-contained .html.
    Demo,
    /// Run every test, Rust and Python
    Test {
        /// Run only Rust tests, with these arguments for the test runner
        #[arg(last = true, value_name = "RUNNER_ARGS")]
        runner_args: Vec<String>,
    },
    /// Check format, lints, documentation, licences, types and file lengths
    Check,
    /// Run the fuzz targets, each for a bounded time
    Fuzz {
        /// Seconds for each target
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Only this target
        target: Option<String>,
    },
    /// Measure cellblock against its peers: `cargo xtask bench -- --help` has the options
    Bench {
        /// Arguments for bench/run.py: --quick, --only PART, --runs N, --crowd N, --json FILE, --plots DIR, --cgroup WHERE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Pack what is given to others: target/dist/cellblock-VERSION-ARCH.tar.gz
    ///
    /// Programs (a release build), systemd's units, profiles, documents, the Python client, and an install.sh.
    Dist {
        /// Pack the debug build, to try the installation
        #[arg(long)]
        debug: bool,
    },
    /// Write the golden frames of proto/vectors anew
    Vectors,
    /// Write the pages of docs that are made of what the code says anew
    Docs,
    /// Make a Python environment under target/python and print its interpreter
    Env {
        /// Which packages it gets
        #[arg(value_enum, default_value_t = EnvName::Worker)]
        name: EnvName,
        /// Python to make it from [default: python3 on PATH]
        #[arg(long, env = "CELLBLOCK_PYTHON", value_name = "PATH")]
        python: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum EnvName {
    /// What notebooks run with
    Worker,
    /// The worker's packages and those of the checks, tests and peers
    Dev,
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Demo => demo::run(),
        Task::Test { runner_args } => test::run(&runner_args),
        Task::Check => check::run(),
        Task::Fuzz { seconds, target } => {
            fuzz::run(target.as_deref(), std::time::Duration::from_secs(seconds))
        }
        Task::Dist { debug } => dist::run(debug),
        Task::Bench { args } => bench::run(&args),
        Task::Vectors => {
            let example = ["run", "--quiet", "--package", "cellblock-proto", "--example", "vectors"];
            process::run(process::cargo().args(example))
        }
        Task::Docs => {
            let test = ["test", "--quiet", "--package", "sandbox-profiles", "--test", "docs"];
            process::run(process::cargo().args(test).env("CELLBLOCK_WRITE_DOCS", "1"))
        }
        Task::Env { name, python } => {
            let made = match name {
                EnvName::Worker => python_env::worker_env(python.as_deref())?,
                EnvName::Dev => python_env::dev_env(python.as_deref())?,
            };
            writeln!(std::io::stdout(), "{}", made.display())?;
            Ok(())
        }
    }
}
