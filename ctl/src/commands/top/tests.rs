use super::*;

fn notebook(name: &str, state: WorkerState, memory_bytes: Option<u64>) -> NotebookInfo {
    NotebookInfo {
        notebook: name.parse().unwrap(),
        profile: "default".to_owned(),
        state,
        queued: 2,
        executions: 12,
        tenant: Some("web".parse().unwrap()),
        pinned: false,
        evicted: false,
        idle_ms: None,
        memory_bytes,
        saved_whole: false,
        running_ms: Some(61_000).filter(|_| state == WorkerState::Busy),
        cpu_ms: memory_bytes.map(|_| 1_234),
    }
}

fn overview() -> Overview {
    let daemon = DaemonInfo {
        uptime_ms: 3_600_000 * 5,
        notebooks: 3,
        workers: 2,
        running: 1,
        max_running: 8,
        memory_bytes: 20 << 20,
        available_bytes: 3 << 30,
        ..DaemonInfo::default()
    };
    let notebooks = vec![
        notebook("a", WorkerState::None, None),
        notebook("b", WorkerState::Idle, Some(900 << 20)),
        notebook("c", WorkerState::Busy, Some(80 << 20)),
    ];
    Overview { daemon, notebooks }
}

#[test]
fn a_page_has_what_the_daemon_has_and_who_runs_first() {
    let expected = "\
up 5:00 h; notebooks: 3, workers: 2, running: 1 of 8, waiting: 0, connections: 0
memory of cellblockd: 20 MiB, available on this machine: 3.0 GiB

TENANT  NOTEBOOK  STATE  PROFILE  RUNNING   QUEUE  MEMORY   CPU    EXECUTIONS  IDLE
web     c         busy   default  1:01 min  2      80 MiB   1.2 s  12          -
web     b         idle   default  -         2      900 MiB  1.2 s  12          -
web     a         none   default  -         2      -        -      12          -
";
    assert_eq!(page(&overview(), Sort::State, usize::MAX), expected);
}

#[test]
fn order_is_what_was_asked_for_and_a_small_screen_shows_the_first() {
    let order = |sort, most| -> Vec<String> {
        let page = page(&overview(), sort, most);
        page.lines().skip(4).map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(order(Sort::Name, 9), ["a", "b", "c"]);
    assert_eq!(order(Sort::Memory, 9), ["b", "c", "a"]);
    assert_eq!(order(Sort::Running, 1), ["c"]);
}

#[test]
fn sizes_and_times_are_short() {
    assert_eq!(
        [0, 1023, 1536, 900 << 20, 5 << 40].map(bytes),
        ["0 B", "1023 B", "1.5 KiB", "900 MiB", "5120 GiB"]
    );
    assert_eq!([90, 61_000, 3_660_000, 90_000_000].map(time), ["0.0 s", "1:01 min", "1:01 h", "1 d 1 h"]);
}
