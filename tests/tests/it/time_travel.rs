//! Checkpoints as tools: other states of a notebook, copies of it, and what is kept.

use std::fs;
use std::path::PathBuf;

use cellblock_proto::checkpoint::{CheckpointContent, CheckpointInfo, Collected, Keep, NotebookEvent};
use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::execution::{Checkpoint, Checkpointing, Death, End, ExecuteOptions, Variables};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_every_mode, in_one_mode, wait};

in_every_mode!(any_kept_state_can_be_had_back_and_left_again);
as_root_and_user!(
    a_notebook_is_forked_from_a_checkpoint,
    an_exported_checkpoint_is_imported_elsewhere_and_a_changed_file_is_not,
    a_transaction_that_fails_leaves_no_trace,
    what_is_damaged_on_the_disk_is_not_gone_on_with,
    a_cleared_notebook_has_no_checkpoints,
);
in_one_mode!(
    a_transaction_begins_with_all_that_there_is,
    a_transaction_where_nothing_can_be_saved_does_not_begin,
    whoever_asks_has_it_saved_and_whoever_listens_is_told,
    what_is_not_kept_any_more_goes,
    the_end_waits_for_what_is_being_saved,
    a_checkpoint_that_is_not_there_ends_no_worker,
    spares_are_claimed_with_checkpoints,
    what_was_not_saved_is_told_as_gone,
    what_is_being_saved_outlives_its_worker,
    what_is_not_to_be_saved_is_not_saved_with_what_is,
    a_damaged_stream_is_passed_over,
    who_does_not_read_an_export_holds_nobody_up,
);

fn with(setup: Setup, table: &str) -> Daemon {
    Daemon::start(setup.profile("default", &format!("version = 1\n[checkpoints]\n{table}\n")))
}

fn waiting(setup: Setup) -> Daemon {
    with(setup, "when = 'wait'")
}

fn die(notebook: &mut Notebook) {
    let ran = notebook.run("import os; os._exit(7)");
    assert_eq!(ran.outcome.end, End::WorkerDied(Death::Exited { code: 7 }));
}

fn print(notebook: &mut Notebook, what: &str) -> String {
    let options = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    notebook.run_with(&format!("print({what}, end='')"), options).ok().stdout()
}

fn ask(notebook: &mut Notebook, request: impl FnOnce(cellblock_proto::id::NotebookId) -> Request) -> Reply {
    let request = request(notebook.id.clone());
    notebook.client.ask(&request).unwrap_or_else(|refused| panic!("{refused:?}"))
}

fn checkpoints(notebook: &mut Notebook) -> Vec<CheckpointInfo> {
    match ask(notebook, |notebook| Request::Checkpoints { notebook }) {
        Reply::Checkpoints { checkpoints, .. } => checkpoints,
        other => panic!("{other:?}"),
    }
}

