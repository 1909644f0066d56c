//! What an operator sees of a daemon, and what nobody sees: code and what comes of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::client::{ErrorCode, Reply, Request, WorkerState};
use cellblock_proto::execution::{End, ExecuteOptions};
use cellblock_tests::as_root_and_user;
use cellblock_tests::cli::Cli;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use serde_json::Value;

as_root_and_user!(
    log_and_audit_log_have_nothing_of_what_cells_say,
    every_line_about_an_execution_has_tenant_notebook_and_execution,
    metrics_count_what_was_done_and_are_served_on_loopback,
    whoever_listens_is_told_of_workers_and_executions,
    overview_has_memory_and_time_of_a_worker_and_what_runs,
    verbs_of_operators_show_it,
);

/// In code, output, an exception, names of variables and of files.
const MARK: &str = "xyzzy";

const CELLS: [&str; 7] = [
    "xyzzy_variable = 1\nprint('xyzzy')",
    "import threading; xyzzy_lock = {'xyzzy_key': threading.Lock()}",
    "class xyzzy_b:\n    a = 1\n    def __setstate__(self, state): raise ValueError('xyzzy')\n\
     xyzzy_c = xyzzy_b(); xyzzy_c.d = 1",
    "raise ValueError('xyzzy')",
    "class xyzzy(Exception): pass\nraise xyzzy('xyzzy')",
    "open('xyzzy.txt', 'w').write('xyzzy'); import sys; sys.stderr.write('xyzzy'); 'xyzzy'",
    "import os; os.write(2, b'xyzzy'); os.kill(os.getpid(), 9)",
];

fn debug(setup: Setup) -> Setup {
    setup.argument("--log-format").argument("json").switch("CELLBLOCK_LOG", "debug")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn log_and_audit_log_have_nothing_of_what_cells_say(setup: Setup) {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let uid = setup.who.uid();
    let _ = std::os::unix::fs::chown(folder.path(), Some(uid), Some(uid));
    let path = folder.path().join("audit.jsonl");
    let setup = debug(setup).profile("saving", "version = 1\n[checkpoints]\nwhen = 'background'\n");
    let setup = setup.argument("--audit-log").argument(path.as_os_str());
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook_under("a", "saving");
    let (last, cells) = CELLS.split_last().unwrap();
    for code in cells {
        notebook.run(code);
        // What has been saved, and what has not, is told of before this is answered.
        daemon.client().ask(&Request::Checkpoint { notebook: notebook.id.clone() }).unwrap();
    }
    notebook.run(last);
    // The next worker loads what could be saved, and says what could not.
    assert_eq!(notebook.run("print(xyzzy_variable)").stdout(), "1\n");
    let id = notebook.id.clone();
    let write = Request::WriteFile { notebook: id.clone(), path: "xyzzy/xyzzy.txt".into(), offset: 0 };
    daemon.client().ask_about(&write, b"xyzzy").unwrap();
    let read = Request::ReadFile { notebook: id.clone(), path: "xyzzy/none".into(), offset: 0, bytes: 10 };
    assert_eq!(daemon.client().ask(&read).unwrap_err().code, ErrorCode::File);
    daemon.client().tell(&Request::Delete { notebook: id });
    let log = daemon.log();
    assert_eq!(log.lines().find(|line| line.contains(MARK)), None);
    let said = |message: &str| lines(&log).iter().any(|line| line["message"] == message);
    assert!(said("checkpoint") && said("variables loaded") && said("worker ended"), "{log}");
    let audit = std::fs::read_to_string(&path).unwrap();
    assert!(!audit.contains(MARK), "{audit}");
    let deeds: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = deeds.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "open",
            "execute",
            "execute",
            "execute",
            "execute",
            "execute",
            "execute",
            "execute",
            "execute",
            "write_file",
            "read_file",
            "refused",
            "delete"
        ]
    );
    let uid = rustix::process::getuid().as_raw();
    assert!(deeds.iter().all(|line| line["uid"] == uid && line["tenant"] == "operator"), "{audit}");
    assert_eq!(deeds[1]["bytes"], CELLS[0].len());
    assert_eq!(deeds[1]["pid"], std::process::id());
}

