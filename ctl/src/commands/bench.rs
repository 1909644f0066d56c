//! `cellctl bench`

use std::fs;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{print, print_json, say};
use crate::bench::{self, Report};
use crate::exit::{EXIT_HELP, Exit};
use crate::fault::Fault;
use crate::session::{DaemonArgs, Session};
use crate::show::one_line;
use crate::signals::Signals;

/// Measure how fast notebooks are here, beside plain Python
///
/// Three things, in turns with their peers, each answer checked: a new notebook to its first result of 1+1,
/// against the notebooks' own Python started bare (and in bubblewrap, where bwrap is on PATH); a round trip
/// of 1+1 in a notebook that is warm; and 16 MB of text in lines of 80 bytes, against the same script read
/// through a pipe. One line per engine: the median, what 90 and 99 of 100 runs reached or bettered (P99 of
/// fewer is the worst), and how many times better than the row's first peer that is. Less time is better,
/// and so are more MB/s.
///
/// A spare is a worker that was forked before it was asked for, zygote one that was forked when it was, exec
/// a fresh interpreter; a cellblockd started for this command alone has neither spares nor a zygote, unless
/// CELLBLOCK_WARM_START is on. It works in notebooks of its own, named bench-…, and deletes them. The peers run as
/// whoever you are, outside of any sandbox, without the code of installed packages.
///
/// Example: cellctl bench --runs 100 --json > today.json
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_HELP)]
pub(crate) struct Bench {
    /// Measure so many rounds; twenty take about 15 seconds
    ///
    /// Each has one start, 20 round trips and one of the rest.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    runs: u16,

    /// Profile to open the notebooks with [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Print one JSON object, with every single run
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Bench {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
        let mut session = Session::find_or_start(&self.daemon, &signals)?;
        let load = load();
        // To standard error, and to nobody when that is no terminal.
        let bar = ProgressBar::new(u64::from(self.runs));
        bar.set_style(ProgressStyle::with_template("{pos}/{len} {wide_msg}").expect("a constant template"));
        bar.set_message("warming up");
        bar.tick();
        let begins = || {
            bar.set_message("measuring");
            bar.inc(1);
        };
        let report =
            bench::measure(&mut session, self.profile.as_deref(), self.runs.into(), &signals, &begins);
        bar.finish_and_clear();
        let report = report?;
        if self.json {
            print_json(&json!({
                "server": report.server,
                "profile": report.profile,
                "python": report.python,
                "processors": processors(),
                "load": load,
                "rounds": self.runs,
                "rows": report.rows_as_json(),
                "notes": report.notes,
            }))?;
        } else {
            print(&format!("{}\n\n{}", self.head(&report, load), bench::text(&report.rows)))?;
            say("× is how many times better than the row's first peer: less time, or more MB/s\n");
        }
        for note in &report.notes {
            say(&format!("note: {}\n", one_line(note)));
        }
        Ok(Exit::Ok)
    }

    /// What the figures belong to.
    fn head(&self, report: &Report, load: Option<f64>) -> String {
        one_line(&format!(
            "cellblockd {}, profile {}, {}; {} rounds, load {} on {} processors",
            report.server,
            report.profile,
            report.python,
            self.runs,
            load.map_or("unknown".to_owned(), |load| load.to_string()),
            processors(),
        ))
    }
}

/// How busy the machine was before we began, over a minute.
fn load() -> Option<f64> {
    let told = fs::read_to_string("/proc/loadavg").ok()?;
    told.split(' ').next()?.parse().ok()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
