//! What a tenant has no room for is refused, and nobody else waits for it; who waits has his turn.

use cellblock_proto::checkpoint::Checkpointing;
use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::execution::{End, ExecuteOptions};
use cellblock_proto::query::Query;
use cellblock_tests::client::{Client, Refused};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::{Notebook, Sent};
use cellblock_tests::setup::Setup;
use cellblock_tests::{in_one_mode, wait};

use crate::tenants::{ANN, BOB, BUSY, client, file, notebook, open, open_to_all};

in_one_mode!(
    caps_are_refused_by_name_with_a_hint_and_hold_nobody_else_up,
    tenant_with_many_that_wait_holds_anothers_first_cell_up_by_one,
    thousand_wait_in_their_order_and_any_of_them_can_be_cancelled,
    when_all_workers_are_at_work_it_is_said_how_many_may_be,
    tenant_for_whom_nobody_makes_room_keeps_no_other_from_it,
    tenant_who_pins_all_it_may_leaves_a_worker_to_others,
);

/// Runs until the file `go` is there, and says that it runs.
const UNTIL_GO: &str =
    "import os\nprint('up', flush=True)\nwhile not os.path.exists('go'): pass\nos.remove('go')";

fn caps_are_refused_by_name_with_a_hint_and_hold_nobody_else_up(setup: Setup) {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "[defaults]\nmax_notebooks = 2\nmax_queued = 3\nmax_connections = 3\nmax_running = 1\n\
         max_buffered_bytes = 1048576\n",
    );
    let setup = setup.argument("--serve-group").argument("--tenants").argument(path);
    let Some(daemon) = open_to_all(setup) else { return };
    let mut anns = notebook(&daemon, ANN, "a");
    let mut other = notebook(&daemon, ANN, "b");
    let refused = open(&mut other.client, "c", None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.contains("tenant \"uid-52011\" has 2 open notebooks"), "{refused:?}");
    assert!(refused.message.contains("max_notebooks") && refused.hint.is_some(), "{refused:?}");
    // One runs and three wait, over both notebooks.
    let mut runs = anns.start(UNTIL_GO);
    anns.until_stdout(&mut runs, "up");
    let mut waiting: Vec<Sent> = (0..2).map(|_| anns.start("1")).collect();
    waiting.iter_mut().for_each(|sent| anns.until_accepted(sent));
    let third = other.start("1");
    let refused = wait::until("three wait", || {
        let refused = other.start("1");
        match other.client.next(refused.request).reply {
            Reply::Error { code, message, hint } => Some(Refused { code, message, hint }),
            _ => None,
        }
    });
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(
        refused.message.contains("3 executions that wait") && refused.message.contains("max_queued"),
        "{refused:?}"
    );
    let hint = refused.hint.unwrap();
    assert_eq!(hint.position, Some(3));
    assert!((100..=60_000).contains(&hint.retry_ms), "{hint:?}");
    let mut third_client = client(&daemon, ANN);
    let refused = Client::connect_as(&daemon.socket(), ANN, None).unwrap_err();
    assert!(refused.message.contains("3 connections, the most that may be (max_connections)"), "{refused:?}");
    assert!(refused.hint.is_some());
    let metrics = daemon.client().metrics();
    assert!(metrics.contains("cellblock_connections_opened_total{result=\"turned_away\"} 1\n"), "{metrics}");
    // However many come at once, each is told.
    let turned_away: Vec<Client> = (0..600).map(|_| Client::silent_as(&daemon.socket(), ANN)).collect();
    for one in turned_away {
        assert_eq!(one.refusal().code, ErrorCode::Busy);
    }
    // None of that is anybody else's.
    notebook(&daemon, BOB, "a").run("1").ok();
    let Ok(Reply::Tenants { tenants }) = daemon.client().ask(&Request::Tenants) else { panic!("no tenants") };
    let told = tenants.iter().find(|info| info.tenant.as_str() == "uid-52011").unwrap();
    let uses = told.uses;
    assert_eq!((uses.running, uses.notebooks, uses.queued, uses.connections), (1, 2, 3, 3), "{told:?}");
    // What is given back can be taken again.
    anns.write_file("go", b"").unwrap();
    anns.finish(runs).ok();
    for sent in waiting {
        anns.finish(sent).ok();
    }
    other.finish(third).ok();
    other.run("2").ok();
    other.client.tell(&Request::Close { notebook: other.id.clone() });
    open(&mut third_client, "c", None).unwrap();
    // Bytes that nobody reads: what would take more is refused, what stops something is not.
    let mut loud =
        anns.start("import time\nprint('x' * 3_000_000, flush=True)\nwhile True: time.sleep(0.01)");
    anns.until_accepted(&mut loud);
    let stuck = wait::until("a megabyte is held", || {
        let listed = Request::Query { notebook: "c".parse().unwrap(), query: Query::Variables };
        third_client.ask(&listed).err()
    });
    assert_eq!(stuck.code, ErrorCode::Busy);
    assert!(stuck.message.contains("max_buffered_bytes") && stuck.hint.is_some(), "{stuck:?}");
    third_client.tell(&Request::Interrupt { notebook: anns.id.clone() });
    assert_eq!(anns.finish(loud).outcome.end, End::Interrupted);
    wait::until("there is room again", || {
        let listed = Request::Query { notebook: "c".parse().unwrap(), query: Query::Variables };
        third_client.ask(&listed).ok()
    });
    anns.run("3").ok();
    drop(folder);
}

