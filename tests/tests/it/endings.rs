//! Every way an Execution can end: the Outcome says it, nobody else is affected, and the next cell
//! runs and knows what was lost.
//!
//! `cargo nextest run -p cellblock-tests endings::ends --no-capture` prints the table of ends.

use std::fmt::Write as _;
use std::time::Duration;

use cellblock_proto::client::{Reply, Request};
use cellblock_proto::execution::{Death, End, Limit, Outcome};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::{Notebook, Sent};
use cellblock_tests::ran::Ran;
use cellblock_tests::setup::Setup;
use cellblock_tests::{in_every_mode, leftovers};
use rustix::process::{Pid, Signal, kill_process};

in_every_mode!(
    ends_are_told_as_they_are_and_touch_nobody_else,
    interrupt_ends_the_code_and_keeps_the_variables,
    cancel_takes_from_the_queue_or_interrupts,
    fork_bomb_is_bounded_and_ends_with_the_time,
    output_before_a_crash_arrives,
    closed_descriptors_do_not_stop_the_next_cell,
);

const WALL_MS: u64 = 1_500;
/// The first error of a worker takes a quarter of a second of processor: what formats it is imported then.
const GRACE_MS: u64 = 2_000;
const MEMORY: u64 = 400_000_000;

fn with_profiles(setup: Setup) -> Setup {
    let common = format!("memory_bytes = {MEMORY}\nprocesses = 32\ninterrupt_grace_ms = {GRACE_MS}");
    setup.limits("small", &common).limits("brief", &format!("{common}\nwall_ms = {WALL_MS}"))
}

/// Code calls `cause()` right before it does it; when it does not, it is called at its beginning.
const PRELUDE: &str = "import ctypes, os, signal, sys, time
def cause(): print('cause', time.monotonic_ns(), flush=True)
";

struct Case {
    name: &'static str,
    code: &'static str,
    kept: bool,
    fits: fn(&End) -> bool,
}

const fn case(name: &'static str, kept: bool, fits: fn(&End) -> bool, code: &'static str) -> Case {
    Case { name, code, kept, fits }
}

fn exits(end: &End) -> bool {
    matches!(end, End::Error { name, .. } if name == "SystemExit")
}

fn exited(end: &End, wanted: i32) -> bool {
    matches!(end, End::WorkerDied(Death::Exited { code }) if *code == wanted)
}

fn signalled(end: &End, wanted: i32) -> bool {
    matches!(end, End::WorkerDied(Death::Signalled { signal }) if *signal == wanted)
}

fn timed_out(end: &End) -> bool {
    *end == End::TimedOut { limit_ms: WALL_MS }
}

const KEEP: bool = true;
const LOSE: bool = false;

const CASES: [Case; 21] = [
    case("`sys.exit()`", KEEP, exits, "sys.exit()"),
    case("`sys.exit(3)`", KEEP, exits, "sys.exit(3)"),
    case("`exit()`", KEEP, exits, "exit()"),
    case("`quit()`", KEEP, exits, "quit()"),
    case(
        "an exception",
        KEEP,
        |end| matches!(end, End::Error { name, .. } if name == "ZeroDivisionError"),
        "1/0",
    ),
    case("`os._exit(3)`", LOSE, |end| exited(end, 3), "os._exit(3)"),
    case("`os._exit(0)`", LOSE, |end| exited(end, 0), "os._exit(0)"),
    case("a wild pointer", LOSE, |end| signalled(end, 11), "ctypes.string_at(1)"),
    case(
        "stack overflow in C",
        LOSE,
        |end| signalled(end, 11),
        "x = []\nfor _ in range(10**6): x = [x]\nsys.setrecursionlimit(10**9)\ncause()\nrepr(x)",
    ),
    case("`os.abort()`", LOSE, |end| signalled(end, 6), "os.abort()"),
    case("`kill -9` of itself", LOSE, |end| signalled(end, 9), "os.kill(os.getpid(), 9)\ntime.sleep(99)"),
    case(
        "`kill -TERM` of itself",
        LOSE,
        |end| signalled(end, 15),
        "os.kill(os.getpid(), 15)\ntime.sleep(99)",
    ),
    case(
        "out of memory",
        LOSE,
        |end| matches!(end, End::LimitHit { limit: Limit::Memory, allowed: MEMORY, reached } if *reached >= MEMORY - 4096),
        "hoard = []\nwhile True:\n    hoard.append(b'x' * 4_000_000)\n    time.sleep(0.003)\n    if len(hoard) == 88: cause()",
    ),
    case(
        "an absurd allocation",
        KEEP,
        |end| matches!(end, End::Error { name, .. } if name == "MemoryError"),
        "bytearray(10**12)",
    ),
    case("time over: a busy loop", KEEP, timed_out, "while True: pass"),
    case("time over: asleep", KEEP, timed_out, "time.sleep(100)"),
    case("time over: a subprocess", KEEP, timed_out, "import subprocess\nsubprocess.run(['sleep', '100'])"),
    case(
        "time over, SIGINT ignored, GIL held in C",
        LOSE,
        timed_out,
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nctypes.PyDLL(None).sleep(100)",
    ),
    case(
        "time over, KeyboardInterrupt caught for ever",
        LOSE,
        timed_out,
        "while True:\n    try:\n        time.sleep(100)\n    except KeyboardInterrupt:\n        pass",
    ),
    case("our own descriptors closed", LOSE, |end| matches!(end, End::WorkerDied(_)), "os.closerange(3, 64)"),
    case(
        "another program by exec",
        LOSE,
        |end| exited(end, 7),
        "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])",
    ),
];

