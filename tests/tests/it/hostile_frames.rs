//! A worker that speaks to its shim what no worker may: bytes that are no frames, frames out of
//! state, replayed, in floods, with descriptors; or that no longer listens. After each the daemon, a
//! neighbour and a new worker of the same notebook answer, and the Execution has one Outcome.

use std::fs;
use std::time::{Duration, Instant};

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::execution::{Death, End, ExecuteOptions, Output};
use cellblock_proto::query::Query;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_one_mode, wait};

use crate::slow_reader::rss_kb;

as_root_and_user!(
    bytes_that_are_no_frame_end_the_worker_and_are_named,
    frames_out_of_state_end_the_worker_and_no_outcome_is_told_twice,
    descriptors_sent_along_end_the_worker_and_cost_the_shim_few,
    worker_that_has_stopped_is_ended_by_the_clock_and_its_queue_is_bounded,
    worker_that_does_not_listen_is_ended,
);
in_one_mode!(
    million_marks_and_displays_leave_the_shim_small,
    gigabyte_without_a_newline_that_nobody_reads_leaves_the_shim_small,
);

/// Python that can send anything on the worker's own channel.
const SEND: &str = "import array, json, os, socket, struct
channel = socket.socket(fileno=os.dup(3))
def header(meta, payload, magic=0xCB, kind=6, codec=1, flags=0, request=0):
    return struct.pack('<BBBBIII', magic, kind, codec, flags, request, meta, payload)
def frame(body, mark=0):
    meta = json.dumps({'mark': mark, 'body': body}).encode()
    return header(len(meta), 0) + meta
def finished(execution, end='ok'):
    return frame({'finished': {'execution': execution, 'end': end, 'execution_count': 1, 'names': {'added': [],
        'changed': [], 'removed': []}, 'expressions': []}})
def display(execution, mark=0):
    return frame({'output': {'execution': execution, 'output': {'display': {'bundle': {'parts': []}, 'update': False}}}}, mark)
";

/// A neighbour with a variable, and what must hold after each attack.
struct Witness {
    neighbour: Notebook,
}

impl Witness {
    fn new(daemon: &Daemon) -> Self {
        let mut neighbour = daemon.notebook("neighbour");
        neighbour.run("kept = 41").ok();
        Witness { neighbour }
    }

    fn check(&mut self, notebook: &mut Notebook, attack: &str) {
        assert_eq!(notebook.run("print('anew')").ok().stdout(), "anew\n", "{attack}");
        assert_eq!(self.neighbour.run("kept + 1").ok().of_mime("text/plain"), [b"42"], "{attack}");
    }
}

