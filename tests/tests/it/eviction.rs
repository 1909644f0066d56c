//! Workers that make room, and notebooks that do not notice more than a delay.

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::client::{ErrorCode, NotebookInfo, Reply, Request, WorkerState};
use cellblock_proto::execution::{Checkpointing, ExecuteOptions};
use cellblock_tests::client::Refused;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_one_mode, wait};

as_root_and_user!(
    an_idle_worker_makes_room_and_its_variables_come_back,
    a_notebook_is_open_and_pinned_until_somebody_says_otherwise,
    as_many_workers_live_as_may_and_all_notebooks_go_on,
);
in_one_mode!(
    what_cannot_be_saved_stays_or_is_told_as_its_profile_says,
    what_is_evicted_and_comes_back_is_told_and_counted,
    pin_keeps_a_worker_that_is_being_saved_to_be_evicted,
);

const SAVED: &str = "version = 1\n[checkpoints]\nwhen = 'background'\n";

fn info(notebook: &mut Notebook) -> NotebookInfo {
    notebook.status().info
}

fn evict(notebook: &mut Notebook) -> Result<Reply, Refused> {
    let request = Request::Evict { notebook: notebook.id.clone() };
    notebook.client.ask(&request)
}

fn an_idle_worker_makes_room_and_its_variables_come_back(setup: Setup) {
    let profile = format!("{SAVED}[lifecycle]\nidle_seconds = 1\n");
    let daemon = Daemon::start(setup.profile("default", &profile));
    let mut notebook = daemon.notebook("a");
    let first = notebook.run("import os; x = [1, 2]; y = x").ok();
    assert!(first.outcome.worker_ms.is_some(), "there was none before: {:?}", first.outcome);
    let pid = notebook.status().worker_pid;
    // What runs is not idle.
    notebook.run("import time; time.sleep(1.5)").ok();
    assert_eq!(notebook.status().worker_pid, pid);
    wait::until("the worker has made room", || info(&mut notebook).evicted.then_some(()));
    let told = info(&mut notebook);
    assert_eq!((told.state, told.saved_whole, told.idle_ms), (WorkerState::None, true, None));
    let back = notebook.run("y.append(3); print(x, x is y)").ok();
    assert_eq!(back.stdout(), "[1, 2, 3] True\n");
    assert!(back.outcome.worker_ms.is_some(), "{:?}", back.outcome);
    assert_eq!(back.notices(), [], "nothing was lost");
    let resident = notebook.run("x").ok();
    assert_eq!(resident.outcome.worker_ms, None);
    assert_ne!(notebook.status().worker_pid, pid);
}

fn a_notebook_is_open_and_pinned_until_somebody_says_otherwise(setup: Setup) {
    let profile = format!("{SAVED}[lifecycle]\nidle_seconds = 1\n");
    let mut daemon = Daemon::start(setup.profile("default", &profile));
    let mut kept = daemon.notebook("kept");
    kept.run("x = 7").ok();
    let pin = |pinned| Request::Pin { notebook: "kept".parse().unwrap(), pinned };
    let Ok(Reply::Notebook(told)) = kept.client.ask(&pin(true)) else { panic!("not pinned") };
    assert!(told.pinned);
    let pid = kept.status().worker_pid;
    let mut other = daemon.notebook("other");
    other.run("x = 8").ok();
    wait::until("the other one has made room", || info(&mut other).evicted.then_some(()));
    daemon.notebook("never");
    let mut ended = daemon.notebook("ended");
    ended.run("x = 9").ok();
    wait::until("it has made room", || info(&mut ended).evicted.then_some(()));
    ended.client.tell(&Request::Restart { notebook: ended.id.clone() });
    assert_eq!(kept.status().worker_pid, pid, "a pinned one stays");

    daemon.kill_hard();
    daemon.restart();
    // Nobody opens them again. Which were evicted is known, and of which that is not so.
    let mut client = daemon.client();
    wait::until("all have been found", || (client.notebooks().len() == 4).then_some(()));
    let told: Vec<_> =
        client.notebooks().iter().map(|info| (info.notebook.to_string(), info.evicted)).collect();
    let expected = [("ended", false), ("kept", false), ("never", false), ("other", true)];
    assert_eq!(told, expected.map(|(name, evicted)| (name.to_owned(), evicted)));
    let told = client.status(&"kept".parse().unwrap());
    assert_eq!((told.info.pinned, told.worker_pid), (true, pid));
    let mut other = Notebook::known(daemon.client(), "other");
    assert_eq!(other.run("print(x)").ok().stdout(), "8\n");
    let Ok(Reply::Notebook(told)) = client.ask(&pin(false)) else { panic!("still pinned") };
    assert!(!told.pinned);
    wait::until("it has made room too", || {
        client.status(&"kept".parse().unwrap()).info.evicted.then_some(())
    });
    client.ask(&Request::Close { notebook: "other".parse().unwrap() }).unwrap();
    daemon.kill_hard();
    daemon.restart();
    let unknown = daemon.client().ask(&Request::Status { notebook: "other".parse().unwrap() }).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownNotebook, "it was closed");
}

