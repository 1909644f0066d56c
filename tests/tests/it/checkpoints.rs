//! Variables that are saved, and come back in the next worker.

use std::fs;

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::execution::{Checkpoint, Checkpointing, Death, End, ExecuteOptions};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::ran::Ran;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_every_mode, in_one_mode, leftovers, wait};
use rustix::process::{Pid, Signal, kill_process};

in_every_mode!(variables_come_back_when_the_worker_has_died);
as_root_and_user!(
    a_restart_begins_anew_and_stays_so,
    variables_outlive_their_daemon_and_a_closed_notebook,
    the_snapshot_is_the_workers_as_it_was_when_the_cell_ended,
    what_is_saved_is_out_of_the_workers_reach,
    an_outcome_that_waits_for_its_checkpoint_outlives_the_daemon,
    what_has_gone_together_with_all_who_knew_of_it_is_told_and_once,
);
in_one_mode!(
    an_execution_decides_for_itself,
    a_worker_that_may_not_fork_saves_by_itself,
    what_cannot_be_written_is_told_and_the_one_before_stays,
    forked_workers_have_checkpoints_too,
    what_ends_the_worker_that_loads_it_is_told_with_the_way_out,
    who_asks_for_a_checkpoint_where_there_is_none_is_told,
    what_has_gone_with_a_worker_is_never_told_as_saved,
    a_store_that_is_killed_while_it_hands_over_is_followed_by_another,
    what_is_saved_is_not_told_as_lost_by_a_daemon_that_comes_while_it_is_loaded,
);

fn with(setup: Setup, when: &str) -> Daemon {
    Daemon::start(setup.profile("default", &format!("version = 1\ncheckpoints.when = '{when}'\n")))
}

fn die(notebook: &mut Notebook) {
    let ran = notebook.run("import os; os._exit(7)");
    assert_eq!(ran.outcome.end, End::WorkerDied(Death::Exited { code: 7 }));
}

fn saved(ran: &Ran) -> u64 {
    match ran.outcome.checkpoint {
        Some(Checkpoint::Saved { id, .. } | Checkpoint::Partial { id, .. }) => id,
        ref other => panic!("not saved: {other:?}"),
    }
}

/// Something of each kind that must stay what it is.
const CELL: &str = "import threading
x, a = 41, [1, 2]
b, lock = a, threading.Lock()
def f(): return x + 1
class Own:
    def twice(self): return 2 * self.value
own = Own(); own.value = 21";

const LOOK: &str = "x += 1; b.append(3)
print(x, f(), a, a is b, own.twice(), isinstance(own, Own), 'lock' in globals())";

fn variables_come_back_when_the_worker_has_died(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    assert_eq!(saved(&notebook.run(CELL).ok()), 1);
    let Some(Checkpoint::Partial { id, written_bytes, .. }) = notebook.run("y = 1").ok().outcome.checkpoint
    else {
        panic!("not saved")
    };
    assert!(id == 2 && written_bytes < 20_000, "{id} {written_bytes}");
    die(&mut notebook);
    let ran = notebook.run(LOOK).ok();
    assert_eq!(ran.stdout(), "42 43 [1, 2, 3] True 42 True False\n");
    // What the worker has put in the place of a function stays in that place.
    notebook.run("import os, getpass; ask, leave, secret = input, os._exit, getpass.getpass").ok();
    die(&mut notebook);
    let same = "import os, getpass\nprint(ask is input, leave is os._exit, secret is getpass.getpass)";
    assert_eq!(notebook.run(same).ok().stdout(), "True True True\n");
    // What comes by chance goes on where it was.
    let drawn = notebook.run("import random; random.seed(7); y = random.random()").ok();
    assert!(saved(&drawn) > 2);
    die(&mut notebook);
    let drawn = notebook.run("print(round(random.random(), 4), round(y, 4))").ok();
    assert_eq!(drawn.stdout(), "0.1508 0.3238\n");
    let [(text, names)] = &ran.notices()[..] else { panic!("{ran:?}") };
    assert!(text.contains("exited with code 7") && text.contains("back from the last checkpoint"), "{text}");
    assert_eq!(names, &["lock"]);
    // What has come back is known by name.
    let added = notebook.run("z = 1").ok().outcome.names.added;
    assert_eq!(added.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["z"]);
}

fn a_restart_begins_anew_and_stays_so(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1").ok();
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    assert_eq!(notebook.run("print('x' in globals())").ok().stdout(), "False\n");
    die(&mut notebook);
    assert_eq!(notebook.run("print('x' in globals())").ok().stdout(), "False\n");
}

