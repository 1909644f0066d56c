//! `cellctl top`

mod screen;

use std::time::Duration;

use cellblock_proto::client::{NotebookInfo, WorkerState};
use cellblock_proto::operations::{DaemonInfo, Overview};
use clap::{Args, ValueEnum};

use super::{print, print_json, state_of, table};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};
use crate::signals::Signals;
use screen::Screen;

/// Show what all notebooks take of the machine, again each second
///
/// For operators: those of all tenants. Ctrl-C ends it. RUNNING is how long the cell that runs has been
/// running; MEMORY and CPU are those of the notebook's worker, as the kernel counts them for its sandbox, or
/// summed over its processes where it has no cgroup. Of more than 1,500 notebooks those with a worker are shown
/// first.
///
/// Example: cellctl top --sort cpu
#[derive(Args, Debug)]
pub(crate) struct Top {
    #[command(flatten)]
    socket: SocketArgs,

    /// What comes first: name, state, running, queue, memory, cpu, executions or idle
    #[arg(long, value_name = "KEY", default_value = "state", hide_possible_values = true)]
    sort: Sort,

    /// Show it once, all notebooks
    #[arg(long)]
    once: bool,

    /// Print one JSON object, once
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Name,
    State,
    Running,
    Queue,
    Memory,
    Cpu,
    Executions,
    Idle,
}

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

impl Top {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let mut session = Session::find(&self.socket)?;
        if self.json {
            print_json(&session.connection.overview()?)?;
            return Ok(Exit::Ok);
        }
        let screen = if self.once { None } else { Screen::open() };
        let Some(screen) = screen else {
            print(&page(&session.connection.overview()?, self.sort, usize::MAX))?;
            return Ok(Exit::Ok);
        };
        let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
        while !signals.stopping() {
            let overview = session.connection.overview()?;
            let rows = screen.rows();
            // The head, an empty line, and the columns' names.
            screen.show(&page(&overview, self.sort, rows.saturating_sub(4)))?;
            screen.wait(INTERVAL, &|| signals.stopping());
        }
        Ok(Exit::Ok)
    }
}

/// All of it; of the notebooks the first `most`.
fn page(overview: &Overview, sort: Sort, most: usize) -> String {
    let mut notebooks: Vec<&NotebookInfo> = overview.notebooks.iter().collect();
    // It is stable, and they come sorted by tenant and name.
    notebooks.sort_by_key(|info| std::cmp::Reverse(weight(info, sort)));
    let names =
        ["TENANT", "NOTEBOOK", "STATE", "PROFILE", "RUNNING", "QUEUE", "MEMORY", "CPU", "EXECUTIONS", "IDLE"];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    rows.extend(notebooks.iter().take(most).map(|info| row(info)));
    format!("{}\n\n{}", head(&overview.daemon), table(&rows))
}

fn head(daemon: &DaemonInfo) -> String {
    let of = |count: u32, most: u32| match most {
        0 => count.to_string(),
        most => format!("{count} of {most}"),
    };
    let draining = if daemon.draining { ", draining" } else { "" };
    format!(
        "up {}{draining}; notebooks: {}, workers: {}, running: {}, waiting: {}, connections: {}\n\
         memory of cellblockd: {}, available on this machine: {}",
        time(daemon.uptime_ms),
        daemon.notebooks,
        of(daemon.workers, daemon.max_workers),
        of(daemon.running, daemon.max_running),
        daemon.waiting,
        daemon.connections,
        bytes(daemon.memory_bytes),
        bytes(daemon.available_bytes),
    )
}

fn row(info: &NotebookInfo) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        known(info.tenant.as_ref().map(ToString::to_string)),
        info.notebook.to_string(),
        state_of(info),
        info.profile.clone(),
        known(info.running_ms.map(time)),
        info.queued.to_string(),
        known(info.memory_bytes.map(bytes)),
        known(info.cpu_ms.map(time)),
        info.executions.to_string(),
        known(info.idle_ms.map(time)),
    ]
}

/// The largest comes first; names are in order already.
fn weight(info: &NotebookInfo, sort: Sort) -> u64 {
    match sort {
        Sort::Name => 0,
        Sort::State => match info.state {
            WorkerState::Busy => 5,
            WorkerState::Waiting => 4,
            WorkerState::Starting => 3,
            WorkerState::Ending => 2,
            WorkerState::Idle => 1,
            WorkerState::None => 0,
        },
        Sort::Running => info.running_ms.map_or(0, |running| running + 1),
        Sort::Queue => u64::from(info.queued),
        Sort::Memory => info.memory_bytes.unwrap_or(0),
        Sort::Cpu => info.cpu_ms.unwrap_or(0),
        Sort::Executions => info.executions,
        Sort::Idle => info.idle_ms.unwrap_or(0),
    }
}

/// Three digits are enough to compare.
fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mut rest = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if rest < 1024.0 {
            break;
        }
        (rest, unit) = (rest / 1024.0, next);
    }
    if rest < 10.0 && unit != "B" { format!("{rest:.1} {unit}") } else { format!("{rest:.0} {unit}") }
}

fn time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
#[path = "top/tests.rs"]
mod tests;
