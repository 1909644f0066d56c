//! What is kept of an Execution: nobody need be there while it runs, and whoever comes later reads it, also after
//! cellblockd and its shim were killed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cellblock_proto::client::{ErrorCode, Request};
use cellblock_proto::execution::{Death, End, ExecuteOptions, OnDisconnect};
use cellblock_proto::id::ExecutionId;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, skip, we_are_root};
use cellblock_tests::{as_root_and_user, in_one_mode, wait};

use crate::slow_reader::rss_kb;
use crate::survival::{Checker, kill};

as_root_and_user!(
    cell_that_nobody_reads_runs_on_and_its_50_mb_are_read_later_also_after_a_kill,
    daemon_killed_in_50_mb_that_nobody_reads_loses_no_byte,
    execution_that_lost_daemon_and_shim_has_one_outcome_and_never_runs_again,
    execution_ends_with_its_client_where_that_was_asked_for,
    ids_outlive_a_closed_notebook_and_not_a_deleted_one,
    outputs_that_nobody_comes_for_go_after_a_week,
);
in_one_mode!(full_disk_costs_the_middle_of_what_nobody_reads_and_no_more);

/// 50 MB, each line of which says where it is.
const PRINT: &str = "for n in range(500_000): print(f'{n:010d}', 'x' * 88)";
const BYTES: usize = 50_000_000;

fn outputs(daemon: &Daemon, notebook: &str) -> PathBuf {
    daemon.state_dir().join("notebooks").join(notebook).join("outputs")
}

fn id(name: &str) -> ExecutionId {
    name.parse().unwrap()
}

/// Starts it, and goes as soon as it is accepted.
fn leave(daemon: &Daemon, name: &str, execution: &str, code: &str) {
    let mut notebook = daemon.notebook(name);
    let mut sent = notebook.start_as(id(execution), code, ExecuteOptions::default());
    notebook.until_accepted(&mut sent);
}

fn wait_until_idle(daemon: &Daemon, name: &str) {
    let mut looker = daemon.notebook(name);
    wait::until("it has ended", || looker.status().running.is_none().then_some(()));
}

fn check_all(daemon: &Daemon) {
    let mut notebook = daemon.notebook("a");
    let sent = notebook.attach(&id("e"), 0);
    let mut checker = Checker { next: 0, next_seq: 0 };
    assert_eq!(checker.take(&mut notebook, &sent, usize::MAX), Some(End::Ok));
    assert_eq!(checker.next, BYTES);
}

fn cell_that_nobody_reads_runs_on_and_its_50_mb_are_read_later_also_after_a_kill(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    daemon.notebook("a").run("1").ok();
    let before = rss_kb(daemon.pid());
    leave(&daemon, "a", "e", PRINT);
    wait_until_idle(&daemon, "a");
    let after = rss_kb(daemon.pid());
    assert!(after < before + (32 << 10), "{before} kB before, {after} kB after");
    check_all(&daemon);
    daemon.kill_hard();
    daemon.restart();
    check_all(&daemon);
}

fn daemon_killed_in_50_mb_that_nobody_reads_loses_no_byte(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    leave(&daemon, "a", "e", PRINT);
    for segments in [2, 6] {
        let folder = outputs(&daemon, "a");
        wait::until("some of it is on the disk", || {
            (fs::read_dir(&folder).map_or(0, Iterator::count) > segments).then_some(())
        });
        daemon.kill_hard();
        daemon.restart();
    }
    check_all(&daemon);
}

fn execution_that_lost_daemon_and_shim_has_one_outcome_and_never_runs_again(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let code = "with open('count', 'a') as file: print('once', file=file)\nprint('begun')\nimport time\ntime.sleep(1000)";
    let mut notebook = daemon.notebook("a");
    let early = notebook.start_as(id("early"), "print('told')", ExecuteOptions::default());
    notebook.finish(early).ok();
    let mut sent = notebook.start_as(id("e"), code, ExecuteOptions::default());
    notebook.until_stdout(&mut sent, "begun");
    let shims = daemon.processes_named("cellblock-shim");
    daemon.kill_hard();
    for shim in &shims {
        kill(shim.pid.cast_unsigned());
    }
    wait::until("all shims are gone", || shims.iter().all(|shim| !shim.lives()).then_some(()));
    for _ in 0..2 {
        daemon.restart();
        let mut notebook = daemon.notebook("a");
        for _ in 0..2 {
            let again = notebook.start_as(id("e"), code, ExecuteOptions::default());
            assert_eq!(notebook.finish(again).outcome.end, End::WorkerDied(Death::ShimLost));
        }
        let early = notebook.start_as(id("early"), "print('again')", ExecuteOptions::default());
        assert_eq!(notebook.finish(early).ok().stdout(), "told\n");
        daemon.kill_hard();
    }
    daemon.restart();
    assert_eq!(daemon.notebook("a").run("print(open('count').read(), end='')").ok().stdout(), "once\n");
}