fn variables_outlive_their_daemon_and_a_closed_notebook(setup: Setup) {
    let mut daemon = with(setup.lasting(), "background");
    let mut notebook = daemon.notebook("a");
    let ran = notebook.run("x = [1]").ok();
    assert_eq!(ran.outcome.checkpoint, Some(Checkpoint::Pending));
    let head = daemon.state_dir().join("notebooks/a/checkpoints/HEAD");
    wait::until("a checkpoint", || head.exists().then_some(()));
    daemon.kill_hard();
    daemon.restart();
    let mut notebook = daemon.notebook("a");
    let ran = notebook.run_with("x.append(2)", wait_for_it());
    assert!(saved(&ran.ok()) > 1);
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Close { notebook: id });
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("print(x)").ok().stdout(), "[1, 2]\n");
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Delete { notebook: id });
    assert!(!head.exists());
}

fn wait_for_it() -> ExecuteOptions {
    ExecuteOptions { checkpoint: Some(Checkpointing::Wait), ..ExecuteOptions::default() }
}

fn the_snapshot_is_the_workers_as_it_was_when_the_cell_ended(setup: Setup) {
    let daemon = with(setup, "background");
    let mut notebook = daemon.notebook("a");
    // Sent together: the second runs while the first is saved, and ends the worker before it is saved itself.
    let first = notebook.start("data = [0] * 200_000; state = 'first'");
    let end = "import os, time\nstate = 'second'\ntry: print('up'); time.sleep(60)\nexcept KeyboardInterrupt: os._exit(7)";
    let mut second = notebook.start(end);
    notebook.finish(first).ok();
    notebook.until_stdout(&mut second, "up");
    let head = daemon.state_dir().join("notebooks/a/checkpoints/HEAD");
    wait::until("the first's checkpoint", || head.exists().then_some(()));
    notebook.interrupt();
    notebook.finish(second);
    assert_eq!(notebook.run("print(state, len(data))").ok().stdout(), "first 200000\n");
    // A cell can wait for its children, of which it has none.
    let ran = notebook.run("import os\ntry: os.wait()\nexcept ChildProcessError: print('none')");
    assert_eq!(ran.ok().stdout(), "none\n");
}

fn an_execution_decides_for_itself(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1").ok();
    assert_eq!(notebook.run_with("x = 2", none()).ok().outcome.checkpoint, None);
    die(&mut notebook);
    assert_eq!(notebook.run("print(x)").ok().stdout(), "1\n");
    // A cell that fails has changed things too.
    let ran = notebook.run("x = 3; 1 / 0");
    assert!(saved(&ran) > 1);
    die(&mut notebook);
    assert_eq!(notebook.run("print(x)").ok().stdout(), "3\n");
}

fn a_worker_that_may_not_fork_saves_by_itself(setup: Setup) {
    let profile = "version = 1\ncheckpoints.when = 'wait'\n";
    let daemon = Daemon::start(setup.profile("default", profile));
    let mut notebook = daemon.notebook("a");
    // Another thread of the user's: a fork would copy it in the middle of what it does.
    let code =
        "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait).start()\nx = 5";
    assert_eq!(saved(&notebook.run(code).ok()), 1);
    notebook.run("stop.set()").ok();
    die(&mut notebook);
    assert_eq!(notebook.run("print(x)").ok().stdout(), "5\n");
}

fn what_cannot_be_written_is_told_and_the_one_before_stays(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1").ok();
    let folder = daemon.state_dir().join("notebooks/a/checkpoints");
    // Another version's, as after a downgrade.
    let format = folder.join("FORMAT");
    let before = fs::read(&format).unwrap();
    fs::write(&format, "cellblock checkpoints 2\n").unwrap();
    let ran = notebook.run("x = 2").ok();
    let Some(Checkpoint::Failed { reason }) = &ran.outcome.checkpoint else { panic!("{ran:?}") };
    assert!(reason.contains("format `2`") && reason.contains("newer cellblock"), "{reason}");
    // Where nobody waits for it, the next cell is told.
    let background =
        ExecuteOptions { checkpoint: Some(Checkpointing::Background), ..ExecuteOptions::default() };
    notebook.run_with("x = 3", background).ok();
    let told = wait::within(wait::PATIENCE, || {
        notebook.run_with("pass", none()).ok().notices().into_iter().next().map(|(text, _)| text)
    });
    let told = told.expect("a notice");
    assert!(told.starts_with("the variables were not saved") && told.contains("newer cellblock"), "{told}");
    fs::write(&format, before).unwrap();
    die(&mut notebook);
    assert_eq!(notebook.run("print(x)").ok().stdout(), "1\n");
}

fn forked_workers_have_checkpoints_too(setup: Setup) {
    let profile = "version = 1\nwarm_start = 'zygote'\npreload = []\nspares = 2\ncheckpoints.when = 'wait'\n";
    let daemon = Daemon::start(setup.warm().profile("default", profile));
    daemon.warmed("default");
    let mut notebook = daemon.notebook("a");
    notebook.run(CELL).ok();
    die(&mut notebook);
    assert_eq!(notebook.run(LOOK).ok().stdout(), "42 43 [1, 2, 3] True 42 True False\n");
    assert_eq!(notebook.status().report.unwrap().start, sandbox_profiles::Start::Zygote);
}