fn shim_of(daemon: &Daemon, notebook: &mut Notebook) -> i32 {
    let worker = notebook.status().worker_pid.unwrap();
    let parent = |pid: u32| -> u32 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("PPid:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // The worker's parent is init, whose parent is the shim.
    let shim = parent(parent(worker)).cast_signed();
    assert!(daemon.processes_named("cellblock-shim").iter().any(|process| process.pid == shim));
    shim
}

/// The most that something is until `over` says so.
fn highest(mut measure: impl FnMut() -> u64, mut over: impl FnMut() -> bool, patience: Duration) -> u64 {
    let mut most = measure();
    let ended = wait::within(patience, || {
        most = most.max(measure());
        over().then_some(())
    });
    assert!(ended.is_some(), "not over within {patience:?}");
    most
}

fn bytes_that_are_no_frame_end_the_worker_and_are_named(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    for (bytes, words) in [
        ("os.urandom(15)", "shorter than a header"),
        ("b'GET / HTTP/1.1\\r\\n\\r\\n'", "not a frame"),
        ("bytes(64)", "not a frame"),
        ("header(2, 0, magic=0xCC) + b'{}'", "not a frame"),
        ("header(2, 0, kind=99) + b'{}'", "not a frame"),
        ("header(2, 0, codec=9) + b'{}'", "not a frame"),
        ("header(2, 0, flags=0xF0) + b'{}'", "not a frame"),
        ("header(0xFFFFFFFF, 0xFFFFFFFF)", "not a frame"),
        ("header(1 << 20, (64 << 20) + 1)", "not a frame"),
        ("header(1 << 20, 0) + b'{}'", "meta is cut off"),
        ("header(2, 0xFFFF) + b'{}'", "payload length"),
        ("header(2, 0) + b'{}more'", "payload length"),
        ("header(2, 0, kind=5) + b'{}'", "wrong kind"),
        ("header(2, 0, kind=1) + b'{}'", "wrong kind"),
        ("header(0, 0)", ""),
        ("header(2, 0) + b'{}'", ""),
        ("header(9, 0, codec=2) + b'\\xff' * 9", ""),
        ("header(100_000, 0) + b'[' * 100_000", ""),
        ("frame({'fly': {}})", ""),
        ("header(2, 100, flags=2) + b'{}'", "memfd is missing"),
        ("header(2, 0, flags=2) + b'{}'", "memfd is missing"),
    ] {
        let mut notebook = daemon.notebook("hostile");
        let ran = notebook.run(&format!("{SEND}channel.send({bytes})\nimport time\ntime.sleep(40)"));
        let End::WorkerDied(Death::Protocol { detail }) = &ran.outcome.end else {
            panic!("{bytes}: {:?}", ran.outcome.end)
        };
        assert!(detail.contains(words) && !detail.is_empty(), "{bytes}: {detail}");
        witness.check(&mut notebook, bytes);
    }
    // A message of nothing is no frame, and no end either.
    let mut notebook = daemon.notebook("hostile");
    let ran = notebook.run(&format!("{SEND}for _ in range(1000): channel.send(b'')\nprint('on')")).ok();
    assert_eq!(ran.stdout(), "on\n");
    witness.check(&mut notebook, "nothing");
}

fn frames_out_of_state_end_the_worker_and_no_outcome_is_told_twice(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    // An earlier frame, kept byte for byte, and sent once more in the next Execution.
    let keep = "import cellblock_worker.native as native\nplain, frames = native.Native.send, []\n\
                def send(self, socket, message, payload, **more):\n    frames.append(message)\n    \
                return plain(self, socket, message, payload, **more)\nnative.Native.send = send";
    let end = "import time; time.sleep(40)";
    let other_ends = ["{'timed_out': {'limit_ms': 1}}", "'cancelled'", "{'worker_died': 'shim_lost'}"];
    let mut attacks: Vec<String> = vec![
        format!("channel.send(finished('waits')); {end}"),
        format!("channel.send(finished('unknown')); {end}"),
        // Until the other is there: what is said of one that nobody has heard of goes nowhere.
        "import time\nfor _ in range(4_000):\n    channel.send(display('waits')); time.sleep(0.01)"
            .to_owned(),
        format!("channel.send([frame for frame in frames if b'finished' in frame][-1]); {end}"),
    ];
    attacks.extend(other_ends.map(|other| format!("channel.send(finished('own', {other})); {end}")));
    for attack in attacks {
        let mut notebook = daemon.notebook("hostile");
        notebook.run(keep).ok();
        let options = ExecuteOptions { stop_on_error: false, ..ExecuteOptions::default() };
        let own = notebook.start_as("own".parse().unwrap(), &format!("{SEND}{attack}"), options.clone());
        let waits = notebook.start_as("waits".parse().unwrap(), "print('honest')", options);
        let ran = notebook.finish(own);
        assert!(
            matches!(ran.outcome.end, End::WorkerDied(Death::Protocol { .. })),
            "{attack}: {:?}",
            ran.outcome.end
        );
        // The other has its own end and its own output, in a new worker.
        let ran = notebook.finish(waits).ok();
        assert!(ran.stdout() == "honest\n" && ran.of_mime("text/plain").is_empty(), "{attack}: {ran:?}");
        witness.check(&mut notebook, &attack);
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Delete { notebook: id });
    }
    // Finished twice: the first counts, the second ends the worker, and there is no second Outcome.
    let mut notebook = daemon.notebook("hostile");
    notebook.run("variable = 1").ok();
    let code = format!("{SEND}channel.send(finished('twice')); channel.send(finished('twice')); {end}");
    let sent = notebook.start_as("twice".parse().unwrap(), &code, ExecuteOptions::default());
    assert_eq!(notebook.finish(sent).outcome.end, End::Ok);
    wait::until("the worker has ended", || notebook.status().worker_pid.is_none().then_some(()));
    let after = notebook.run("print('anew')").ok();
    assert_eq!((after.stdout().as_str(), after.notices().len()), ("anew\n", 1), "{after:?}");
    let again = notebook.attach(&"twice".parse().unwrap(), 0);
    assert_eq!(notebook.finish(again).outcome.end, End::Ok);
    witness.check(&mut notebook, "finished twice");
    // A display replayed is a display more, of its own notebook; one of an Execution that has ended
    // comes to nobody else.
    let code = format!("{SEND}one = display('shown', 1)\nchannel.send(one); channel.send(one); print('end')");
    let sent = notebook.start_as("shown".parse().unwrap(), &code, ExecuteOptions::default());
    let ran = notebook.finish(sent).ok();
    let displays = ran.outputs.iter().filter(|piece| matches!(piece.output, Output::Display { .. })).count();
    assert_eq!((displays, ran.stdout().as_str()), (2, "end\n"));
    let ran = notebook
        .run(&format!("{SEND}channel.send(display('shown')); channel.send(display('unknown')); pass"));
    assert_eq!(ran.ok().outputs, []);
    witness.check(&mut notebook, "replayed displays");
}

