//! The requests of a front end beside running code.

use cellblock_proto::client::{ErrorCode, Request, WorkerState};
use cellblock_proto::execution::{Death, End, ExecuteOptions};
use cellblock_proto::query::{Answer, Completeness, Query};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_one_mode};

as_root_and_user!(
    completions_count_code_points,
    inspection_history_and_completeness_are_answered,
    failure_cancels_what_waits_unless_told_otherwise,
    status_tells_what_runs_and_what_waits,
);
in_one_mode!(
    comm_is_refused_by_name,
    query_while_code_runs_is_answered_busy,
    many_requests_share_a_connection,
    cellctls_own_client_speaks_bincode,
    restart_ends_what_runs_and_says_what_is_lost,
    closed_notebook_keeps_its_files_and_a_deleted_one_does_not,
);

fn completions_count_code_points(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("zebra_one = 1; zebra_two = 2").ok();
    // Two characters of four bytes and two UTF-16 units each stand before it.
    let code = "'😀ü😀'; zeb";
    let cursor = u32::try_from(code.chars().count()).unwrap();
    let (Answer::Complete { matches, start, end }, _) = notebook.query(Query::Complete { cursor }, code)
    else {
        panic!("not completions")
    };
    let texts: Vec<&str> = matches.iter().map(|found| &*found.text).collect();
    assert_eq!(texts, ["zebra_one", "zebra_two"]);
    assert_eq!((start, end), (cursor - 3, cursor));
}

fn inspection_history_and_completeness_are_answered(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("def fortune(ü):\n    'tells it'").ok();
    notebook.run("x = 1").ok();
    let code = "'😀'; fortune";
    let cursor = u32::try_from(code.chars().count()).unwrap();
    let (Answer::Inspect { bundle: Some(bundle) }, payload) =
        notebook.query(Query::Inspect { cursor, detail: 0 }, code)
    else {
        panic!("nothing found")
    };
    let parts = cellblock_tests::ran::parts(&bundle, &payload);
    assert!(String::from_utf8_lossy(&parts[0].1).contains("tells it"));
    let missing = notebook.query(Query::Inspect { cursor: 3, detail: 0 }, "nothing_of_that_name").0;
    assert_eq!(missing, Answer::Inspect { bundle: None });

    let (history, _) = notebook.query(Query::History { last: 1 }, "");
    assert_eq!(history, Answer::History { inputs: vec![(2, "x = 1".to_owned())] });
    let table = [
        ("x = 1", Completeness::Complete, ""),
        ("for i in x:", Completeness::Incomplete, "    "),
        ("a = = 1", Completeness::Invalid, ""),
        ("x = (1,", Completeness::Incomplete, ""),
    ];
    for (code, status, indent) in table {
        let answer = notebook.query(Query::IsComplete, code).0;
        let Answer::IsComplete { status: found, indent: told } = answer else { panic!("{answer:?}") };
        assert_eq!((found, told.trim_end_matches('\n')), (status, indent), "{code}");
    }
    let (Answer::Variables { variables: names }, _) = notebook.query(Query::Variables, "") else {
        panic!("no names")
    };
    let names: Vec<(&str, &str)> = names.iter().map(|name| (&*name.name, &*name.kind)).collect();
    assert_eq!(names, [("fortune", "function"), ("x", "int")]);
}

fn failure_cancels_what_waits_unless_told_otherwise(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("import os, time").ok();
    let wait = "while not os.path.exists('go'): time.sleep(0.01)\nos.remove('go')\n1/0";
    let go = daemon.workspace("a").join("go");
    for (stop_on_error, ends) in [(true, false), (false, true)] {
        let mut first = notebook.start_with(wait, ExecuteOptions { stop_on_error, ..Default::default() });
        notebook.until_accepted(&mut first);
        let mut second = notebook.start("'ran'");
        notebook.until_accepted(&mut second);
        std::fs::write(&go, "").unwrap();
        assert_eq!(notebook.finish(first).raised(), Some("ZeroDivisionError"));
        let second = notebook.finish(second);
        assert_eq!(second.position, 1);
        assert_eq!(second.outcome.end == End::Ok, ends, "{:?}", second.outcome);
        assert!(ends || matches!(second.outcome.end, End::Cancelled { .. }));
    }
}

