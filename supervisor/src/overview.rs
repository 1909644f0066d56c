//! What operators are shown: metrics, and `cellctl top`. Asked when somebody looks, so that nobody pays who does not.

mod usage;

use std::fs;
use std::sync::Arc;

use cellblock_proto::BUILD;
use cellblock_proto::client::NotebookInfo;
use cellblock_proto::operations::{DaemonInfo, Overview};
use rustix::param::page_size;
use tokio::sync::oneshot;

use crate::daemon::{Daemon, Entry};
use crate::metrics::Moment;
use crate::notebook::Message;

/// All metrics, in the text format of OpenMetrics.
pub(crate) fn metrics(daemon: &Daemon) -> String {
    let (running, _, waiting) = daemon.runners.figures();
    daemon.metrics.text(Moment { running, waiting })
}

/// The daemon, and all notebooks of all tenants.
pub(crate) async fn overview(daemon: &Arc<Daemon>) -> Overview {
    let entries: Vec<Entry> = daemon.notebooks.lock().values().cloned().collect();
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        let (reply, answer) = oneshot::channel();
        // One that is being closed does not answer, and is not shown.
        if entry.inbox.send(Message::Look { reply }).await.is_ok() {
            found.extend(answer.await.ok());
        }
    }
    let looked = tokio::task::spawn_blocking(move || found.into_iter().map(with_usage).collect::<Vec<_>>());
    let notebooks = looked.await.unwrap_or_default();
    Overview { daemon: info(daemon, &notebooks), notebooks }
}

fn with_usage((info, worker): (NotebookInfo, Option<u32>)) -> NotebookInfo {
    let usage = worker.and_then(usage::of);
    NotebookInfo {
        memory_bytes: usage.map(|usage| usage.memory_bytes),
        cpu_ms: usage.map(|usage| usage.cpu_ms),
        ..info
    }
}

fn info(daemon: &Daemon, notebooks: &[NotebookInfo]) -> DaemonInfo {
    let (running, max_running, waiting) = daemon.runners.figures();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    DaemonInfo {
        build: BUILD.to_owned(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(daemon.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        draining: false,
        workers: u32::try_from(daemon.metrics.workers()).unwrap_or(0),
        max_workers: daemon.launches.figures().1.map_or(0, count),
        running: count(running),
        max_running: count(max_running),
        waiting: count(waiting),
        connections: u32::try_from(daemon.metrics.connections()).unwrap_or(0),
        memory_bytes: resident_bytes(),
        available_bytes: available_bytes(),
        cpu_ms: notebooks.iter().filter_map(|notebook| notebook.cpu_ms).reduce(u64::saturating_add),
    }
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * page_size() as u64
}

fn available_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