fn tenant_with_many_that_wait_holds_anothers_first_cell_up_by_one(setup: Setup) {
    let Some(daemon) = open_to_all(setup.argument("--serve-group").argument("--max-running=1")) else {
        return;
    };
    // Each takes a while, and all would take twelve times as long.
    let code = "import time\nbegan = time.monotonic()\n\
                for _ in range(40): time.sleep(0.01)\nprint(began, time.monotonic())";
    let mut many: Vec<Notebook> = (0..6).map(|n| notebook(&daemon, ANN, &format!("n{n}"))).collect();
    let mut bobs = notebook(&daemon, BOB, "n0");
    many.iter_mut().chain([&mut bobs]).for_each(|notebook| drop(notebook.run("1").ok()));
    let mut sent: Vec<(usize, Sent)> = Vec::new();
    for round in 0..2 {
        for (at, notebook) in many.iter_mut().enumerate() {
            let mut one = notebook.start(code);
            notebook.until_accepted(&mut one);
            sent.push((at, one));
            assert!(round < 2);
        }
    }
    let ran = bobs.run(code).ok().stdout();
    let [began, ended] = span(&ran);
    let spans: Vec<[f64; 2]> =
        sent.into_iter().map(|(at, sent)| span(&many[at].finish(sent).ok().stdout())).collect();
    let before = spans.iter().filter(|[_, end]| *end <= began).count();
    let after = spans.iter().filter(|[begin, _]| *begin >= ended).count();
    // Those that had run when it was sent, the one that ran, and at most one more.
    assert_eq!(before + after, 12, "one at a time: {spans:?} and {began} to {ended}");
    assert!(after >= 9, "{before} of another's ran before it");
}

fn span(text: &str) -> [f64; 2] {
    let (began, ended) = text.trim().split_once(' ').unwrap();
    [began.parse().unwrap(), ended.parse().unwrap()]
}