fn full_disk_costs_the_middle_of_what_nobody_reads_and_no_more(setup: Setup) {
    if !we_are_root() {
        return skip("only root can mount a small disk");
    }
    let daemon = Daemon::start(setup.tiny_disk());
    daemon.notebook("a").run("1").ok();
    leave(&daemon, "a", "e", PRINT);
    wait_until_idle(&daemon, "a");
    let mut notebook = daemon.notebook("a");
    let sent = notebook.attach(&id("e"), 0);
    let ran = notebook.finish(sent).ok();
    let gaps = ran.gaps();
    let dropped: u64 = gaps.iter().map(|(_, bytes, _)| bytes).sum();
    let text = ran.stdout();
    assert_eq!(text.len() as u64 + dropped, BYTES as u64, "{gaps:?}");
    assert!(gaps.iter().any(|(.., reason)| reason.contains("the disk did not take it")), "{gaps:?}");
    assert!(text.starts_with("0000000000 ") && text.contains("0000499999 "), "head and tail are kept");
    // Nobody else knows of it.
    assert_eq!(notebook.run("6 * 7").ok().shape(), [("result", "42".to_owned())]);
}

fn execution_ends_with_its_client_where_that_was_asked_for(setup: Setup) {
    let daemon = Daemon::start(setup);
    let options = |on_disconnect| ExecuteOptions { on_disconnect, ..ExecuteOptions::default() };
    let (code, interrupt) = ("print('begun')\nimport time\ntime.sleep(1000)", OnDisconnect::Interrupt);
    let mut stays = daemon.notebook("b");
    let mut goes_on = stays.start_as(id("e"), code, options(OnDisconnect::Continue));
    stays.until_stdout(&mut goes_on, "begun");
    drop(stays);
    let mut notebook = daemon.notebook("a");
    let mut runs = notebook.start_as(id("runs"), code, options(interrupt));
    notebook.until_stdout(&mut runs, "begun");
    let mut waits = notebook.start_as(id("waits"), "1", options(interrupt));
    notebook.until_accepted(&mut waits);
    drop(notebook);
    let mut other = daemon.notebook("a");
    for (name, expected) in [("runs", "Interrupted"), ("waits", "Cancelled")] {
        // Who attaches at once keeps it from its end.
        wait::until("it has ended", || {
            let status = other.status();
            (status.running != Some(id(name)) && !status.queue.contains(&id(name))).then_some(())
        });
        let sent = other.attach(&id(name), 0);
        let end = format!("{:?}", other.finish(sent).outcome.end);
        assert!(end.starts_with(expected), "{name}: {end}");
    }
    // The control.
    assert_eq!(daemon.notebook("b").status().running, Some(id("e")));
}

fn ids_outlive_a_closed_notebook_and_not_a_deleted_one(setup: Setup) {
    let daemon = Daemon::start(setup);
    let code = "with open('count', 'a') as file: print('once', file=file)\nprint('told')";
    let run = || {
        let mut notebook = daemon.notebook("a");
        let sent = notebook.start_as(id("same"), code, ExecuteOptions::default());
        assert_eq!(notebook.finish(sent).ok().stdout(), "told\n");
        notebook
    };
    let mut notebook = run();
    let name = notebook.id.clone();
    notebook.client.ask(&Request::Close { notebook: name.clone() }).unwrap();
    assert!(outputs(&daemon, "a").join("journal").exists());
    run();
    assert_eq!(daemon.notebook("a").run("print(open('count').read(), end='')").ok().stdout(), "once\n");
    let mut notebook = daemon.notebook("a");
    notebook.client.ask(&Request::Delete { notebook: name }).unwrap();
    assert!(!outputs(&daemon, "a").exists());
    let mut notebook = daemon.notebook("a");
    let attach = Request::Attach { notebook: notebook.id.clone(), execution: id("same"), from_seq: 0 };
    assert_eq!(notebook.client.ask(&attach).unwrap_err().code, ErrorCode::UnknownExecution);
    run();
}

fn outputs_that_nobody_comes_for_go_after_a_week(setup: Setup) {
    let daemon = Daemon::start(setup.switch("CELLBLOCK_TEST_RECONCILE_MS", "20"));
    let code = "print('x' * 3_000_000, flush=True)";
    let segments = |name: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(outputs(&daemon, name)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains('~')).collect()
    };
    let age = |name: &str, days: u64| {
        let found = segments(name);
        assert!(!found.is_empty(), "{name} has put nothing on the disk");
        for path in found {
            let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
            File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        }
    };
    let mut running = daemon.notebook("running");
    let mut goes_on = running.start(&format!("{code}\nprint('there')\nimport time\ntime.sleep(1000)"));
    running.until_stdout(&mut goes_on, "there");
    for name in ["young", "closed", "open"] {
        let mut notebook = daemon.notebook(name);
        let sent = notebook.start_as(id("e"), code, ExecuteOptions::default());
        notebook.finish(sent).ok();
    }
    let mut notebook = daemon.notebook("closed");
    let closed = notebook.id.clone();
    notebook.client.ask(&Request::Close { notebook: closed }).unwrap();
    // The controls: what is young stays, and what is of an Execution that has not ended.
    for (name, days) in [("young", 6), ("running", 8), ("closed", 8), ("open", 8)] {
        age(name, days);
    }
    for name in ["closed", "open"] {
        wait::until("they are gone", || segments(name).is_empty().then_some(()));
    }
    assert!(!segments("young").is_empty() && !segments("running").is_empty());
    let told = "removing outputs that are kept no longer";
    wait::until("that is told", || daemon.log().contains(told).then_some(()));
    // Its Outcome stays, and says how much is missing.
    let mut notebook = daemon.notebook("closed");
    let sent = notebook.attach(&id("e"), 0);
    let ran = notebook.finish(sent).ok();
    let dropped: u64 = ran.gaps().iter().map(|(_, bytes, _)| bytes).sum();
    assert_eq!(dropped + ran.stdout().len() as u64, 3_000_001);
}