fn restore(notebook: &mut Notebook, checkpoint: u64) -> Vec<String> {
    match ask(notebook, |notebook| Request::Restore { notebook, checkpoint: Some(checkpoint) }) {
        Reply::Restored { checkpoint: found, names, losses } => {
            assert_eq!((found, losses), (checkpoint, Vec::new()));
            names.into_iter().map(|info| info.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn any_kept_state_can_be_had_back_and_left_again(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("a = [1]; b = a").ok();
    notebook.run("a.append(2)\ndef f(): return len(a)").ok();
    notebook.run("del b; c = 3").ok();
    assert_eq!(restore(&mut notebook, 1), ["a", "b"]);
    assert_eq!(print(&mut notebook, "a, a is b, 'f' in globals()"), "[1] True False");
    // From here on another way, which has the one gone back to as its beginning.
    notebook.run("a.append('other')").ok();
    let infos = checkpoints(&mut notebook);
    let parents: Vec<_> = infos.iter().map(|info| (info.id, info.parent, info.current)).collect();
    assert_eq!(parents, [(1, None, false), (2, Some(1), false), (3, Some(2), false), (4, Some(1), true)]);
    assert_eq!(restore(&mut notebook, 3), ["a", "c", "f"]);
    assert_eq!(print(&mut notebook, "a, f(), c, 'b' in globals()"), "[1, 2] 2 3 False");
    restore(&mut notebook, 4);
    die(&mut notebook);
    assert_eq!(print(&mut notebook, "a, a is b"), "[1, 'other'] True");
    let content = ask(&mut notebook, |notebook| Request::CheckpointContent { notebook, checkpoint: Some(2) });
    let Reply::CheckpointContent(CheckpointContent { info, names, left_out, .. }) = content else { panic!() };
    let names: Vec<_> = names.iter().map(|info| info.name.as_str()).collect();
    assert_eq!((names, left_out, info.names), (vec!["a", "b", "f"], Vec::new(), 3));
}

fn a_checkpoint_that_is_not_there_ends_no_worker(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("import os; x = os.getpid()").ok();
    let id = notebook.id.clone();
    let asked = Request::Restore { notebook: id, checkpoint: Some(9) };
    let refused = notebook.client.ask(&asked).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.contains("no checkpoint 9")),
        (ErrorCode::Checkpoint, true),
        "{refused:?}"
    );
    assert_eq!(print(&mut notebook, "x == os.getpid()"), "True");
}

fn a_notebook_is_forked_from_a_checkpoint(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("import array\ndata = array.array('d', range(200_000)); x = 1").ok();
    notebook.run("x = 2").ok();
    let to: cellblock_proto::id::NotebookId = "what-if".parse().unwrap();
    let fork = |checkpoint, to| move |notebook| Request::Fork { notebook, checkpoint, to };
    assert!(matches!(ask(&mut notebook, fork(Some(1), to.clone())), Reply::Notebook(_)));
    let mut forked = daemon.notebook("what-if");
    forked.run("data[0] = -1.0").ok();
    assert_eq!(print(&mut forked, "x, sum(data)"), "1 19999899999.0");
    assert_eq!(print(&mut notebook, "x, data[0]"), "2 0.0");
    let id = notebook.id.clone();
    let again = notebook.client.ask(&Request::Fork { notebook: id, checkpoint: None, to }).unwrap_err();
    assert!(again.message.contains("there is a notebook \"what-if\" already"), "{again:?}");
    // Of one that cannot be had nothing is made.
    let id = notebook.id.clone();
    let to = "nothing".parse().unwrap();
    notebook.client.ask(&Request::Fork { notebook: id, checkpoint: Some(99), to }).unwrap_err();
    assert!(!daemon.state_dir().join("notebooks/nothing").exists());
}

fn export(notebook: &mut Notebook) -> Vec<u8> {
    let request = Request::ExportCheckpoint { notebook: notebook.id.clone(), checkpoint: None };
    let request = notebook.client.send(&request, &[]);
    let mut file = Vec::new();
    loop {
        let answer = notebook.client.next(request);
        match answer.reply {
            Reply::Part => file.extend(answer.payload),
            Reply::Done => return file,
            other => panic!("{other:?}"),
        }
    }
}

fn import(notebook: &mut Notebook, file: &[u8]) -> Result<u64, String> {
    let parts: Vec<_> = file.chunks(100_000).collect();
    for (number, part) in parts.iter().enumerate() {
        let (offset, last) = (number as u64 * 100_000, number + 1 == parts.len());
        let request = Request::ImportCheckpoint { notebook: notebook.id.clone(), offset, last };
        match notebook.client.ask_about(&request, part).map(|answer| answer.reply) {
            Ok(Reply::Done) if !last => {}
            Ok(Reply::Imported { checkpoint }) if last => return Ok(checkpoint),
            Err(refused) => return Err(refused.message),
            other => panic!("{other:?}"),
        }
    }
    panic!("no last part");
}

fn an_exported_checkpoint_is_imported_elsewhere_and_a_changed_file_is_not(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("import os\ndata = os.urandom(400_000); x = 'from a'").ok();
    let file = export(&mut notebook);
    assert!(file.len() > 400_000, "{}", file.len());
    let mut other = daemon.notebook("b");
    let mut changed = file.clone();
    changed[file.len() / 2] ^= 1;
    let why = import(&mut other, &changed).unwrap_err();
    assert!(why.contains("damaged") || why.contains("whole"), "{why}");
    assert!(
        import(&mut other, &file[..file.len() - 1]).unwrap_err().contains("not a whole exported checkpoint")
    );
    assert!(import(&mut other, b"PK\x03\x04 something else").unwrap_err().contains("not a whole exported"));
    assert_eq!(checkpoints(&mut other), []);
    // Out of order.
    let request = Request::ImportCheckpoint { notebook: other.id.clone(), offset: 77, last: false };
    let refused = other.client.ask_about(&request, b"x").unwrap_err();
    assert!(refused.message.contains("begins at byte 77"), "{refused:?}");
    assert_eq!(import(&mut other, &file), Ok(1));
    assert_eq!(print(&mut other, "x, len(data)"), "from a 400000");
    assert_eq!(checkpoints(&mut other)[0].origin, Some(("a".to_owned(), 1)));
    // Where there is one, it waits to be restored.
    other.run("x = 'of b'").ok();
    let id = import(&mut other, &file).unwrap();
    assert_eq!(print(&mut other, "x"), "of b");
    restore(&mut other, id);
    assert_eq!(print(&mut other, "x"), "from a");
    assert!(!daemon.state_dir().join("notebooks/b/import").exists());
}

fn transaction() -> ExecuteOptions {
    ExecuteOptions { transactional: true, ..ExecuteOptions::default() }
}

fn a_transaction_that_fails_leaves_no_trace(setup: Setup) {
    let daemon = with(setup, "when = 'background'");
    let mut notebook = daemon.notebook("a");
    // Of nothing at all, too.
    let ran = notebook.run_with("x = 1; 1 / 0", transaction());
    assert_eq!(ran.outcome.variables, Variables::RolledBack);
    assert_eq!(print(&mut notebook, "'x' in globals()"), "False");
    notebook.run("a = [1, {'k': 2}]; b = a[1]").ok();
    let ran = notebook.run_with("a.append(3); b['k'] = 4; del b; c = 5; 1 / 0", transaction());
    assert_eq!((ran.raised(), &ran.outcome.variables), (Some("ZeroDivisionError"), &Variables::RolledBack));
    assert_eq!(ran.outcome.checkpoint, None);
    let ran = notebook.run("print(a, b is a[1], 'c' in globals())").ok();
    assert_eq!((ran.stdout(), ran.notices()), ("[1, {'k': 2}] True False\n".into(), Vec::new()));
    // One that succeeds stays; one that takes its worker along does not.
    assert_eq!(notebook.run_with("a.append(6)", transaction()).ok().outcome.variables, Variables::Kept);
    let ran = notebook.run_with("import os; a.append(7); os._exit(7)", transaction());
    assert_eq!(ran.outcome.variables, Variables::RolledBack);
    assert_eq!(print(&mut notebook, "a"), "[1, {'k': 2}, 6]");
    // What waits behind it begins with what was before.
    let options = ExecuteOptions { stop_on_error: false, ..transaction() };
    let first = notebook.start_with("a.append(8); 1 / 0", options);
    let second = notebook.start("print(a)");
    notebook.finish(first);
    assert_eq!(notebook.finish(second).ok().stdout(), "[1, {'k': 2}, 6]\n");
}

fn a_transaction_begins_with_all_that_there_is(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    let none = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    notebook.run_with("x = 1", none.clone()).ok();
    notebook.run_with("x += 1; 1 / 0", transaction());
    assert_eq!(print(&mut notebook, "x"), "1");
    // And a restart is a state like any other.
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    notebook.run_with("y = 1; 1 / 0", transaction());
    assert_eq!(print(&mut notebook, "'x' in globals(), 'y' in globals()"), "False False");
}

fn a_transaction_where_nothing_can_be_saved_does_not_begin(setup: Setup) {
    let daemon = with(setup, "when = 'none'");
    let ran = daemon.notebook("a").run_with("x = 1", transaction());
    let End::Cancelled { reason } = &ran.outcome.end else { panic!("{ran:?}") };
    assert!(reason.contains("transactional") && reason.contains("[checkpoints]"), "{reason}");
    let id = daemon.notebook("a").id.clone();
    let refused = daemon.client().ask(&Request::Restore { notebook: id, checkpoint: None }).unwrap_err();
    assert!(refused.message.contains("[checkpoints]"), "{refused:?}");
}

fn whoever_asks_has_it_saved_and_whoever_listens_is_told(setup: Setup) {
    let daemon = with(setup, "when = 'background'");
    let mut notebook = daemon.notebook("a");
    let mut listener = daemon.client();
    let events = listener.send(&Request::Events { notebook: Some(notebook.id.clone()), all: false }, &[]);
    assert_eq!(listener.next(events).reply, Reply::Listening);
    let none = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    notebook.run_with("import threading; x, lock = 1, threading.Lock()", none).ok();
    let asked = ask(&mut notebook, |notebook| Request::Checkpoint { notebook });
    let Reply::Checkpoint(Checkpoint::Partial { id: 1, left_out, left_out_count: 1, .. }) = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(left_out[0].path, "lock");
    assert!(!left_out[0].reason.is_empty() && left_out[0].kind.contains("lock"), "{left_out:?}");
    let sent = notebook.start("del lock");
    let asked = sent.execution.clone();
    assert_eq!(notebook.finish(sent).ok().outcome.checkpoint, Some(Checkpoint::Pending));
    let (execution, checkpoint) = loop {
        match listener.next(events).reply {
            Reply::Event(NotebookEvent::Checkpoint { execution, checkpoint, .. }) => {
                break (execution, checkpoint);
            }
            // What else has happened.
            Reply::Event(_) => {}
            told => panic!("{told:?}"),
        }
    };
    assert_eq!(execution, asked);
    assert!(matches!(checkpoint, Checkpoint::Saved { id: 2, .. }), "{checkpoint:?}");
    // Without a worker it is the newest that is asked for.
    die(&mut notebook);
    let asked = ask(&mut notebook, |notebook| Request::Checkpoint { notebook });
    assert!(matches!(asked, Reply::Checkpoint(Checkpoint::Saved { id: 2, .. })), "{asked:?}");
}

fn what_is_not_kept_any_more_goes(setup: Setup) {
    let daemon = with(setup, "when = 'wait'\nkeep_last = 2\nkeep_daily = 0");
    let mut notebook = daemon.notebook("a");
    notebook.run("import os").ok();
    for _ in 0..20 {
        notebook.run("data = os.urandom(300_000)").ok();
    }
    let kept =
        wait::within(wait::PATIENCE, || Some(checkpoints(&mut notebook).len()).filter(|kept| *kept < 8));
    assert!(kept.is_some(), "{:?}", checkpoints(&mut notebook));
    let keep = Some(Keep { last: 1, daily: 0, max_bytes: 1 << 30 });
    let asked = ask(&mut notebook, |notebook| Request::CollectCheckpoints { notebook, keep });
    let Reply::Collected(Collected { removed, used_bytes, damage, .. }) = asked else { panic!("{asked:?}") };
    assert!(!removed.is_empty() && used_bytes < 500_000 && damage.is_empty(), "{removed:?} {used_bytes}");
    assert_eq!(checkpoints(&mut notebook).iter().map(|info| info.id).collect::<Vec<_>>(), [21]);
    die(&mut notebook);
    assert_eq!(print(&mut notebook, "len(data)"), "300000");
}

fn packs(daemon: &Daemon) -> Vec<PathBuf> {
    let packs = daemon.state_dir().join("notebooks/a/checkpoints/packs");
    let mut found: Vec<_> = fs::read_dir(packs).unwrap().map(|file| file.unwrap().path()).collect();
    found.sort();
    found
}

fn what_is_damaged_on_the_disk_is_not_gone_on_with(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    if notebook.run("import numpy as np").raised().is_some() {
        return cellblock_tests::setup::skip("this Python has no numpy");
    }
    notebook.run("x = 1").ok();
    notebook.run("big = np.arange(200_000.0); x = 2").ok();
    die(&mut notebook);
    let pack = packs(&daemon).pop().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    // In the middle of an array: such bytes are mapped, and not read before.
    bytes[400_000] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    let asked = ask(&mut notebook, |notebook| Request::VerifyCheckpoints { notebook, checkpoint: None });
    let Reply::Verified { checkpoints } = asked else { panic!("{asked:?}") };
    let losses: Vec<_> = checkpoints.iter().map(|found| (found.id, found.losses.len())).collect();
    assert_eq!(losses, [(1, 0), (2, 0), (3, 1)], "{checkpoints:?}");
    // The worker has it for as long as it takes to read it once.
    let none = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    let ran = notebook.run_with("import time; time.sleep(60)", none);
    let End::WorkerDied(Death::Ended { reason }) = &ran.outcome.end else { panic!("{ran:?}") };
    assert!(reason.contains("damaged on the disk"), "{reason}");
    let ran = notebook.run("print(x, 'big' in globals())").ok();
    assert_eq!(ran.stdout(), "1 False\n");
    let [(text, _)] = &ran.notices()[..] else { panic!("{ran:?}") };
    assert!(text.contains("checkpoint 2") && text.contains("damaged"), "{text}");
}

fn a_cleared_notebook_has_no_checkpoints(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1; open('file', 'w').close()").ok();
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Clear { notebook: id });
    assert_eq!(checkpoints(&mut notebook), []);
    assert_eq!(print(&mut notebook, "'x' in globals(), __import__('os').path.exists('file')"), "False True");
    // And can begin anew.
    notebook.run("y = 2").ok();
    die(&mut notebook);
    assert_eq!(print(&mut notebook, "y"), "2");
}

fn the_end_waits_for_what_is_being_saved(setup: Setup) {
    let daemon = with(setup.lasting(), "when = 'background'");
    let mut notebook = daemon.notebook("a");
    notebook.run("import os\ndata = os.urandom(60_000_000)").ok();
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Close { notebook: id });
    let mut notebook = daemon.notebook("a");
    assert_eq!(print(&mut notebook, "len(data)"), "60000000");
}