fn thousand_wait_in_their_order_and_any_of_them_can_be_cancelled(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut first = daemon.notebook("a");
    let mut runs = first.start(&format!("ran = []\n{UNTIL_GO}"));
    first.until_stdout(&mut runs, "up");
    // Saving is not what is tried here.
    let options = ExecuteOptions { checkpoint: Some(Checkpointing::None), ..ExecuteOptions::default() };
    // A connection may have 256 requests under way.
    let mut connections: Vec<Notebook> = (0..5).map(|_| daemon.notebook("a")).collect();
    let mut waiting: Vec<(usize, Sent)> = Vec::new();
    for number in 0..999 {
        let at = number / 200;
        waiting.push((at, connections[at].start_with(&format!("ran.append({number})"), options.clone())));
        // What is sent on the next connection comes after all of this.
        if number % 200 == 199 || number == 998 {
            for (_, sent) in waiting.iter_mut().filter(|(of, _)| *of == at) {
                connections[at].until_accepted(sent);
            }
        }
    }
    assert_eq!(
        waiting.iter().map(|(_, sent)| sent.position_told().unwrap()).collect::<Vec<_>>(),
        (1..1000).collect::<Vec<_>>()
    );
    assert_eq!(first.status().info.queued, 999);
    let refused = first.refused("1");
    assert_eq!((refused.code, refused.hint.unwrap().position), (ErrorCode::Busy, Some(999)), "{refused:?}");
    assert!(refused.message.contains("the notebook's queue is full"), "{refused:?}");
    for number in [0, 500, 998] {
        first.cancel(&waiting[number].1.execution.clone());
    }
    first.write_file("go", b"").unwrap();
    first.finish(runs).ok();
    for (number, (at, sent)) in waiting.into_iter().enumerate() {
        let end = connections[at].finish(sent).outcome.end;
        match number {
            0 | 500 | 998 => assert!(matches!(end, End::Cancelled { .. }), "{number}: {end:?}"),
            _ => assert_eq!(end, End::Ok, "{number}"),
        }
    }
    let told = first.run("print(len(ran), ran == [n for n in range(999) if n not in (0, 500, 998)])");
    assert_eq!(told.stdout(), "996 True\n");
}

fn when_all_workers_are_at_work_it_is_said_how_many_may_be(setup: Setup) {
    let daemon = Daemon::start(setup.argument("--max-workers=1"));
    let mut first = daemon.notebook("a");
    let mut runs = first.start(BUSY);
    first.until_stdout(&mut runs, "up");
    let refused = daemon.notebook("b").refused("1");
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.message.contains("1 workers, the most that may live (--max-workers)"), "{refused:?}");
    let hint = refused.hint.unwrap();
    assert_eq!(hint.position, Some(0));
    assert!((100..=60_000).contains(&hint.retry_ms), "{hint:?}");
    // Who waits gets the place as soon as it is free.
    let mut second = daemon.notebook("b");
    let sent = second.start("2");
    first.client.tell(&Request::Close { notebook: first.id.clone() });
    second.finish(sent).ok();
}

fn tenant_for_whom_nobody_makes_room_keeps_no_other_from_it(setup: Setup) {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "[defaults]\nmax_workers = 1\n");
    let Some(daemon) = open_to_all(setup.argument("--serve-group").argument("--tenants").argument(path))
    else {
        return;
    };
    notebook(&daemon, BOB, "a").run("1").ok();
    let [mut anns, mut waits] = ["a", "b"].map(|name| notebook(&daemon, ANN, name));
    let mut runs = anns.start(BUSY);
    anns.until_stdout(&mut runs, "up");
    let sent = waits.start("2");
    waits.status();
    notebook(&daemon, BOB, "b").run("3").ok();
    anns.client.tell(&Request::Close { notebook: anns.id.clone() });
    waits.finish(sent).ok();
}

fn tenant_who_pins_all_it_may_leaves_a_worker_to_others(setup: Setup) {
    let setup = setup.switch("CELLBLOCK_TEST_ROOM_PATIENCE_MS", "1000");
    let Some(daemon) = open_to_all(setup.argument("--serve-group").argument("--max-workers=4")) else {
        return;
    };
    for name in ["a", "b", "c"] {
        let mut pinned = notebook(&daemon, ANN, name);
        pinned.client.ask(&Request::Pin { notebook: pinned.id.clone(), pinned: true }).unwrap();
        pinned.run("1").ok();
    }
    let refused = notebook(&daemon, ANN, "d").refused("1");
    assert_eq!(refused.code, ErrorCode::Busy);
    let cap = "3 workers, the most that may live (three quarters of --max-workers";
    assert!(refused.message.contains(cap), "{refused:?}");
    notebook(&daemon, BOB, "a").run("1").ok();
}
