//! What operators are shown: metrics, and `cellctl top`. Asked when somebody looks, so that nobody pays who does not.

mod usage;

use std::sync::Arc;

use cellblock_proto::BUILD;
use cellblock_proto::client::NotebookInfo;
use cellblock_proto::operations::{DaemonInfo, Overview};
use rustix::param::page_size;
use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::metrics::Moment;
use crate::notebook::Message;
use crate::pressure;
use crate::registry;
use crate::stat::{RESIDENT_PAGES, Stat};
use crate::time::milliseconds;

/// Notebooks that are shown: as many as fit into a frame, with the longest names.
const MOST: usize = 1_500;

/// All metrics, in the text format of OpenMetrics.
pub(crate) fn metrics(daemon: &Daemon) -> String {
    let (running, _, waiting) = daemon.runners.figures();
    let asleep = daemon.notebooks.lock().asleep.len();
    daemon.metrics.text(Moment { running, waiting, asleep })
}

/// The daemon, and all notebooks of all tenants.
pub(crate) async fn overview(daemon: &Arc<Daemon>) -> Overview {
    let mut found: Vec<_> = registry::asleep(daemon, None).into_iter().map(|info| (info, None)).collect();
    for entry in daemon.notebooks.awake() {
        let (reply, answer) = oneshot::channel();
        // One that is being closed does not answer, and is not shown.
        if entry.inbox.send(Message::Look { reply }).await.is_ok() {
            found.extend(answer.await.ok());
        }
    }
    found.sort_by(|(one, _), (other, _)| (&one.tenant, &one.notebook).cmp(&(&other.tenant, &other.notebook)));
    let count = found.len();
    choose(&mut found, MOST);
    let looked = tokio::task::spawn_blocking(move || found.into_iter().map(with_usage).collect::<Vec<_>>());
    let notebooks = looked.await.unwrap_or_default();
    Overview { daemon: info(daemon, count, &notebooks), notebooks }
}

/// Keeps at most so many: those with something going on before others. Their order stays.
fn choose(found: &mut Vec<(NotebookInfo, Option<u32>)>, most: usize) {
    let is_active = |(info, worker): &(NotebookInfo, Option<u32>)| worker.is_some() || info.queued > 0;
    let active = found.iter().filter(|found| is_active(found)).count();
    let (mut active, mut others) = (active.min(most), most.saturating_sub(active));
    found.retain(|found| {
        let room = if is_active(found) { &mut active } else { &mut others };
        let stays = *room > 0;
        *room -= usize::from(stays);
        stays
    });
}

fn with_usage((info, worker): (NotebookInfo, Option<u32>)) -> NotebookInfo {
    let usage = worker.and_then(usage::of);
    NotebookInfo {
        memory_bytes: usage.map(|usage| usage.memory_bytes),
        cpu_ms: usage.map(|usage| usage.cpu_ms),
        ..info
    }
}

fn info(daemon: &Daemon, open: usize, notebooks: &[NotebookInfo]) -> DaemonInfo {
    let (running, max_running, waiting) = daemon.runners.figures();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    DaemonInfo {
        build: BUILD.to_owned(),
        pid: std::process::id(),
        uptime_ms: milliseconds(daemon.since.elapsed()),
        draining: daemon.draining.is_on(),
        workers: u32::try_from(daemon.metrics.workers()).unwrap_or(0),
        max_workers: daemon.launches.figures().1.map_or(0, count),
        running: count(running),
        max_running: count(max_running),
        waiting: count(waiting),
        notebooks: count(open),
        connections: u32::try_from(daemon.metrics.connections()).unwrap_or(0),
        memory_bytes: resident_bytes(),
        available_bytes: pressure::available_bytes(),
        cpu_ms: notebooks.iter().filter_map(|notebook| notebook.cpu_ms).reduce(u64::saturating_add),
    }
}

fn resident_bytes() -> u64 {
    let pages = Stat::read("self").and_then(|stat| stat.number(RESIDENT_PAGES)).unwrap_or(0);
    pages * page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellblock_proto::client::WorkerState;
    use cellblock_proto::codec::Codec;

    fn notebook(number: usize, worker: Option<u32>) -> (NotebookInfo, Option<u32>) {
        let long = |mark: char| format!("{mark}{}", "n".repeat(63));
        let info = NotebookInfo {
            notebook: format!("{}{number}", &long('n')[..58]).parse().unwrap(),
            profile: long('p'),
            state: WorkerState::Starting,
            queued: 0,
            executions: u64::MAX,
            tenant: Some(long('t').parse().unwrap()),
            pinned: false,
            evicted: false,
            idle_ms: Some(u64::MAX),
            memory_bytes: Some(u64::MAX),
            saved_whole: false,
            running_ms: Some(u64::MAX),
            cpu_ms: Some(u64::MAX),
        };
        (info, worker)
    }

    #[test]
    fn of_too_many_notebooks_those_with_a_worker_are_shown_and_a_frame_holds_them() {
        let all = || (0..10_000).map(|number| notebook(number, (number % 100 == 0).then_some(7)));
        let mut found: Vec<_> = all().collect();
        choose(&mut found, MOST);
        assert_eq!(found.len(), MOST);
        assert_eq!(found.iter().filter(|(_, worker)| worker.is_some()).count(), 100);
        assert!(found.is_sorted_by_key(|(info, _)| {
            info.notebook.as_str().trim_start_matches('n').parse::<u32>().unwrap()
        }));
        let notebooks = found.into_iter().map(|(info, _)| info).collect();
        let bytes = Codec::Json.encode(&Overview { daemon: DaemonInfo::default(), notebooks }).unwrap().len();
        assert!(bytes < 1 << 20, "{bytes}");
        let mut found: Vec<_> = all().collect();
        choose(&mut found, 50);
        assert!(found.len() == 50 && found.iter().all(|(_, worker)| worker.is_some()));
    }
}