fn what_is_being_saved_outlives_its_worker(setup: Setup) {
    let daemon = with(setup, "when = 'background'");
    let mut notebook = daemon.notebook("a");
    for round in 0..5 {
        // Sent together: the worker dies as soon as it can.
        let first = notebook.start(&format!("import os; data = os.urandom(10_000_000); x = {round}"));
        let second = notebook.start("os._exit(7)");
        notebook.finish(first).ok();
        let ran = notebook.finish(second);
        assert_eq!(ran.outcome.end, End::WorkerDied(Death::Exited { code: 7 }));
        assert_eq!(print(&mut notebook, "x, len(data)"), format!("{round} 10000000"));
    }
}

fn what_is_not_to_be_saved_is_not_saved_with_what_is(setup: Setup) {
    let daemon = with(setup, "when = 'background'");
    let mut notebook = daemon.notebook("a");
    let none = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    for round in 0..5 {
        let sent = [
            notebook.start("import os; data = os.urandom(10_000_000); x = 1"),
            notebook.start(&format!("x = 2; round = {round}")),
            notebook.start_with("x = 3", none.clone()),
        ];
        sent.into_iter().for_each(|sent| drop(notebook.finish(sent).ok()));
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Close { notebook: id });
        notebook = daemon.notebook("a");
        assert_eq!(print(&mut notebook, "x, round"), format!("2 {round}"));
    }
}