fn what_is_saved_is_out_of_the_workers_reach(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    // Code of the user's that runs while the variables are loaded, when the packs are open. It is the worker's own
    // variable `tried` that tells what it could do.
    let code = "import numpy as np
big = np.arange(300_000.0)
def attack(*_):
    import os, stat
    done = []
    for name in os.listdir('/proc/self/fd'):
        fd = int(name)
        try:
            if fd < 6 or not stat.S_ISREG(os.fstat(fd).st_mode) or os.readlink(f'/proc/self/fd/{fd}').startswith('/memfd'):
                continue
        except OSError:
            continue
        for what, act in (
            ('write', lambda: os.pwrite(fd, b'x', 4096)), ('chmod', lambda: os.fchmod(fd, 0o666)),
            ('truncate', lambda: os.ftruncate(fd, 0)), ('times', lambda: os.utime(fd)),
            ('again', lambda: os.open(f'/proc/self/fd/{fd}', os.O_RDWR)),
        ):
            try:
                act()
                done.append(what)
            except OSError:
                done.append('no')
    return done
class Tried:
    def __reduce__(self): return attack, ()
tried = Tried()";
    if notebook.run("import numpy").raised().is_some() {
        return cellblock_tests::setup::skip("this Python has no numpy");
    }
    notebook.run(code).ok();
    let folder = daemon.state_dir().join("notebooks/a/checkpoints/packs");
    let sizes = || -> Vec<u64> {
        let mut found: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        found.sort_unstable();
        found
    };
    let before = sizes();
    die(&mut notebook);
    let told =
        notebook.run_with("print(sorted(set(tried)), len(tried) > 0, big.sum())", none()).ok().stdout();
    assert_eq!(told, "['no'] True 44999850000.0\n");
    assert_eq!(sizes(), before);
}

fn none() -> ExecuteOptions {
    ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() }
}

fn an_outcome_that_waits_for_its_checkpoint_outlives_the_daemon(setup: Setup) {
    let mut daemon = with(setup.lasting(), "wait");
    let mut notebook = daemon.notebook("a");
    notebook.run("import os").ok();
    let mut sent = notebook.start("data = os.urandom(150_000_000)");
    notebook.until_accepted(&mut sent);
    let packs = daemon.state_dir().join("notebooks/a/checkpoints/packs");
    let being_written = || {
        let mut names = fs::read_dir(&packs).unwrap().map(|file| file.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with('.')).then_some(())
    };
    wait::until("a pack that is being written", being_written);
    daemon.kill_hard();
    daemon.restart();
    let mut notebook = daemon.notebook("a");
    let again = notebook.attach(&sent.execution, 0);
    assert!(saved(&notebook.finish(again).ok()) > 1);
    die(&mut notebook);
    assert_eq!(notebook.run("print(len(data))").ok().stdout(), "150000000\n");
}

fn what_ends_the_worker_that_loads_it_is_told_with_the_way_out(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    let code = "def end(): import os; os._exit(9)\nclass Trap:\n    def __reduce__(self): return end, ()\ntrap = Trap()";
    notebook.run(code).ok();
    die(&mut notebook);
    let refused = notebook.refused("1");
    let told = "load the saved variables: the worker ended (exit code 9); restore another checkpoint, or";
    assert!(refused.message.contains(told), "{}", refused.message);
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    assert_eq!(notebook.run("print('trap' in globals())").ok().stdout(), "False\n");
}

fn who_asks_for_a_checkpoint_where_there_is_none_is_told(setup: Setup) {
    let daemon = with(setup, "none");
    let ran = daemon.notebook("a").run_with("x = 1", wait_for_it()).ok();
    let Some(Checkpoint::Failed { reason }) = &ran.outcome.checkpoint else { panic!("{ran:?}") };
    assert!(reason.contains("set `when`"), "{reason}");
}

fn what_has_gone_with_a_worker_is_never_told_as_saved(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1").ok();
    notebook.run_with("y = 2", none()).ok();
    die(&mut notebook);
    let save = Request::Checkpoint { notebook: notebook.id.clone() };
    // The newest checkpoint is not what the worker had.
    let refused = notebook.client.ask(&save).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Checkpoint);
    assert!(refused.message.contains("the worker has ended"), "{}", refused.message);
    assert_eq!(notebook.run_with("print(x, 'y' in globals())", none()).ok().stdout(), "1 False\n");
    let Ok(Reply::Checkpoint(Checkpoint::Saved { .. })) = notebook.client.ask(&save) else { panic!() };
    notebook.client.tell(&Request::Restart { notebook: notebook.id.clone() });
    // Nothing is lost that anybody wanted.
    let Ok(Reply::Checkpoint(Checkpoint::Saved { .. })) = notebook.client.ask(&save) else { panic!() };
}