fn ends_are_told_as_they_are_and_touch_nobody_else(setup: Setup) {
    let daemon = Daemon::start(with_profiles(setup));
    let mut bystander = daemon.notebook("bystander");
    bystander.run("y = 7").ok();
    let bystanders_pid = bystander.status().worker_pid;
    let mut table =
        String::from("| end | Outcome | variables | ms from cause to Outcome |\n|---|---|---|---|\n");
    let mut wrong = String::new();
    for (number, case) in CASES.iter().enumerate() {
        let profile = if case.name.starts_with("time over") { "brief" } else { "small" };
        let mut notebook = daemon.notebook_under(&format!("n{number}"), profile);
        let (ran, arrived) = examine(&mut notebook, case, &mut wrong);
        let ms = milliseconds(&ran, arrived, case);
        let kept = if ran.lost().is_none() { "kept" } else { "lost" };
        let _ = writeln!(table, "| {} | {} | {kept} | {ms:.1} |", case.name, outcome(&ran.outcome));
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Close { notebook: id });
    }
    ends_from_outside(&daemon, &mut table, &mut wrong);
    eprintln!("{table}");
    assert_eq!(bystander.run("y").ok().shape(), [("result", "7".to_owned())]);
    assert_eq!(bystander.status().worker_pid, bystanders_pid, "the bystander's worker was replaced");
    assert!(wrong.is_empty(), "{wrong}");
}

/// The call at the beginning, for code that does not say itself when it is about to do it.
fn cause_before(code: &str) -> &'static str {
    if code.contains("cause()") { "" } else { "cause()\n" }
}

fn examine(notebook: &mut Notebook, case: &Case, wrong: &mut String) -> (Ran, i128) {
    notebook.run("keep = [1]; other = 2").ok();
    let pid = notebook.status().worker_pid;
    let ran = notebook.run(&format!("{PRELUDE}{}{}", cause_before(case.code), case.code));
    let arrived = now();
    let mut complain = |what: &str, found: &dyn std::fmt::Debug| {
        let _ = writeln!(wrong, "{}: {what}: {found:?}", case.name);
    };
    if !(case.fits)(&ran.outcome.end) {
        complain("unexpected end", &ran.outcome);
    }
    let holds =
        |names: &[String]| ["keep", "other"].iter().all(|name| names.iter().any(|found| found == name));
    if case.kept != ran.lost().is_none() || ran.lost().is_some_and(|names| !holds(names)) {
        complain("unexpected variables", &ran.outcome.variables);
    }
    let next = notebook.run("'keep' in globals() and 'other' in globals()");
    let expected = if case.kept { "True" } else { "False" };
    if next.outcome.end != End::Ok || next.shape() != [("result", expected.to_owned())] {
        complain("unexpected next cell", &(&next.outcome, next.shape()));
    }
    match &next.notices()[..] {
        [] if case.kept => {}
        [(text, names)] if !case.kept && holds(names) && text.contains("keep") => {}
        other => complain("unexpected notices", &other),
    }
    if (notebook.status().worker_pid == pid) != case.kept {
        complain("unexpected worker", &pid);
    }
    (ran, arrived)
}