fn every_line_about_an_execution_has_tenant_notebook_and_execution(setup: Setup) {
    let daemon = Daemon::start(debug(setup));
    let mut notebook = daemon.notebook("a");
    let sent = notebook.start("1 + 1");
    let execution = sent.execution.to_string();
    notebook.finish(sent).ok();
    let log = daemon.log();
    let lines = lines(&log);
    for message in ["submitted", "started", "finished", "execution ended"] {
        let line = lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("{message}: {log}"));
        assert_eq!(line["tenant"], "operator", "{line}");
        assert_eq!(line["notebook"], "a", "{line}");
        assert_eq!(line["execution"], execution.as_str(), "{line}");
        assert!(line["target"].as_str().unwrap().starts_with("cellblockd"), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let ended = lines.iter().find(|line| line["message"] == "execution ended").unwrap();
    assert_eq!((&ended["end"], &ended["level"]), (&"ok".into(), &"info".into()));
}

fn metrics_count_what_was_done_and_are_served_on_loopback(setup: Setup) {
    let refused = Daemon::refused(setup.clone().argument("--metrics-address").argument("0.0.0.0:0"));
    assert!(refused.contains("--metrics-address") && refused.contains("127.0.0.1"), "{refused}");
    // A port that is free now; another test's network is another, or it is taken with bad luck and the start fails.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon = Daemon::start(setup.argument("--metrics-address").argument(format!("127.0.0.1:{port}")));
    let mut notebook = daemon.notebook("a");
    notebook.run("1 + 1").ok();
    notebook.run("1 / 0");
    // Without an audit log of its own the log has the deeds, but for those that are many.
    let log = daemon.log();
    assert!(log.contains("action=\"open\"") && !log.contains("action=\"execute\""), "{log}");
    let text = daemon.client().metrics();
    let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}: {text}");
    has("cellblock_executions_total{profile=\"default\",end=\"ok\"} 1");
    has("cellblock_executions_total{profile=\"default\",end=\"error\"} 1");
    has("cellblock_worker_start_seconds_count{kind=\"exec\"} 1");
    has("cellblock_notebooks{state=\"idle\"} 1");
    has("cellblock_requests_total{kind=\"execute\"} 2");
    has("cellblock_workers 1");
    let get = |path: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    };
    let served = get("/metrics");
    assert!(served.starts_with("HTTP/1.1 200") && served.contains("cellblock_workers 1\n"), "{served}");
    assert!(served.ends_with("# EOF\n"));
    assert!(get("/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get("/").starts_with("HTTP/1.1 404"));
}

fn whoever_listens_is_told_of_workers_and_executions(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut listener = daemon.client();
    let events = listener.send(&Request::Events { notebook: None, all: true }, &[]);
    assert_eq!(listener.next(events).reply, Reply::Listening);
    let mut notebook = daemon.notebook("a");
    notebook.run("1 / 0");
    daemon.client().tell(&Request::Close { notebook: notebook.id.clone() });
    let mut told = Vec::new();
    loop {
        let Reply::Event(event) = listener.next(events).reply else { panic!("{told:?}") };
        let (tenant, notebook) = event.whose().unwrap();
        assert_eq!((tenant.as_str(), notebook.as_str()), ("operator", "a"));
        told.push(match event {
            NotebookEvent::Opened { profile, .. } => format!("opened {profile}"),
            NotebookEvent::Worker { state, .. } => format!("worker {state:?}"),
            NotebookEvent::Started { .. } => "started".to_owned(),
            NotebookEvent::Ended { end, .. } => format!("ended {end}"),
            NotebookEvent::Closed { deleted, .. } => format!("closed {deleted}"),
            other => format!("{other:?}"),
        });
        if told.last().is_some_and(|last| last.starts_with("closed")) {
            break;
        }
    }
    // Which state of a worker that is up is told first depends on what was waiting for it.
    let is_up = |line: &&String| {
        let is_state = ["worker Idle", "worker Busy", "worker Waiting"].contains(&line.as_str());
        !is_state && !line.starts_with("Checkpoint")
    };
    let told: Vec<&str> = told.iter().filter(is_up).map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "opened default",
            "worker Starting",
            "started",
            "ended error",
            "worker Ending",
            "worker None",
            "closed false"
        ]
    );
}