fn what_has_gone_together_with_all_who_knew_of_it_is_told_and_once(setup: Setup) {
    let mut daemon = with(setup.lasting(), "background");
    let mut all_are_killed = || {
        daemon.kill_hard();
        for shim in daemon.processes_named("cellblock-shim") {
            // Their anchor too, which may end the others first.
            let _ = kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL);
        }
        wait::until("all are gone", || daemon.processes().is_empty().then_some(()));
        daemon.restart();
        daemon.notebook("a")
    };
    let mut notebook = all_are_killed();
    let told = |ran: &Ran| ran.notices().into_iter().map(|(text, _)| text).collect::<Vec<_>>();
    saved(&notebook.run_with("x = 1", wait_for_it()).ok());
    let unsaved = notebook.start_as("unsaved".parse().unwrap(), "x = 2", none());
    notebook.finish(unsaved).ok();

    let mut notebook = all_are_killed();
    let save = Request::Checkpoint { notebook: notebook.id.clone() };
    let refused = notebook.client.ask(&save).unwrap_err();
    assert!(refused.message.contains("those of unsaved; "), "{}", refused.message);
    let ran = notebook.run_with("print(x)", none()).ok();
    assert_eq!(ran.stdout(), "1\n");
    let lost = "; what changed since then is lost, by execution unsaved";
    assert!(matches!(&told(&ran)[..], [text] if text.ends_with(lost)), "{:?}", told(&ran));

    // Told once, and what was saved behind an Outcome is no loss.
    let saving = ExecuteOptions { checkpoint: Some(Checkpointing::Background), ..ExecuteOptions::default() };
    let ran = notebook.run_with("x += 1", saving).ok();
    assert_eq!(ran.outcome.checkpoint, Some(Checkpoint::Pending));
    let Ok(Reply::Checkpoint(Checkpoint::Saved { .. })) = notebook.client.ask(&save) else { panic!() };
    let mut notebook = all_are_killed();
    let ran = notebook.run_with("print(x)", none()).ok();
    assert_eq!((ran.stdout(), told(&ran)), ("2\n".to_owned(), Vec::new()));
}

fn what_is_saved_is_not_told_as_lost_by_a_daemon_that_comes_while_it_is_loaded(setup: Setup) {
    let mut daemon = with(setup.lasting(), "background");
    // Its checkpoint is written when there is nobody to hear of it, and takes a while to load.
    let code = "def load():\n    import time\n    open('loads', 'w').close()\n    time.sleep(2)\n    return 7\n\
                class Slow:\n    def __reduce__(self):\n        import time\n        time.sleep(1)\n        return load, ()\n\
                x = Slow()";
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run(code).ok().outcome.checkpoint, Some(Checkpoint::Pending));
    daemon.kill_hard();
    let head = daemon.state_dir().join("notebooks/a/checkpoints/HEAD");
    wait::until("a checkpoint", || head.exists().then_some(()));
    for shim in daemon.processes_named("cellblock-shim") {
        let _ = kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL);
    }
    wait::until("all are gone", || daemon.processes().is_empty().then_some(()));
    daemon.restart();
    let mut notebook = daemon.notebook("a");
    drop(notebook.start("1"));
    let is_loading = |process: &leftovers::Process| {
        fs::exists(format!("/proc/{}/root/workspace/loads", process.pid)).unwrap_or(false)
    };
    wait::until("it is being loaded", || daemon.processes().iter().any(is_loading).then_some(()));
    daemon.kill_hard();
    daemon.restart();
    let ran = daemon.notebook("a").run("print(x)").ok();
    assert_eq!((ran.stdout(), ran.notices()), ("7\n".to_owned(), Vec::new()));
}

fn a_store_that_is_killed_while_it_hands_over_is_followed_by_another(setup: Setup) {
    let daemon = with(setup, "wait");
    let mut notebook = daemon.notebook("a");
    // So much that it takes a while to read.
    saved(&notebook.run("x = 'x' * 50_000_000").ok());
    let anchor = daemon.anchors()[0].pid;
    let is_store = |process: &leftovers::Process| {
        let words = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        words.ends_with(b"--store\0")
    };
    let killer = std::thread::spawn(move || {
        let store =
            wait::until("a store reads", || leftovers::descendants(anchor).into_iter().find(is_store));
        kill_process(Pid::from_raw(store.pid).unwrap(), Signal::KILL).unwrap();
    });
    die(&mut notebook);
    let ran = notebook.run("print(len(x))").ok();
    killer.join().unwrap();
    assert_eq!(ran.stdout(), "50000000\n");
}