/// What others do to an Execution; each is asked for when the code says that it runs.
fn ends_from_outside(daemon: &Daemon, table: &mut String, wrong: &mut String) {
    type Act = fn(&Daemon, &mut Notebook, &Sent);
    type Row = (&'static str, &'static str, bool, fn(&End) -> bool, Act);
    let ask: Act = |_, notebook, _| notebook.interrupt();
    let kill_shim: Act = |daemon, notebook, _| {
        let worker = notebook.status().worker_pid.unwrap().cast_signed();
        let shims = daemon.processes_named("cellblock-shim").into_iter();
        let is_its = |pid: i32| leftovers::descendants(pid).iter().any(|process| process.pid == worker);
        // Anchor, shim and init stand above it, each with fewer below itself.
        let mut above: Vec<i32> = shims.map(|process| process.pid).filter(|pid| is_its(*pid)).collect();
        above.sort_by_key(|pid| std::cmp::Reverse(leftovers::descendants(*pid).len()));
        let shim = above.get(1).copied();
        kill_process(Pid::from_raw(shim.unwrap()).unwrap(), Signal::KILL).unwrap();
    };
    let restart: Act = |_, notebook, _| {
        let notebook_id = notebook.id.clone();
        notebook.client.tell(&Request::Restart { notebook: notebook_id });
    };
    let cases: [Row; 6] = [
        ("interrupt of a busy loop", "while True: pass", KEEP, |end| *end == End::Interrupted, ask),
        ("interrupt of a sleep", "time.sleep(100)", KEEP, |end| *end == End::Interrupted, ask),
        (
            "interrupt, SIGINT ignored",
            "signal.signal(signal.SIGINT, signal.SIG_IGN)\ncause()\nctypes.PyDLL(None).sleep(100)",
            LOSE,
            |end| *end == End::Interrupted,
            ask,
        ),
        (
            "cancel of what runs",
            "time.sleep(100)",
            KEEP,
            |end| *end == End::Interrupted,
            |_, notebook, sent| notebook.cancel(&sent.execution),
        ),
        (
            "restart",
            "time.sleep(100)",
            LOSE,
            |end| matches!(end, End::WorkerDied(Death::Ended { .. })),
            restart,
        ),
        (
            "the shim is killed",
            "time.sleep(100)",
            LOSE,
            |end| *end == End::WorkerDied(Death::ShimLost),
            kill_shim,
        ),
    ];
    for (number, (name, code, kept, fits, act)) in cases.into_iter().enumerate() {
        let mut notebook = daemon.notebook_under(&format!("o{number}"), "small");
        let mut sent = notebook.start(&format!("{PRELUDE}{}{code}", cause_before(code)));
        notebook.until_stdout(&mut sent, "cause");
        let caused = now();
        act(daemon, &mut notebook, &sent);
        let ran = notebook.finish(sent);
        let ms = (now() - caused) as f64 / 1e6;
        if !fits(&ran.outcome.end) || ran.lost().is_none() != kept {
            let _ = writeln!(wrong, "{name}: unexpected end: {:?}", ran.outcome);
        }
        let variables = if kept { "kept" } else { "lost" };
        let _ = writeln!(table, "| {name} | {} | {variables} | {ms:.1} |", outcome(&ran.outcome));
        notebook.run("1").ok();
    }
}

/// From the cause to the moment the Outcome was here.
fn milliseconds(ran: &Ran, arrived: i128, case: &Case) -> f64 {
    if case.name.starts_with("time over") {
        // The cause is the end of the time; the shim's clock knows it best.
        return ran.outcome.wall_us as f64 / 1e3 - WALL_MS as f64;
    }
    let stdout = ran.stdout();
    let caused: i128 = stdout.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    (arrived - caused) as f64 / 1e6
}

/// Nanoseconds on the clock that Python's `time.monotonic_ns` reads.
fn now() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

fn outcome(outcome: &Outcome) -> String {
    match &outcome.end {
        End::Ok => "ok".to_owned(),
        End::Error { name, .. } => format!("error ({name})"),
        End::TimedOut { limit_ms } => format!("timed_out ({limit_ms} ms)"),
        End::Interrupted => "interrupted".to_owned(),
        End::LimitHit { limit, allowed, reached } => {
            format!("limit_hit ({limit:?}, {} of {} MB)", reached / 1_000_000, allowed / 1_000_000)
        }
        End::WorkerDied(Death::Exited { code }) => format!("worker_died (exit code {code})"),
        End::WorkerDied(Death::Signalled { signal }) => format!("worker_died (signal {signal})"),
        End::WorkerDied(death) => format!("worker_died ({death:?})"),
        End::Cancelled { .. } => "cancelled".to_owned(),
    }
}