fn descriptors_sent_along_end_the_worker_and_cost_the_shim_few(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let send = "def send(message, fds): channel.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, \
                array.array('i', fds))])\npair = socket.socketpair()\nfd = pair[0].fileno()\nread, write = os.pipe()\n";
    for (attack, words) in [
        ("while True: send(display('own'), [fd] * 253)", "nobody asked for"),
        ("send(display('own'), [fd])", "nobody asked for"),
        ("send(b'', [fd] * 253)", "shorter than a header"),
        ("send(header(2, 0) + b'{}', [fd] * 253)", "nobody asked for"),
        ("send(header(2, 5, flags=2) + b'{}', [fd])", "memfd"),
        ("send(header(2, 5, flags=2) + b'{}', [read])", "memfd"),
        ("send(header(2, 5, flags=2) + b'{}', [os.open('/dev/zero', 0)])", "memfd"),
        ("send(header(2, 5, flags=2) + b'{}', [os.memfd_create('m')])", "memfd"),
        ("send(header(2, 64 << 20, flags=2) + b'{}', [os.memfd_create('m', os.MFD_ALLOW_SEALING)])", "memfd"),
    ] {
        let mut notebook = daemon.notebook("hostile");
        notebook.run("1").ok();
        let shim = shim_of(&daemon, &mut notebook);
        let count = || fs::read_dir(format!("/proc/{shim}/fd")).map_or(0, |entries| entries.count() as u64);
        let before = count();
        let code = format!(
            "{SEND}{send}try:\n    {attack}\nexcept OSError as error: print(error)\nimport time\ntime.sleep(40)"
        );
        let sent = notebook.start_as("own".parse().unwrap(), &code, ExecuteOptions::default());
        let mut looker = daemon.client();
        let id = notebook.id.clone();
        let most = highest(count, || looker.status(&id).running.is_none(), wait::PATIENCE);
        assert!(most <= before + 256, "{attack}: {before} descriptors before, {most} at most");
        let ran = notebook.finish(sent);
        let End::WorkerDied(Death::Protocol { detail }) = &ran.outcome.end else {
            panic!("{attack}: {:?}", ran.outcome.end)
        };
        assert!(detail.contains(words), "{attack}: {detail}");
        witness.check(&mut notebook, attack);
        let id = notebook.id.clone();
        // Deleted: what has been run is remembered over a close.
        notebook.client.tell(&Request::Delete { notebook: id });
    }
}

/// Requests at once: three times what a queue holds.
const PRESSED: usize = 3_000;