fn status_tells_what_runs_and_what_waits(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.status().info.state, WorkerState::None);
    notebook.run("x = 5").ok();
    let mut first = notebook.start("import time; time.sleep(100)");
    notebook.until_accepted(&mut first);
    let mut second = notebook.start("2");
    notebook.until_accepted(&mut second);
    let status = notebook.status();
    assert_eq!(status.running.as_ref(), Some(&first.execution));
    assert_eq!(status.queue, std::slice::from_ref(&second.execution));
    assert_eq!((status.info.state, status.info.queued), (WorkerState::Busy, 1));
    assert!(status.names.iter().any(|name| name.name == "x"));
    assert!(status.python.unwrap().contains("IPython") && status.report.is_some());
    assert!(std::path::Path::new(&format!("/proc/{}", status.worker_pid.unwrap())).exists());
    assert_eq!(notebook.client.notebooks().len(), 1);
    notebook.cancel(&second.execution.clone());
    assert!(matches!(notebook.finish(second).outcome.end, End::Cancelled { .. }));
    notebook.interrupt();
    assert_eq!(notebook.finish(first).outcome.end, End::Interrupted);
}

fn comm_is_refused_by_name(setup: Setup) {
    let daemon = Daemon::start(setup);
    let refused = daemon.client().ask(&Request::Comm { target: "jupyter.widget".to_owned() }).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unsupported);
    assert!(refused.message.contains("jupyter.widget"), "{}", refused.message);
}

fn query_while_code_runs_is_answered_busy(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 5").ok();
    let mut sent = notebook.start("import time\nprint('up')\ntime.sleep(100)");
    notebook.until_stdout(&mut sent, "up");
    assert_eq!(notebook.query(Query::Complete { cursor: 1 }, "x").0, Answer::Busy);
    let (Answer::Variables { variables: names }, _) = notebook.query(Query::Variables, "") else {
        panic!("no names")
    };
    assert!(names.iter().any(|name| name.name == "x"), "names are known while code runs");
    notebook.interrupt();
    assert_eq!(notebook.finish(sent).outcome.end, End::Interrupted);
}

fn many_requests_share_a_connection(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let sent: Vec<_> = (0..20).map(|number| notebook.start(&format!("print({number})"))).collect();
    // Answers are read from the last to the first: the order of requests binds nobody.
    for (number, sent) in sent.into_iter().enumerate().rev() {
        assert_eq!(notebook.finish(sent).ok().stdout(), format!("{number}\n"));
    }
}

fn cellctls_own_client_speaks_bincode(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut connection = cellctl::client::Connection::connect(&daemon.socket()).unwrap();
    let (notebook, execution) = ("a".parse().unwrap(), "1".parse().unwrap());
    connection.open_notebook(&notebook, None).unwrap();
    let replies = connection.execute(&notebook, &execution, "print('ü')", Default::default()).unwrap();
    let payloads: Vec<Vec<u8>> = replies.map(|received| received.unwrap().payload).collect();
    // In one piece or two.
    assert!(String::from_utf8_lossy(&payloads.concat()).contains("ü\n"), "{payloads:?}");
    assert!(connection.status(&notebook).unwrap().report.is_some());
}

fn restart_ends_what_runs_and_says_what_is_lost(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("x = 1").ok();
    let mut sent = notebook.start("import time\nprint('up')\ntime.sleep(100)");
    notebook.until_stdout(&mut sent, "up");
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    let ran = notebook.finish(sent);
    assert!(matches!(ran.outcome.end, End::WorkerDied(Death::Ended { .. })), "{:?}", ran.outcome);
    assert!(ran.lost().unwrap().contains(&"x".to_owned()));
    let ran = notebook.run("'x' in globals()").ok();
    assert_eq!(ran.shape(), [("result", "False".to_owned())]);
}

fn closed_notebook_keeps_its_files_and_a_deleted_one_does_not(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("open('kept', 'w').write('here')").ok();
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Close { notebook: id.clone() });
    assert_eq!(notebook.refused("1").code, ErrorCode::UnknownNotebook);
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("open('kept').read()").ok().shape(), [("result", "'here'".to_owned())]);
    notebook.client.tell(&Request::Delete { notebook: id });
    assert!(!daemon.workspace("a").exists());
}