fn interrupt_ends_the_code_and_keeps_the_variables(setup: Setup) {
    let daemon = Daemon::start(with_profiles(setup));
    let mut notebook = daemon.notebook_under("a", "small");
    notebook.run("import time; keep = 5").ok();
    for code in ["while True: pass", "time.sleep(100)", "import subprocess; subprocess.run(['sleep', '100'])"]
    {
        let mut sent = notebook.start(&format!("print('up', flush=True)\n{code}"));
        notebook.until_stdout(&mut sent, "up");
        notebook.interrupt();
        let ran = notebook.finish(sent);
        assert_eq!((&ran.outcome.end, ran.lost()), (&End::Interrupted, None), "{code}");
    }
    assert_eq!(notebook.run("keep").ok().shape(), [("result", "5".to_owned())]);
    // Nothing runs: an interrupt then must not hit the next cell.
    notebook.interrupt();
    notebook.run("time.sleep(0.05)").ok();
}

fn cancel_takes_from_the_queue_or_interrupts(setup: Setup) {
    let daemon = Daemon::start(with_profiles(setup));
    let mut notebook = daemon.notebook_under("a", "small");
    let mut first = notebook.start("import time\nprint('up', flush=True)\ntime.sleep(100)");
    notebook.until_stdout(&mut first, "up");
    let mut second = notebook.start("ran = True");
    notebook.until_accepted(&mut second);
    notebook.cancel(&second.execution.clone());
    let second = notebook.finish(second);
    assert!(matches!(second.outcome.end, End::Cancelled { .. }), "{:?}", second.outcome);
    notebook.cancel(&first.execution.clone());
    let first = notebook.finish(first);
    assert_eq!((first.outcome.end.clone(), first.lost()), (End::Interrupted, None));
    assert_eq!(notebook.run("'ran' in globals()").ok().shape(), [("result", "False".to_owned())]);
}

fn fork_bomb_is_bounded_and_ends_with_the_time(setup: Setup) {
    let daemon = Daemon::start(with_profiles(setup));
    let mut bystander = daemon.notebook("bystander");
    bystander.run("y = 7").ok();
    let before = daemon.processes().len();
    let mut notebook = daemon.notebook_under("a", "brief");
    let mut sent = notebook.start(
        "import os\nprint('up', flush=True)\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    );
    notebook.until_stdout(&mut sent, "up");
    let mut most = 0;
    let ran = loop {
        most = most.max(daemon.processes().len());
        let answer = notebook.client.next_within(sent.request, Duration::from_millis(100));
        if let Some(Reply::Outcome { outcome, .. }) = answer.map(|answer| answer.reply) {
            break outcome;
        }
    };
    assert_eq!(ran.end, End::TimedOut { limit_ms: WALL_MS });
    // 32 in the sandbox, shim and init; and those that ended while we looked, for a look at /proc
    // takes its time. Without the limit there would be thousands.
    let own = most - before;
    assert!((20..=48).contains(&own), "{own} processes of the bomb");
    assert_eq!(bystander.run("y").ok().shape(), [("result", "7".to_owned())]);
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    notebook.run("1").ok();
}

fn output_before_a_crash_arrives(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    for round in 0..10 {
        let code = "import ctypes, os, sys\nfor n in range(2000): print(n)\n\
                    sys.stderr.write('last words')\nctypes.string_at(1)";
        let ran = notebook.run(code);
        assert!(signalled(&ran.outcome.end, 11), "{:?}", ran.outcome);
        let expected: String = (0..2000).map(|n| format!("{n}\n")).collect();
        assert_eq!((ran.stdout(), ran.stderr()), (expected, "last words".to_owned()), "round {round}");
    }
}

fn closed_descriptors_do_not_stop_the_next_cell(setup: Setup) {
    let daemon = Daemon::start(setup.limits("brief", "wall_ms = 5_000"));
    for (name, code) in [("out", "os.close(1)"), ("all", "for fd in range(3): os.close(fd)")] {
        let mut notebook = daemon.notebook_under(name, "brief");
        notebook.run("keep = 5").ok();
        let ran = notebook.run(&format!("import os\n{code}"));
        assert!(!matches!(ran.outcome.end, End::TimedOut { .. }), "{:?}", ran.outcome);
        // Kept, or lost and said so; but never a worker that no longer answers.
        let ran = notebook.run("'keep' in globals()").ok();
        let told = ran.notices().iter().any(|(_, names)| names.contains(&"keep".to_owned()));
        assert_eq!(ran.shape(), [("result", if told { "False" } else { "True" }.to_owned())]);
    }
}
