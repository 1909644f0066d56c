//! cellblockd of another build comes up while workers of the old one live, and the anchor is told to end: what runs and
//! what is saved is not lost.

use std::fs;
use std::time::Duration;

use cellblock_proto::execution::{Death, End};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_one_mode, leftovers, wait};
use rustix::process::{Pid, Signal, kill_process};

as_root_and_user!(
    daemon_of_another_build_takes_over_what_runs_and_what_waits,
    workers_of_another_build_are_drained_one_by_one_and_lose_nothing,
    anchor_told_to_end_has_everything_saved_and_leaves_nothing,
);
in_one_mode!(
    shim_of_another_language_ends_in_order_and_its_variables_come_back,
    anchor_told_to_end_twice_hurries,
    worker_of_another_build_stays_where_its_variables_would_be_lost,
);

/// More than the shims' outbox gives at once.
const PRINTS: &str = "for n in range(2000): print(n, 'x' * 100)";

fn daemon_of_another_build_takes_over_what_runs_and_what_waits(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let mut notebook = daemon.notebook("a");
    notebook.run("import os, time; keep = [1]").ok();
    let wait_for = "while not os.path.exists('go'): time.sleep(0.01)\n";
    let mut first = notebook.start(&format!("{PRINTS}\n{wait_for}keep.append(2)\nprint('end')"));
    let mut second = notebook.start("keep.append(3); print(keep)");
    for sent in [&mut first, &mut second] {
        notebook.until_accepted(sent);
    }
    // Some of its output is told before the upgrade, some after it; none is missing or comes twice.
    notebook.until_stdout(&mut first, "100 x");
    daemon.kill_hard();
    daemon.restart_as("another", None);
    let workspace = daemon.workspace("a");
    let mut notebook = daemon.notebook("a");
    let mut again = notebook.attach(&first.execution, 0);
    notebook.until_stdout(&mut again, "1999 x");
    fs::write(workspace.join("go"), "").unwrap();
    let told = notebook.finish(again).ok().stdout();
    let expected: String = (0..2000).map(|n| format!("{n} {}\n", "x".repeat(100))).collect();
    assert!(told == expected + "end\n", "another text than was printed: {} bytes", told.len());
    let again = notebook.attach(&second.execution, 0);
    assert_eq!(notebook.finish(again).ok().stdout(), "[1, 2, 3]\n");
    assert_eq!(notebook.run("print(keep)").ok().stdout(), "[1, 2, 3]\n");
}

fn workers_of_another_build_are_drained_one_by_one_and_lose_nothing(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let names = ["idle-1", "idle-2", "idle-3", "idle-4"];
    let mut before = Vec::new();
    for name in names {
        let mut notebook = daemon.notebook(name);
        notebook.run(&format!("keep = ['{name}']; alias = keep")).ok();
        before.push(notebook.status().worker_pid);
    }
    let mut busy = daemon.notebook("busy");
    busy.run("import os, time; keep = [1]").ok();
    let pid = busy.status().worker_pid;
    let mut first = busy
        .start("print('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nkeep.append(2)");
    let mut second = busy.start("keep.append(3); print(os.getpid(), keep)");
    busy.until_stdout(&mut first, "up");
    busy.until_accepted(&mut second);
    let workspace = daemon.workspace("busy");
    daemon.kill_hard();
    daemon.restart_as("another", None);
    // While it runs: what is sent now waits for the next worker.
    wait::until("the idle ones are drained", || {
        names.iter().all(|name| daemon.notebook(name).status().worker_pid.is_none()).then_some(())
    });
    let mut busy = daemon.notebook("busy");
    let third = busy.start("keep.append(4); print(keep)");
    fs::write(workspace.join("go"), "").unwrap();
    for sent in [&first, &second] {
        let again = busy.attach(&sent.execution, 0);
        busy.finish(again).ok();
    }
    let ran = busy.finish(third).ok();
    assert_eq!((ran.stdout(), ran.lost()), ("[1, 2, 3, 4]\n".to_owned(), None), "{}", daemon.log());
    let now = busy.status().worker_pid;
    assert!(now.is_some() && now != pid);
    for (name, pid) in names.iter().zip(before) {
        let mut notebook = daemon.notebook(name);
        let ran = notebook.run("print(keep, alias is keep)").ok();
        assert_eq!((ran.stdout(), ran.lost()), (format!("['{name}'] True\n"), None));
        assert_ne!(notebook.status().worker_pid, pid);
    }
    wait::until("a word of the end", || {
        daemon.log().contains("no worker of another build is left").then_some(())
    });
    assert_eq!(daemon.log().matches("worker evicted").count(), 5, "a line for each: {}", daemon.log());
    // The next of that build finds nothing to drain.
    daemon.kill_hard();
    daemon.restart_as("another", None);
    assert_eq!(daemon.notebook("busy").status().worker_pid, now);
    assert_eq!(daemon.notebook("busy").run("print(keep)").ok().stdout(), "[1, 2, 3, 4]\n");
    assert_eq!(daemon.notebook("busy").status().worker_pid, now);
}

