//! cellblockd and shims may be killed: what was running goes on, and nothing is lost or told twice.

use std::fs;
use std::time::Duration;

use cellblock_proto::client::{Reply, Request};
use cellblock_proto::execution::{Death, End, ExecuteOptions, Output, StreamName};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::{Notebook, Sent};
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, wait};
use rustix::process::{Pid, Signal, kill_process};

as_root_and_user!(
    killed_daemon_in_a_print_of_100_mb_loses_no_byte_and_tells_none_twice,
    killed_daemon_keeps_variables_and_queue,
    execution_sent_again_under_its_id_does_not_run_twice,
    lost_shim_ends_its_sandbox_at_once_and_the_next_cell_works,
    what_a_dead_worker_gave_back_runs_once_however_often_the_daemon_is_killed,
    daemon_told_to_end_leaves_its_workers_to_the_next,
    anchor_that_is_killed_takes_its_workers_along_and_is_replaced,
);

const LINES: u32 = 1_000_000;
/// Each line says where it is, and has 100 bytes.
const PRINT: &str = "for n in range(1_000_000): print(f'{n:010d}', 'x' * 88)";

fn line_bytes(number: u32) -> Vec<u8> {
    format!("{number:010} {}\n", "x".repeat(88)).into_bytes()
}

/// What is lost stays so.
fn forgetful(setup: Setup) -> Setup {
    setup.profile("default", "version = 1\nbase = 'default'\ncheckpoints.when = 'none'\n")
}

pub(crate) fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

/// Checks each byte against its place.
pub(crate) struct Checker {
    pub(crate) next: usize,
    pub(crate) next_seq: u64,
}

impl Checker {
    fn check(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let line = line_bytes(u32::try_from(self.next / 100).unwrap());
            let expected = &line[self.next % 100..];
            let count = expected.len().min(rest.len());
            assert!(
                rest[..count] == expected[..count],
                "at byte {}: another byte than was printed",
                self.next
            );
            rest = &rest[count..];
            self.next += count;
        }
    }

    /// Takes answers until there are `enough` bytes, or the connection or the Execution ends.
    pub(crate) fn take(&mut self, notebook: &mut Notebook, sent: &Sent, enough: usize) -> Option<End> {
        while self.next < enough {
            let answer = notebook.client.next_or_end(sent.request)?;
            match answer.reply {
                Reply::Accepted { .. } => {}
                Reply::Output(frame) => {
                    assert_eq!(frame.seq, self.next_seq, "an output is missing or came twice");
                    assert_eq!(frame.output, Output::Stream { name: StreamName::Stdout });
                    self.next_seq += 1;
                    self.check(&answer.payload);
                }
                Reply::Outcome { outcome, outputs, .. } => {
                    assert_eq!(outputs, self.next_seq);
                    return Some(outcome.end);
                }
                other => panic!("{other:?}"),
            }
        }
        None
    }
}

fn killed_daemon_in_a_print_of_100_mb_loses_no_byte_and_tells_none_twice(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let mut notebook = daemon.notebook("a");
    let mut sent = notebook.start(PRINT);
    let execution = sent.execution.clone();
    let mut checker = Checker { next: 0, next_seq: 0 };
    // Killed three times, at other places each time.
    for enough in [10_000_000, 30_000_000, 70_000_000] {
        assert_eq!(checker.take(&mut notebook, &sent, enough), None, "it ended too early");
        daemon.kill_hard();
        // What has reached our socket is ours; what was torn off comes again.
        assert_eq!(checker.take(&mut notebook, &sent, usize::MAX), None, "it ended too early");
        daemon.restart();
        notebook = daemon.notebook("a");
        sent = notebook.attach(&execution, checker.next_seq);
    }
    assert_eq!(checker.take(&mut notebook, &sent, usize::MAX), Some(End::Ok));
    assert_eq!(checker.next, 100 * LINES as usize);
}

fn killed_daemon_keeps_variables_and_queue(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let mut notebook = daemon.notebook("a");
    notebook.run("import os, time; keep = [1, 2]").ok();
    let worker = notebook.status().worker_pid;
    daemon.kill_hard();
    daemon.restart();
    let mut notebook = daemon.notebook("a");
    let ran = notebook.run("keep").ok();
    assert_eq!((ran.shape(), ran.notices()), (vec![("result", "[1, 2]".to_owned())], vec![]));
    assert_eq!(notebook.status().worker_pid, worker);

    let mut first = notebook.start("while not os.path.exists('go'): time.sleep(0.01)\nkeep.append(3)");
    let mut second = notebook.start("keep.append(4)");
    let mut third = notebook.start("print(keep)");
    for sent in [&mut first, &mut second, &mut third] {
        notebook.until_accepted(sent);
    }
    daemon.kill_hard();
    // The worker goes on while nobody is there.
    fs::write(daemon.workspace("a").join("go"), "").unwrap();
    daemon.restart();
    let mut notebook = daemon.notebook("a");
    for (sent, text) in [(third, "[1, 2, 3, 4]\n"), (first, ""), (second, "")] {
        let sent = notebook.attach(&sent.execution, 0);
        assert_eq!(notebook.finish(sent).ok().stdout(), text);
    }
    assert_eq!(notebook.status().worker_pid, worker);
}

