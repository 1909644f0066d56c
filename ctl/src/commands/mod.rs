//! The verbs, one file each. A verb returns how it ended, or what went wrong.

pub(crate) mod bench;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod evict;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod interrupt;
pub(crate) mod ls;
pub(crate) mod metrics;
pub(crate) mod profile;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod status;
pub(crate) mod tenants;
pub(crate) mod top;
pub(crate) mod warm;

use std::io::{self, Write};

use cellblock_proto::client::{NotebookInfo, WorkerState};
use clap::builder::styling::Style;
use sandbox_profiles::{BarrierState, SandboxReport};
use serde::Serialize;

use crate::cli::Command;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::show::one_line;

pub(crate) fn run(command: Command) -> Result<Exit, Fault> {
    match command {
        Command::Run(verb) => verb.run(),
        Command::Exec(verb) => verb.run(),
        Command::Ls(verb) => verb.run(),
        Command::Status(verb) => verb.run(),
        Command::Interrupt(verb) => verb.run(),
        Command::Restart(verb) => verb.run(),
        Command::Evict(verb) => verb.run(),
        Command::Pin(verb) => verb.run(),
        Command::Rm(verb) => verb.run(),
        Command::Files(verb) => verb.run(),
        Command::Checkpoint(verb) => verb.run(),
        Command::Top(verb) => verb.run(),
        Command::Events(verb) => verb.run(),
        Command::Metrics(verb) => verb.run(),
        Command::Doctor(verb) => verb.run(),
        Command::Profile(verb) => verb.run(),
        Command::Warm(verb) => verb.run(),
        Command::Tenants(verb) => verb.run(),
        Command::Drain(verb) => verb.run(),
        Command::Selftest(verb) => verb.run(),
        Command::Bench(verb) => verb.run(),
        Command::Completions(verb) => verb.run(),
    }
}

/// Data, to standard output.
fn print(text: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Fault::Stdout)
}

/// Data as one line of JSON, to standard output.
fn print_json(value: &impl Serialize) -> Result<(), Fault> {
    let line = serde_json::to_string(value).expect("our own types have a JSON form");
    print(&(line + "\n"))
}

/// Words, to standard error. When nobody can read them, the work goes on.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Columns as wide as their widest cell, two spaces between; the last one is as it comes. Names of
/// variables and versions come from code that is not trusted, so every cell is cleaned.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What a notebook's worker is doing, in a word.
fn state_of(info: &NotebookInfo) -> String {
    match info.state {
        WorkerState::None if info.evicted => "evicted".to_owned(),
        state => format!("{state:?}").to_lowercase(),
    }
}

/// What a sandbox enforces, a line per barrier.
fn report_table(report: &SandboxReport) -> String {
    let mut rows = vec![vec!["BARRIER".to_owned(), "STATE".to_owned(), "DETAIL".to_owned()]];
    rows.extend(report.barriers.iter().map(|line| {
        vec![line.barrier.name().to_owned(), state_name(line.state).to_owned(), line.detail.clone()]
    }));
    table(&rows)
}

pub(crate) fn state_name(state: BarrierState) -> &'static str {
    match state {
        BarrierState::Enforced => "enforced",
        BarrierState::Degraded => "degraded",
        BarrierState::Missing => "missing",
    }
}

/// One character that can be told apart without colour.
pub(crate) fn state_mark(state: BarrierState) -> &'static str {
    match state {
        BarrierState::Enforced => "✓",
        BarrierState::Degraded => "~",
        BarrierState::Missing => "✗",
    }
}

fn dim(text: &str) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lets_no_control_character_through() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row(["VARIABLE", "TYPE"]), row(["x\x1b]52;c;ZXZpbA==\x07\ny", "in\x1b[31mt\u{9b}"])];
        assert_eq!(table(&rows), "VARIABLE  TYPE\nx y       int\n");
    }
}