fn what_cannot_be_saved_stays_or_is_told_as_its_profile_says(setup: Setup) {
    let any = format!("{SAVED}[lifecycle]\nevict = 'any'\n");
    let daemon = Daemon::start(setup.profile("default", SAVED).profile("any", &any));
    let mut notebook = daemon.notebook("a");
    let locked = "import threading; x, lk = 1, threading.Lock()";
    notebook.run(locked).ok();
    let pid = notebook.status().worker_pid;
    let refused = evict(&mut notebook).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.contains("cannot be saved: lk"), "{}", refused.message);
    assert_eq!(notebook.status().worker_pid, pid);
    notebook.run("del lk").ok();
    assert_eq!(evict(&mut notebook), Ok(Reply::Done));
    assert_eq!(notebook.run("print(x)").ok().stdout(), "1\n");
    // What runs is not asked to go.
    let mut sent = notebook.start("import time; print('on', flush=True); time.sleep(60)");
    notebook.until_stdout(&mut sent, "on");
    let mut other = Notebook::known(daemon.client(), "a");
    assert!(evict(&mut other).unwrap_err().message.contains("something to do"));
    other.interrupt();
    notebook.finish(sent);

    let mut notebook = daemon.notebook_under("b", "any");
    notebook.run(locked).ok();
    assert_eq!(evict(&mut notebook), Ok(Reply::Done));
    let ran = notebook.run("print(x)").ok();
    assert_eq!(ran.stdout(), "1\n");
    let [(text, _)] = &ran.notices()[..] else { panic!("{ran:?}") };
    assert!(text.contains("lk (a lock)"), "{text}");
    // One that asks to be saved never, is not saved for that, and what is lost is told.
    let unsaved = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    notebook.run_with("x = 2", unsaved).ok();
    assert_eq!(evict(&mut notebook), Ok(Reply::Done));
    let ran = notebook.run("print(x)").ok();
    assert_eq!(ran.stdout(), "1\n");
    let [(text, _)] = &ran.notices()[..] else { panic!("{ran:?}") };
    assert!(text.contains("what changed since then is lost"), "{text}");
}

fn pin_keeps_a_worker_that_is_being_saved_to_be_evicted(setup: Setup) {
    let daemon = Daemon::start(setup.profile("default", SAVED));
    let mut notebook = daemon.notebook("a");
    let slow = "import time\nclass Slow:\n    def __reduce__(self):\n        time.sleep(2)\n        return (Slow, ())\nx = Slow()";
    notebook.run(slow).ok();
    let pid = notebook.status().worker_pid;
    let evict = notebook.client.send(&Request::Evict { notebook: notebook.id.clone() }, b"");
    let pin = notebook.client.send(&Request::Pin { notebook: notebook.id.clone(), pinned: true }, b"");
    assert!(matches!(notebook.client.next(pin).reply, Reply::Notebook(_)));
    let Reply::Error { code: ErrorCode::Busy, message, .. } = notebook.client.next(evict).reply else {
        panic!("it was evicted")
    };
    assert_eq!(message, "the worker was not evicted: it was pinned");
    assert_eq!(
        (notebook.status().worker_pid, notebook.run("print(type(x))").ok().stdout()),
        (pid, "<class '__main__.Slow'>\n".to_owned())
    );
}