fn overview_has_memory_and_time_of_a_worker_and_what_runs(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    daemon.notebook("b");
    let options = ExecuteOptions { allow_stdin: true, ..ExecuteOptions::default() };
    let code = "x = bytearray(150 << 20)\nimport time\nuntil = time.process_time() + 0.3\n\
                while time.process_time() < until: pass\nprint('there', flush=True)\ntime.sleep(600)";
    let mut sent = notebook.start_with(code, options);
    notebook.until_stdout(&mut sent, "there");
    let Ok(Reply::Overview(overview)) = daemon.client().ask(&Request::Overview) else { panic!() };
    assert_eq!((overview.daemon.workers, overview.daemon.running, overview.daemon.waiting), (1, 1, 0));
    assert!(overview.daemon.pid.cast_signed() == daemon.pid() && overview.daemon.memory_bytes > 1 << 20);
    let [a, b] = &overview.notebooks[..] else { panic!("{overview:?}") };
    assert_eq!((a.state, b.state), (WorkerState::Busy, WorkerState::None));
    assert!(a.memory_bytes.is_some_and(|bytes| bytes > 150 << 20 && bytes < 4 << 30), "{a:?}");
    assert!(a.cpu_ms.is_some_and(|ms| ms >= 300) && a.running_ms.is_some_and(|ms| ms >= 300), "{a:?}");
    assert_eq!((b.memory_bytes, b.cpu_ms, b.running_ms), (None, None, None));
    notebook.interrupt();
    let ran = notebook.finish(sent);
    assert_eq!(ran.outcome.end, End::Interrupted);
    let Ok(Reply::Overview(overview)) = daemon.client().ask(&Request::Overview) else { panic!() };
    assert_eq!(overview.notebooks[0].running_ms, None);
}

fn verbs_of_operators_show_it(setup: Setup) {
    let daemon = Daemon::start(setup.clone());
    let cli = Cli::new(setup);
    let socket = daemon.socket();
    let at = ["--socket", socket.to_str().unwrap()];
    let mut notebook = daemon.notebook("a");
    let listening = cli.command(&[&["events", "-f", "--json", "a"], &at[..]].concat());
    let mut listening = { listening }
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 10];
    listening.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"listening\n");
    notebook.run("1 + 1").ok();
    let mut told = std::io::BufReader::new(listening.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ended") {
        line.clear();
        std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event.as_object().unwrap().values().next().unwrap()["notebook"], "a");
    }
    listening.kill().unwrap();
    listening.wait().unwrap();
    let top = cli.run(&[&["top", "--once"], &at[..]].concat());
    assert_eq!(top.code, Some(0), "{top:?}");
    assert!(
        top.stdout.lines().any(|line| line.starts_with("operator  a         idle   default")),
        "{}",
        top.stdout
    );
    let top: Value = serde_json::from_str(&cli.run(&[&["top", "--json"], &at[..]].concat()).stdout).unwrap();
    assert_eq!(top["notebooks"][0]["executions"], 1);
    let metrics = cli.run(&[&["metrics"], &at[..]].concat());
    assert!(metrics.stdout.contains("cellblock_notebooks{state=\"idle\"} 1\n"), "{metrics:?}");
}
