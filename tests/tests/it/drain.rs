//! The ends of cellblockd: drained, hurried, handed over.

use std::process::Command;

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::execution::Checkpoint;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_one_mode, wait};

as_root_and_user!(
    a_drained_daemon_lets_what_runs_end_and_begins_nothing,
    what_has_no_time_left_goes_on_for_the_next_daemon,
);
in_one_mode!(a_second_signal_hurries, a_daemon_that_hands_over_waits_for_nothing);

const SAVED: &str = "version = 1\n[checkpoints]\nwhen = 'background'\n";

fn signal(daemon: &Daemon, name: &str) {
    let killed = Command::new("kill").args([&format!("-{name}"), &daemon.pid().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
}

/// New work is refused from now on.
fn refuses(daemon: &Daemon, name: &str) {
    let mut operator = daemon.client();
    wait::until("it is being drained", || match operator.ask(&Request::Overview) {
        Ok(Reply::Overview(overview)) => overview.daemon.draining.then_some(()),
        other => panic!("{other:?}"),
    });
    let refused = Notebook::known(daemon.client(), name).refused("pass");
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    assert!(refused.message.contains("drained"), "{}", refused.message);
}

fn a_drained_daemon_lets_what_runs_end_and_begins_nothing(setup: Setup) {
    let mut daemon = Daemon::start(setup.profile("default", SAVED).lasting());
    let mut notebook = daemon.notebook("a");
    let code =
        "import time, os\nprint('on', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.05)\nx = 7";
    let mut sent = notebook.start(code);
    notebook.until_stdout(&mut sent, "on");
    let queued = Notebook::known(daemon.client(), "a").start("y = 8");
    let mut other = daemon.notebook("b");
    other.run("z = 9").ok();
    let mut operator = daemon.client();
    let drain = operator.send(&Request::Drain { seconds: Some(60) }, &[]);
    refuses(&daemon, "a");
    // What is known is read, and what is in the way is seen to.
    assert_eq!(other.status().info.executions, 1);
    Notebook::known(daemon.client(), "a").write_file("go", b"").unwrap();
    let ran = notebook.finish(sent).ok();
    assert!(matches!(ran.outcome.checkpoint, Some(Checkpoint::Pending)));
    let told = operator.next(drain).reply;
    assert_eq!(told, Reply::Drained { running: 0, waiting: 1, unsaved: 0 });
    assert_eq!(daemon.exit_code(), Some(0));
    daemon.restart();
    let mut notebook = Notebook::known(daemon.client(), "a");
    let sent = notebook.attach(&queued.execution, 0);
    notebook.finish(sent).ok();
    assert_eq!(notebook.run("print(x, y)").ok().stdout(), "7 8\n");
}

fn what_has_no_time_left_goes_on_for_the_next_daemon(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting().argument("--drain-seconds").argument("1"));
    let mut notebook = daemon.notebook("a");
    let mut sent = notebook.start("import time; print('on', flush=True); time.sleep(6); print('off')");
    notebook.until_stdout(&mut sent, "on");
    signal(&daemon, "TERM");
    assert_eq!(daemon.exit_code(), Some(75));
    daemon.restart();
    let mut notebook = Notebook::known(daemon.client(), "a");
    let again = notebook.attach(&sent.execution, 0);
    assert_eq!(notebook.finish(again).ok().stdout(), "on\noff\n");
}

fn a_second_signal_hurries(setup: Setup) {
    // Longer than this waits for its end.
    let mut daemon = Daemon::start(setup.lasting().argument("--drain-seconds").argument("600"));
    let mut notebook = daemon.notebook("a");
    let mut sent = notebook.start("import time; print('on', flush=True); time.sleep(600)");
    notebook.until_stdout(&mut sent, "on");
    signal(&daemon, "TERM");
    refuses(&daemon, "a");
    signal(&daemon, "TERM");
    assert_eq!(daemon.exit_code(), Some(75));
    daemon.restart();
    Notebook::known(daemon.client(), "a").interrupt();
}

fn a_daemon_that_hands_over_waits_for_nothing(setup: Setup) {
    let mut daemon = Daemon::start(setup.lasting().argument("--drain-seconds").argument("600"));
    let mut notebook = daemon.notebook("a");
    let code = "import time, os\nprint('on', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.05)\nprint('off')";
    let mut sent = notebook.start(code);
    notebook.until_stdout(&mut sent, "on");
    signal(&daemon, "HUP");
    assert_eq!(daemon.exit_code(), Some(0), "the cell runs still");
    daemon.restart();
    let mut notebook = Notebook::known(daemon.client(), "a");
    notebook.write_file("go", b"").unwrap();
    let again = notebook.attach(&sent.execution, 0);
    assert_eq!(notebook.finish(again).ok().stdout(), "on\noff\n");
}