fn what_was_not_saved_is_told_as_gone(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1").ok();
    let none = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    let sent = notebook.start_with("x = 2", none);
    let unsaved = sent.execution.to_string();
    notebook.finish(sent).ok();
    die(&mut notebook);
    let ran = notebook.run("print(x)").ok();
    assert_eq!(ran.stdout(), "1\n");
    let [(text, _)] = &ran.notices()[..] else { panic!("{ran:?}") };
    assert!(text.contains("since then is lost") && text.contains(&unsaved), "{text}");
    // Once.
    assert_eq!(notebook.run("x = 3").ok().notices(), []);
    die(&mut notebook);
    assert_eq!(notebook.run("pass").ok().notices(), []);
}

fn a_damaged_stream_is_passed_over(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 'first'").ok();
    notebook.run("x = 'second'").ok();
    die(&mut notebook);
    let pack = packs(&daemon).pop().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    // The first chunk behind the header: small, so it is the stream's.
    bytes[4_100] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    let ran = notebook.run("print(x)").ok();
    assert_eq!(ran.stdout(), "first\n");
    let [(text, _)] = &ran.notices()[..] else { panic!("{ran:?}") };
    assert!(text.contains("checkpoint 1") && text.contains("damaged"), "{text}");
    // What is saved from here on does not count on what is damaged.
    notebook.run("x = 'second'").ok();
    die(&mut notebook);
    assert_eq!(notebook.run("print(x)").ok().stdout(), "second\n");
}