/// Sends so many requests over connections of its own and counts how they end; those that are held in
/// a queue are not waited for.
fn press(daemon: &Daemon, request: impl Fn(usize) -> Request) -> (usize, usize) {
    let (mut held, mut refused) = (0, 0);
    for connection in 0..PRESSED / 200 {
        let mut client = daemon.client();
        let sent: Vec<u32> = (0..200).map(|n| client.send(&request(200 * connection + n), b"1")).collect();
        for id in sent {
            match client.next_within(id, wait::PATIENCE).expect("an answer").reply {
                Reply::Error { code: ErrorCode::Busy, .. } => refused += 1,
                Reply::Accepted { .. } | Reply::Answer(_) => held += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    (held, refused)
}

fn worker_that_has_stopped_is_ended_by_the_clock_and_its_queue_is_bounded(setup: Setup) {
    let daemon = Daemon::start(setup.limits("short", "wall_ms = 20_000\ninterrupt_grace_ms = 1_000"));
    let mut witness = Witness::new(&daemon);
    let mut notebook = daemon.notebook_under("hostile", "short");
    notebook.run("1").ok();
    let shim = shim_of(&daemon, &mut notebook);
    let before = (rss_kb(shim), rss_kb(daemon.pid()));
    let options = ExecuteOptions { wall_ms: Some(20_000), ..ExecuteOptions::default() };
    let mut stopped = notebook.start_with(
        "import os, signal\nprint('up', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)",
        options,
    );
    notebook.until_stdout(&mut stopped, "up");
    let since = Instant::now();
    // On a busy machine the clock may come before the last of them, and the worker's end empties the queue.
    let is_late = || since.elapsed() >= Duration::from_secs(19);
    let id = notebook.id.clone();
    let execute = |n: usize| Request::Execute {
        notebook: id.clone(),
        execution: format!("queued-{n}").parse().unwrap(),
        options: ExecuteOptions::default(),
    };
    let (held, refused) = press(&daemon, execute);
    eprintln!("of {PRESSED} executions {held} wait and {refused} were refused");
    assert!((1..=1_000).contains(&held) || is_late(), "{held} wait, {refused} were refused");
    assert_eq!(held + refused, PRESSED);
    let query = |_| Request::Query { notebook: id.clone(), query: Query::History { last: 1 } };
    let (held, refused) = press(&daemon, query);
    assert!(refused == 0 || is_late(), "{held} wait, {refused} were refused");
    assert_eq!(held + refused, PRESSED);
    let after = (rss_kb(shim), rss_kb(daemon.pid()));
    assert!(
        after.0 < before.0 + (32 << 10) && after.1 < before.1 + (64 << 10),
        "{before:?} kB, then {after:?} kB"
    );
    assert_eq!(witness.neighbour.run("kept").ok().of_mime("text/plain"), [b"41"]);
    let ran = notebook.finish(stopped);
    assert_eq!(ran.outcome.end, End::TimedOut { limit_ms: 20_000 });
    witness.check(&mut notebook, "SIGSTOP");
}

fn worker_that_does_not_listen_is_ended(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut notebook = daemon.notebook("hostile");
    notebook.run("1").ok();
    // It says that it is done, and does not listen any more.
    let code = format!("{SEND}channel.send(finished('own'))\nimport time\nwhile True: time.sleep(1)");
    let sent = notebook.start_as("own".parse().unwrap(), &code, ExecuteOptions::default());
    assert_eq!(notebook.finish(sent).outcome.end, End::Ok);
    let shim = shim_of(&daemon, &mut notebook);
    let before = rss_kb(shim);
    let id = notebook.id.clone();
    let mut client = daemon.client();
    let query = Request::Query { notebook: id, query: Query::IsComplete };
    let code = vec![b'x'; 10_000];
    let sent: Vec<u32> = (0..200).map(|_| client.send(&query, &code)).collect();
    let ended = || notebook.status().worker_pid.is_none();
    let most = highest(|| rss_kb(shim), ended, Duration::from_secs(30));
    assert!(before > 0 && most < before + (16 << 10), "{before} kB before, {most} kB at the most");
    // The channel is full at once; whoever asked is told that the worker has ended.
    let replies: Vec<Reply> = sent.into_iter().map(|request| client.next(request).reply).collect();
    let told = replies.iter().filter(|reply| matches!(reply, Reply::Error { .. })).count();
    assert!(told > 0, "nobody was told: {replies:?}");
    witness.check(&mut notebook, "deaf");
}

fn million_marks_and_displays_leave_the_shim_small(setup: Setup) {
    let daemon = Daemon::start(setup.limits("narrow", "output_bytes = 1_000_000"));
    let mut witness = Witness::new(&daemon);
    let nonce = "import gc\nfrom cellblock_worker.native import Native\n\
                 nonce = bytes([found for found in gc.get_objects() if isinstance(found, Native)][0]._pipes.nonce)\n";
    let marks = |pipes: &str| {
        format!(
            "{nonce}for start in range(10**9, 10**9 + 10**6, 1000):\n    \
             data = b''.join(nonce + struct.pack('<Q', start + n) for n in range(1000))\n    \
             for pipe in {pipes}: os.write(pipe, data)"
        )
    };
    let same =
        format!("{nonce}for _ in range(1000): os.write(1, (nonce + struct.pack('<Q', 2**64 - 1)) * 1000)");
    let displays = "one = display('own')\nfor _ in range(10**6): channel.send(one)".to_owned();
    let far = "one = display('own', 2**63)\nfor _ in range(10**5): channel.send(one)".to_owned();
    for (name, attack) in [
        ("marks", marks("(1,)")),
        ("both", marks("(2, 1)")),
        ("same", same),
        ("displays", displays),
        ("far", far),
    ] {
        let mut notebook = daemon.notebook_under("hostile", "narrow");
        notebook.run("1").ok();
        let shim = shim_of(&daemon, &mut notebook);
        let before = (rss_kb(shim), rss_kb(daemon.pid()));
        let begun = Instant::now();
        let sent =
            notebook.start_as("own".parse().unwrap(), &format!("{SEND}{attack}"), ExecuteOptions::default());
        let mut looker = daemon.client();
        let id = notebook.id.clone();
        let mut most = (0, 0);
        highest(
            || {
                most = (most.0.max(rss_kb(shim)), most.1.max(rss_kb(daemon.pid())));
                0
            },
            || looker.status(&id).running.is_none(),
            3 * wait::PATIENCE,
        );
        eprintln!("{name}: {:?}; shim and daemon {before:?} kB before, {most:?} kB at most", begun.elapsed());
        assert!(most.0 < before.0 + (64 << 10), "{name}: {before:?} kB, then {most:?} kB");
        assert!(most.1 < before.1 + (64 << 10), "{name}: {before:?} kB, then {most:?} kB");
        let ran = notebook.finish(sent);
        assert!(
            matches!(ran.outcome.end, End::Ok | End::WorkerDied(Death::Protocol { .. })),
            "{name}: {:?}",
            ran.outcome
        );
        // Who forges marks has spoilt the order of his own worker's output; a new one has its own.
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Restart { notebook: id });
        witness.check(&mut notebook, name);
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Delete { notebook: id });
    }
}

fn gigabyte_without_a_newline_that_nobody_reads_leaves_the_shim_small(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut notebook = daemon.notebook("hostile");
    notebook.run("1").ok();
    let shim = shim_of(&daemon, &mut notebook);
    let before = (rss_kb(shim), rss_kb(daemon.pid()));
    let code = "import os\nblock = b'x' * (1 << 20)\nfor _ in range(1000):\n    rest = block\n    while rest: rest = rest[os.write(1, rest):]";
    let (id, execution) = (notebook.id.clone(), "own".parse().unwrap());
    let mut sent = notebook.start_as("own".parse().unwrap(), code, ExecuteOptions::default());
    notebook.until_accepted(&mut sent);
    drop(notebook);
    let mut looker = daemon.client();
    // Nobody reads it, so it goes to the disk, up to the cap, and runs on.
    let mut most = (0, 0);
    highest(
        || {
            most = (most.0.max(rss_kb(shim)), most.1.max(rss_kb(daemon.pid())));
            0
        },
        || looker.status(&id).running.is_none(),
        4 * wait::PATIENCE,
    );
    eprintln!("shim and daemon {before:?} kB before, {most:?} kB at most");
    assert!(
        most.0 < before.0 + (64 << 10) && most.1 < before.1 + (64 << 10),
        "{before:?} kB, then {most:?} kB"
    );
    let mut notebook = daemon.notebook("hostile");
    let sent = notebook.attach(&execution, 0);
    let ran = notebook.finish(sent).ok();
    let dropped: u64 = ran.gaps().iter().map(|(_, bytes, _)| bytes).sum();
    assert_eq!(ran.stdout().len() as u64 + dropped, 1000 << 20, "what is missing is counted to the byte");
    witness.check(&mut notebook, "a gigabyte");
}