fn what_a_dead_worker_gave_back_runs_once_however_often_the_daemon_is_killed(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let mut other = daemon.notebook("b");
    other.run("y = 7").ok();
    let mut notebook = daemon.notebook("a");
    // Its output is never read, so its shim keeps it, and with it what comes behind.
    let options = ExecuteOptions { stop_on_error: false, ..ExecuteOptions::default() };
    let mut first = notebook.start_with("print('x')\nimport time; time.sleep(60)", options.clone());
    notebook.until_accepted(&mut first);
    let mut second = notebook.start_with("with open('count', 'a') as file: file.write('once ')", options);
    notebook.until_accepted(&mut second);
    let worker = wait::within(wait::PATIENCE, || daemon.notebook("a").status().worker_pid).unwrap();
    drop(notebook);
    kill(worker);
    let mut notebook = daemon.notebook("a");
    let again = notebook.attach(&second.execution, 0);
    notebook.finish(again).ok();
    drop(notebook);
    for _ in 0..3 {
        let before = daemon.notebook("b").status().worker_pid;
        daemon.kill_hard();
        daemon.restart();
        let mut other = daemon.notebook("b");
        assert_eq!(other.run("print(y)").ok().stdout(), "7\n");
        // Its ids are its own, whatever those of an ended worker were.
        assert_eq!(other.status().worker_pid, before, "{}", daemon.log());
    }
    assert_eq!(daemon.notebook("a").run("print(open('count').read())").ok().stdout(), "once \n");
}

fn execution_sent_again_under_its_id_does_not_run_twice(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let code = "with open('count', 'a') as file: print('once', file=file)\nprint('told')";
    let mut notebook = daemon.notebook("a");
    let first = notebook.start_as("same".parse().unwrap(), code, Default::default());
    assert_eq!(notebook.finish(first).ok().stdout(), "told\n");
    let again = notebook.start_as("same".parse().unwrap(), code, Default::default());
    assert_eq!(notebook.finish(again).ok().stdout(), "told\n");
    let mut other = daemon.notebook("a");
    let elsewhere = other.start_as("same".parse().unwrap(), code, Default::default());
    assert_eq!(other.finish(elsewhere).ok().stdout(), "told\n");

    // Killed between the sending and the answer: whether it had begun or not, it runs once.
    let mut notebook = daemon.notebook("a");
    drop(notebook.start_as("torn".parse().unwrap(), code, Default::default()));
    daemon.kill_hard();
    daemon.restart();
    let mut notebook = daemon.notebook("a");
    let again = notebook.start_as("torn".parse().unwrap(), code, Default::default());
    assert_eq!(notebook.finish(again).ok().stdout(), "told\n");
    let count = fs::read_to_string(daemon.workspace("a").join("count")).unwrap();
    assert_eq!(count, "once\nonce\n");
}

fn lost_shim_ends_its_sandbox_at_once_and_the_next_cell_works(setup: Setup) {
    let daemon = Daemon::start(forgetful(setup));
    let mut bystander = daemon.notebook("bystander");
    bystander.run("y = 7").ok();
    let bystanders: Vec<_> = daemon.processes();
    let mut notebook = daemon.notebook("a");
    notebook.run("keep = 5").ok();
    let mut sent = notebook.start(
        "import subprocess, time\nfor _ in range(5): subprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
         print('up', flush=True)\ntime.sleep(1000)",
    );
    notebook.until_stdout(&mut sent, "up");
    let sandbox: Vec<_> =
        daemon.processes().into_iter().filter(|process| !bystanders.contains(process)).collect();
    assert_eq!(sandbox.iter().filter(|process| process.name == "sleep").count(), 5, "{sandbox:?}");
    let shim = sandbox.iter().find(|process| process.name == "cellblock-shim").unwrap();
    kill(shim.pid.cast_unsigned());
    let gone = wait::within(Duration::from_secs(2), || {
        (!sandbox.iter().any(|process| process.lives())).then_some(())
    });
    assert!(gone.is_some(), "the sandbox outlives its shim: {sandbox:?}");
    let ran = notebook.finish(sent);
    assert_eq!(ran.outcome.end, End::WorkerDied(Death::ShimLost));
    assert!(ran.lost().unwrap().contains(&"keep".to_owned()), "{:?}", ran.outcome);
    let next = notebook.run("'keep' in globals()").ok();
    assert_eq!(next.shape(), [("result", "False".to_owned())]);
    assert!(next.notices()[0].1.contains(&"keep".to_owned()));
    assert_eq!(bystander.run("y").ok().shape(), [("result", "7".to_owned())]);
}

fn daemon_told_to_end_leaves_its_workers_to_the_next(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting());
    let mut notebook = daemon.notebook("a");
    notebook.run("keep = 5").ok();
    notebook.client.tell(&Request::Shutdown);
    assert!(notebook.client.ends());
    daemon.wait_for_end();
    daemon.restart();
    assert_eq!(daemon.notebook("a").run("keep").ok().shape(), [("result", "5".to_owned())]);
}

fn anchor_that_is_killed_takes_its_workers_along_and_is_replaced(setup: Setup) {
    let daemon = Daemon::start(forgetful(setup));
    let (mut one, mut other) = (daemon.notebook("one"), daemon.notebook("other"));
    one.run("x = 1").ok();
    other.run("y = 1").ok();
    let (before, anchor) = (daemon.processes(), daemon.anchors().remove(0));
    kill(anchor.pid.cast_unsigned());
    // Whoever lived on would have ids and a workspace that are given to somebody else.
    wait::until("all that it held is gone", || before.iter().all(|process| !process.lives()).then_some(()));
    // Both ask for a worker at once, and one anchor has both.
    let sent = [one.start("print(6 * 7)"), other.start("print(6 * 7)")];
    for (notebook, sent) in [&mut one, &mut other].into_iter().zip(sent) {
        let ran = notebook.finish(sent).ok();
        assert_eq!((ran.stdout(), ran.notices().len()), ("42\n".to_owned(), 1), "{ran:?}");
    }
    let new = daemon.anchors();
    assert!(new.len() == 1 && new[0] != anchor, "{new:?}");
}