fn who_does_not_read_an_export_holds_nobody_up(setup: Setup) {
    let daemon = waiting(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("import os; data = os.urandom(20_000_000)").ok();
    let mut silent = daemon.client();
    for _ in 0..12 {
        silent.send(&Request::ExportCheckpoint { notebook: notebook.id.clone(), checkpoint: None }, &[]);
    }
    let mut other = daemon.notebook("b");
    other.run("x = 1").ok();
    assert_eq!(checkpoints(&mut other).len(), 1);
    let listed = Request::ListFiles { notebook: other.id.clone(), path: String::new() };
    assert!(matches!(other.client.ask(&listed), Ok(Reply::Files { .. })));
    assert_eq!(export(&mut notebook).len(), export(&mut notebook).len());
}

fn spares_are_claimed_with_checkpoints(setup: Setup) {
    let profile = "version = 1\nwarm_start = 'zygote'\npreload = []\nspares = 2\ncheckpoints.when = 'wait'\n";
    let daemon = Daemon::start(setup.warm().profile("default", profile));
    daemon.warmed("default");
    let mut notebook = daemon.notebook("a");
    let first = notebook.run("x = [1]").ok();
    assert!(matches!(first.outcome.checkpoint, Some(Checkpoint::Saved { id: 1, .. })), "{first:?}");
    assert!(daemon.log().contains("spare claimed"), "{}", daemon.log());
    daemon.warmed("default");
    die(&mut notebook);
    assert_eq!(print(&mut notebook, "x"), "[1]");
    assert_eq!(daemon.log().matches("spare claimed").count(), 2, "{}", daemon.log());
}
