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
    anchor_told_to_end_has_everything_saved_and_leaves_nothing,
);
in_one_mode!(
    shim_of_another_language_ends_in_order_and_its_variables_come_back,
    anchor_told_to_end_twice_hurries,
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

fn anchor_told_to_end_has_everything_saved_and_leaves_nothing(setup: Setup) {
    let saved = "version = 1\nbase = 'default'\ncheckpoints.when = 'background'\n";
    let mut daemon = Daemon::start(setup.lasting().profile("default", saved));
    let (mut idle, mut busy) = (daemon.notebook("idle"), daemon.notebook("busy"));
    // Large enough that it is still being saved when the end comes.
    idle.run("keep = [bytes([n % 251]) * 1_000_000 for n in range(60)]").ok();
    let mut sent = busy.start("keep = 5; print('up', flush=True)\nimport time; time.sleep(60)");
    busy.until_stdout(&mut sent, "up");
    daemon.kill_hard();
    let before = daemon.processes();
    let anchor = terminate(&daemon);
    wait::until("everything has ended", || before.iter().all(|process| !process.lives()).then_some(()));
    assert_eq!(leftovers::cgroups(&[anchor]), Vec::<std::path::PathBuf>::new());
    assert!(!daemon.runtime_dir().join("workers/anchor.sock").exists(), "its socket is left");
    daemon.restart();
    assert_eq!(daemon.notebook("idle").run("print(len(keep), keep[59][0])").ok().stdout(), "60 59\n");
    assert_eq!(daemon.notebook("busy").run("print(keep)").ok().stdout(), "5\n");
}

fn anchor_told_to_end_twice_hurries(setup: Setup) {
    let daemon = Daemon::start(setup.lasting());
    let mut notebook = daemon.notebook("a");
    // It does not heed the interrupt, and so would have its time.
    let deaf = "import time\nprint('up', flush=True)\nwhile True:\n  try: time.sleep(60)\n  except BaseException: pass";
    let mut sent = notebook.start(deaf);
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
