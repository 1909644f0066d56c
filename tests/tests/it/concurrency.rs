//! Many notebooks at once: how many cells run, in which order, and how many workers are started.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use cellblock_proto::client::{Request, WorkerState};
use cellblock_proto::execution::End;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::{Notebook, Sent};
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_one_mode, wait};
use rustix::process::{Pid, Signal, kill_process};

as_root_and_user!(two_cells_run_at_once_where_two_may_and_notebooks_take_turns);
in_one_mode!(
    profile_at_its_own_cap_waits_and_others_do_not,
    whatever_ends_a_cell_gives_its_leave_to_the_next,
    cell_that_waits_for_leave_can_be_interrupted,
    leave_outlives_the_daemon_and_the_rest_waits_for_the_next_one,
    forty_notebooks_opened_at_once_all_run_and_few_start_at_a_time,
);

/// Says when it begins and ends, by a clock that all sandboxes share.
const STAMPED: &str = "import time\nbegan = time.monotonic()\n\
                       for _ in range(20): time.sleep(0.01)\nprint(began, time.monotonic())";

/// Runs until it is interrupted, and says that it runs.
const BUSY: &str = "import time\nprint('up', flush=True)\nwhile True: time.sleep(0.01)";

type Span = (f64, f64);

/// What ends a cell, and how it is done.
type Ending = (&'static str, fn(&mut Notebook));

fn span(notebook: &mut Notebook, sent: Sent) -> Span {
    let text = notebook.finish(sent).ok().stdout();
    let (began, ended) = text.trim().split_once(' ').unwrap();
    (began.parse().unwrap(), ended.parse().unwrap())
}

/// The most that ran at one moment.
fn most_at_once(spans: &[Span]) -> usize {
    let running = |at: f64| spans.iter().filter(|(began, ended)| (*began..*ended).contains(&at)).count();
    spans.iter().map(|(began, _)| running(*began)).max().unwrap_or(0)
}

/// Notebooks whose workers are up.
fn up<const N: usize>(daemon: &Daemon, names: [&str; N]) -> [Notebook; N] {
    names.map(|name| {
        let mut notebook = daemon.notebook(name);
        notebook.run("1").ok();
        notebook
    })
}

fn accepted(notebook: &mut Notebook, code: &str) -> Sent {
    let mut sent = notebook.start(code);
    notebook.until_accepted(&mut sent);
    sent
}

fn busy(notebook: &mut Notebook) -> Sent {
    let mut sent = notebook.start(BUSY);
    notebook.until_stdout(&mut sent, "up");
    sent
}

fn two_cells_run_at_once_where_two_may_and_notebooks_take_turns(setup: Setup) {
    let daemon = Daemon::start(setup.argument("--max-running").argument("2"));
    let mut notebooks = up(&daemon, ["a", "b", "c", "d", "e", "f"]);
    // Two of each, and the first notebook with both in the queue before anybody else has one.
    let sent: Vec<[Sent; 2]> =
        notebooks.iter_mut().map(|notebook| [(); 2].map(|()| accepted(notebook, STAMPED))).collect();
    assert_eq!(notebooks[5].status().info.state, WorkerState::Waiting);
    let mut rounds = [Vec::new(), Vec::new()];
    for (notebook, both) in notebooks.iter_mut().zip(sent) {
        for (round, sent) in rounds.iter_mut().zip(both) {
            round.push(span(notebook, sent));
        }
    }
    let all = rounds.concat();
    assert_eq!(most_at_once(&all), 2, "{all:?}");
    // Each round in the order in which they have asked, two at a time: so one that is two places behind
    // begins later.
    for (earlier, later) in all.iter().zip(&all[2..]) {
        assert!(earlier.0 < later.0, "out of turn: {all:?}");
    }
}

fn profile_at_its_own_cap_waits_and_others_do_not(setup: Setup) {
    let daemon = Daemon::start(setup.profile("narrow", "version = 1\nbase = 'default'\nmax_running = 1\n"));
    let mut first = daemon.notebook_under("a", "narrow");
    let mut second = daemon.notebook_under("b", "narrow");
    second.run("1").ok();
    let runs = busy(&mut first);
    let waits = accepted(&mut second, "2");
    assert_eq!(second.status().info.state, WorkerState::Waiting);
    daemon.notebook("c").run("3").ok();
    assert_eq!(second.status().info.state, WorkerState::Waiting);
    first.interrupt();
    assert_eq!(first.finish(runs).outcome.end, End::Interrupted);
    second.finish(waits).ok();
}

fn whatever_ends_a_cell_gives_its_leave_to_the_next(setup: Setup) {
    let daemon = Daemon::start(setup.argument("--max-running=1"));
    let [mut runs, mut waits] = up(&daemon, ["a", "b"]);
    let ends: [Ending; 5] = [
        ("interrupt", |notebook| notebook.interrupt()),
        ("restart", |notebook| notebook.client.tell(&Request::Restart { notebook: notebook.id.clone() })),
        ("death", |notebook| {
            let pid = i32::try_from(notebook.status().worker_pid.unwrap()).unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }),
        ("its connection", |_| {}),
        ("close", |notebook| notebook.client.tell(&Request::Close { notebook: notebook.id.clone() })),
    ];
    for (what, end) in ends {
        let sent = busy(&mut runs);
        let next = accepted(&mut waits, "2");
        assert_eq!(waits.status().info.state, WorkerState::Waiting, "{what}");
        end(&mut runs);
        if what == "its connection" {
            // Who reads does not matter; the cell runs on.
            runs = daemon.notebook("a");
            assert_eq!(waits.status().info.state, WorkerState::Waiting, "{what}");
            runs.interrupt();
        }
        waits.finish(next).ok();
        drop(sent);
    }
}

fn cell_that_waits_for_leave_can_be_interrupted(setup: Setup) {
    let daemon = Daemon::start(setup.argument("--max-running=1"));
    let [mut runs, mut waits] = up(&daemon, ["a", "b"]);
    let sent = busy(&mut runs);
    let next = accepted(&mut waits, "print('it ran')");
    waits.interrupt();
    let ran = waits.finish(next);
    assert!(matches!(ran.outcome.end, End::Cancelled { .. }) && ran.stdout().is_empty(), "{ran:?}");
    assert_eq!(waits.status().info.state, WorkerState::Idle);
    runs.interrupt();
    assert_eq!(runs.finish(sent).outcome.end, End::Interrupted);
}

fn leave_outlives_the_daemon_and_the_rest_waits_for_the_next_one(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting().argument("--max-running=1"));
    let [mut first, mut second] = up(&daemon, ["a", "b"]);
    let code = format!("import os\nwhile not os.path.exists('go'): pass\n{STAMPED}");
    let runs = accepted(&mut first, &code);
    let queued = accepted(&mut first, STAMPED);
    let waits = accepted(&mut second, STAMPED);
    daemon.kill_hard();
    daemon.restart();
    let mut newcomer = daemon.notebook("c");
    let mut third = newcomer.start(STAMPED);
    newcomer.until_accepted(&mut third);
    assert_eq!(newcomer.status().info.state, WorkerState::Waiting);
    std::fs::write(daemon.workspace("a").join("go"), "").unwrap();
    let [mut first, mut second] = ["a", "b"].map(|name| daemon.notebook(name));
    let [runs, queued] = [runs, queued].map(|sent| first.attach(&sent.execution, 0));
    let waits = second.attach(&waits.execution, 0);
    let spans = [
        span(&mut first, runs),
        span(&mut second, waits),
        span(&mut newcomer, third),
        span(&mut first, queued),
    ];
    assert_eq!(most_at_once(&spans), 1, "{spans:?}");
    assert!(spans.is_sorted_by(|earlier, later| earlier.1 <= later.0), "out of turn: {spans:?}");
}