fn as_many_workers_live_as_may_and_all_notebooks_go_on(setup: Setup) {
    let setup = setup.switch("CELLBLOCK_TEST_ROOM_PATIENCE_MS", "2000");
    let daemon = Daemon::start(setup.profile("default", SAVED).argument("--max-workers").argument("2"));
    let mut notebooks: Vec<Notebook> = (0..5).map(|at| daemon.notebook(&format!("n{at}"))).collect();
    for (at, notebook) in notebooks.iter_mut().enumerate() {
        notebook.run(&format!("x = {at}; seen = [x]")).ok();
    }
    for round in 1..3 {
        for (at, notebook) in notebooks.iter_mut().enumerate() {
            let ran = notebook.run("seen.append(x); print(seen)").ok();
            assert_eq!(ran.stdout(), format!("{:?}\n", vec![at; round + 1]));
            assert_eq!(ran.notices(), []);
        }
        let states: Vec<_> = daemon.client().notebooks().iter().map(|info| info.state).collect();
        let up = states.iter().filter(|state| **state != WorkerState::None).count();
        assert!(up <= 2, "{states:?}");
    }
    // All at work: who wants one more is told so, and when to come again.
    let mut busy: Vec<_> = Vec::new();
    for notebook in &mut notebooks[..2] {
        let mut sent = notebook.start("import time; print('on', flush=True); time.sleep(60)");
        notebook.until_stdout(&mut sent, "on");
        busy.push(sent);
    }
    let refused = notebooks[2].refused("x");
    assert_eq!(refused.code, ErrorCode::Busy, "{}", refused.message);
    for (notebook, sent) in notebooks.iter_mut().zip(busy) {
        Notebook::known(daemon.client(), notebook.id.as_str()).interrupt();
        notebook.finish(sent);
    }
    assert_eq!(notebooks[2].run("print(x)").ok().stdout(), "2\n");
}

fn what_is_evicted_and_comes_back_is_told_and_counted(setup: Setup) {
    let any = format!("{SAVED}[lifecycle]\nevict = 'any'\n");
    let daemon = Daemon::start(setup.profile("default", &any));
    let mut listener = daemon.client();
    let events = listener.send(&Request::Events { notebook: None, all: false }, &[]);
    assert_eq!(listener.next(events).reply, Reply::Listening);
    let mut notebook = daemon.notebook("a");
    for code in ["x = 1", "import threading; lock = threading.Lock()"] {
        notebook.run(code).ok();
        assert_eq!(evict(&mut notebook), Ok(Reply::Done));
        let back = notebook.run("print(x)").ok();
        assert_eq!(back.stdout(), "1\n");
        let mut evicted = None;
        let took_ms = loop {
            match listener.next(events).reply {
                Reply::Event(NotebookEvent::Evicted { reason, .. }) => evicted = Some(reason),
                Reply::Event(NotebookEvent::Returned { took_ms, .. }) => break took_ms,
                Reply::Event(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(evicted.as_deref(), Some("its owner wants it"));
        let waited_ms = back.outcome.worker_ms.unwrap();
        assert!(took_ms <= waited_ms, "{took_ms} ms of {waited_ms}");
    }
    let metrics = daemon.client().metrics();
    for line in [
        "cellblock_evictions_total 2",
        "cellblock_restores_total{result=\"whole\"} 1",
        "cellblock_restores_total{result=\"partial\"} 1",
        "cellblock_worker_ends_total{cause=\"ended\"} 2",
        "cellblock_worker_end_seconds_count 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(metrics.contains("cellblock_checkpoints_total{result=\"saved\"}"), "{metrics}");
}