fn worker_of_another_build_stays_where_its_variables_would_be_lost(setup: Setup) {
    let unsaved = "version = 1\nbase = 'default'\ncheckpoints.when = 'none'\n";
    let mut daemon = Daemon::start(setup.lasting().profile("default", unsaved));
    let mut notebook = daemon.notebook("a");
    notebook.run("keep = 5").ok();
    let worker = notebook.status().worker_pid;
    daemon.kill_hard();
    daemon.restart_as("another", None);
    wait::until("a word of it", || daemon.log().contains("stays for now").then_some(()));
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("print(keep)").ok().stdout(), "5\n");
    assert_eq!(notebook.status().worker_pid, worker);
}

fn shim_of_another_language_ends_in_order_and_its_variables_come_back(setup: Setup) {
    let saved = "version = 1\nbase = 'default'\ncheckpoints.when = 'background'\n";
    let mut daemon = Daemon::start(setup.lasting().profile("default", saved));
    let mut notebook = daemon.notebook("a");
    notebook.run("import time; keep = [1]").ok();
    let before = notebook.status().worker_pid;
    // What runs is interrupted, and what it has done so far is saved.
    let mut sent = notebook.start("keep.append(2); print('up', flush=True); time.sleep(60)");
    notebook.until_stdout(&mut sent, "up");
    daemon.kill_hard();
    daemon.restart_as("another", Some(99));
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("print(keep)").ok().stdout(), "[1, 2]\n", "{}", daemon.log());
    assert_ne!(notebook.status().worker_pid, before);
    assert!(daemon.log().contains("cannot be understood"), "{}", daemon.log());
}

fn terminate(daemon: &Daemon) -> leftovers::Process {
    let anchor = daemon.anchors().remove(0);
    kill_process(Pid::from_raw(anchor.pid).unwrap(), Signal::TERM).unwrap();
    anchor
}

/// A cell that does not heed an interrupt.
const DEAF: &str =
    "import time\nprint('up', flush=True)\nwhile True:\n  try: time.sleep(60)\n  except BaseException: pass";

fn anchor_told_to_end_has_everything_saved_and_leaves_nothing(setup: Setup) {
    let saved = "version = 1\nbase = 'default'\ncheckpoints.when = 'background'\n";
    let mut daemon = Daemon::start(setup.lasting().profile("default", saved));
    let [mut idle, mut busy, mut deaf] = ["idle", "busy", "deaf"].map(|name| daemon.notebook(name));
    // Large enough that it is still being saved when the end comes.
    idle.run("keep = [bytes([n % 251]) * 1_000_000 for n in range(60)]").ok();
    let mut sent = busy.start("keep = 5; print('up', flush=True)\nimport time; time.sleep(60)");
    busy.until_stdout(&mut sent, "up");
    // What it has is being saved for longer than what runs may take to heed an interrupt.
    deaf.run("import time\nclass Slow:\n  def __reduce__(self):\n    time.sleep(4)\n    return int, (7,)\nkeep = Slow()").ok();
    let mut sent = deaf.start(DEAF);
    deaf.until_stdout(&mut sent, "up");
    daemon.kill_hard();
    let before = daemon.processes();
    let anchor = terminate(&daemon);
    wait::until("everything has ended", || before.iter().all(|process| !process.lives()).then_some(()));
    assert_eq!(leftovers::cgroups(&[anchor]), Vec::<std::path::PathBuf>::new());
    assert!(!daemon.runtime_dir().join("workers/anchor.sock").exists(), "its socket is left");
    daemon.restart();
    assert_eq!(daemon.notebook("idle").run("print(len(keep), keep[59][0])").ok().stdout(), "60 59\n");
    assert_eq!(daemon.notebook("busy").run("print(keep)").ok().stdout(), "5\n");
    assert_eq!(daemon.notebook("deaf").run("print(keep)").ok().stdout(), "7\n");
}

fn anchor_told_to_end_twice_hurries(setup: Setup) {
    let daemon = Daemon::start(setup.lasting());
    let mut notebook = daemon.notebook("a");
    // It would have its time.
    let mut sent = notebook.start(DEAF);
    notebook.until_stdout(&mut sent, "up");
    let before = daemon.processes();
    let anchor = terminate(&daemon);
    wait::until("it has heard the first", || daemon.log().contains("told to end").then_some(()));
    let begun = std::time::Instant::now();
    kill_process(Pid::from_raw(anchor.pid).unwrap(), Signal::TERM).unwrap();
    wait::until("everything has ended", || before.iter().all(|process| !process.lives()).then_some(()));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(notebook.finish(sent).outcome.end, End::WorkerDied(Death::ShimLost));
}