fn forty_notebooks_opened_at_once_all_run_and_few_start_at_a_time(setup: Setup) {
    let daemon = Daemon::start(setup);
    // It makes the interpreter's cache, in a sandbox of its own.
    daemon.notebook("first").run("1").ok();
    let may_start = (4 * available_parallelism().map_or(1, NonZeroUsize::get)).max(8);
    let mut notebooks: Vec<Notebook> = (0..40).map(|n| daemon.notebook(&format!("n{n}"))).collect();
    let sent: Vec<Sent> = notebooks.iter_mut().map(|notebook| notebook.start("1 + 1")).collect();
    let mut client = daemon.client();
    let mut done = 0;
    while done < 41 {
        done = wait::until("one more has run", || {
            let shims = shims(&daemon);
            let all = client.notebooks();
            let up = all.iter().filter(|info| !starts(info.state)).count();
            assert!(shims <= up + may_start, "{shims} shims, of which {up} have a worker");
            let ended = all.iter().filter(|info| info.executions > 0).count();
            (ended > done).then_some(ended)
        });
    }
    for (notebook, sent) in notebooks.iter_mut().zip(sent) {
        assert_eq!(notebook.finish(sent).ok().shape(), [("result", "2".to_owned())]);
    }

    // Who waits for a start can be closed without having had it: here nothing starts, and all wait.
    let stopped = Stopped::new(&daemon);
    let late_ones = may_start + 8;
    let mut late: Vec<Notebook> = (0..late_ones).map(|n| daemon.notebook(&format!("late{n}"))).collect();
    late.iter_mut().for_each(|notebook| drop(notebook.start("1 + 1")));
    let begun = |who: &str| {
        daemon.log().lines().filter(|line| line.contains(who) && line.contains("image made")).count()
    };
    wait::until("as many as may have begun", || (begun("notebook=late") == may_start).then_some(()));
    for notebook in &mut late {
        notebook.client.send(&Request::Close { notebook: notebook.id.clone() }, &[]);
    }
    // Nor does a start that is not wanted any more make room before it has ended.
    let mut next = daemon.notebook("next");
    let sent = next.start("1 + 1");
    wait::until("those that wait are closed", || (client.notebooks().len() <= 42 + may_start).then_some(()));
    let begins = || (begun("notebook=next}") > 0).then_some(());
    assert_eq!(wait::within(Duration::from_millis(300), begins), None, "{}", daemon.log());
    drop(stopped);
    next.finish(sent).ok();
    wait::until("closed notebooks left no shim", || (shims(&daemon) == 42).then_some(()));
    assert_eq!(begun("notebook=late"), may_start, "{}", daemon.log());
}

/// A daemon whose anchor does nothing for a while.
struct Stopped(Pid);

impl Stopped {
    fn new(daemon: &Daemon) -> Self {
        let anchor = Pid::from_raw(daemon.anchors()[0].pid).unwrap();
        kill_process(anchor, Signal::STOP).unwrap();
        Stopped(anchor)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

fn starts(state: WorkerState) -> bool {
    matches!(state, WorkerState::None | WorkerState::Starting)
}

/// How many there are: each has a socket of its own, beside the anchor's.
fn shims(daemon: &Daemon) -> usize {
    let entries = std::fs::read_dir(daemon.runtime_dir().join("workers")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".sock") && name != "anchor.sock").count()
}
