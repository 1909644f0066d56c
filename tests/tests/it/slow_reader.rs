//! Much output and a client that reads slowly or never: memory stays flat, nothing is lost below
//! the cap, what is lost above it is said to the byte, and nobody else waits.

use std::fs;
use std::time::{Duration, Instant};

use cellblock_proto::client::Reply;
use cellblock_proto::execution::{End, Output, StreamName};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, wait};

as_root_and_user!(
    slow_reader_gets_200_mb_whole_while_memory_stays_flat,
    output_above_the_cap_is_cut_with_head_tail_and_the_exact_count,
    client_that_never_reads_stops_nobody_else,
);

const MANY: usize = 200_000_000;
const FLAT_KB: u64 = 64 << 10;

pub(crate) fn rss_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn ours(daemon: &Daemon) -> Vec<i32> {
    let shims = daemon.processes_named("cellblock-shim").into_iter().map(|process| process.pid);
    shims.chain([daemon.pid()]).collect()
}

fn slow_reader_gets_200_mb_whole_while_memory_stays_flat(setup: Setup) {
    let daemon = Daemon::start(setup.limits("wide", "output_bytes = 1_000_000_000"));
    let mut notebook = daemon.notebook_under("a", "wide");
    notebook.run("1").ok();
    let processes = ours(&daemon);
    let before: Vec<u64> = processes.iter().map(|pid| rss_kb(*pid)).collect();
    let sent = notebook.start("line = 'x' * 99\nfor _ in range(2_000_000): print(line)");
    let (mut bytes, mut highest, mut next_seq) = (0, vec![0; processes.len()], 0);
    let outcome = loop {
        let answer = notebook.client.next(sent.request);
        match answer.reply {
            Reply::Accepted { .. } => {}
            Reply::Output(frame) => {
                assert_eq!(
                    (frame.seq, &frame.output),
                    (next_seq, &Output::Stream { name: StreamName::Stdout })
                );
                next_seq += 1;
                bytes += answer.payload.len();
                if next_seq % 16 == 0 {
                    // The time a slow reader takes: bound to what it reads, not to a clock.
                    let pause = Instant::now() + Duration::from_millis(20);
                    while Instant::now() < pause {
                        for (at, pid) in processes.iter().enumerate() {
                            highest[at] = highest[at].max(rss_kb(*pid));
                        }
                    }
                }
            }
            Reply::Outcome { outcome, .. } => break outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((outcome.end, bytes), (End::Ok, MANY));
    for (before, highest) in before.iter().zip(&highest) {
        eprintln!("memory of a process of ours: {before} kB before, {highest} kB at most");
        assert!(*highest < before + FLAT_KB, "{before} kB before, {highest} kB at most");
    }
}

fn output_above_the_cap_is_cut_with_head_tail_and_the_exact_count(setup: Setup) {
    let daemon = Daemon::start(setup.limits("narrow", "output_bytes = 1_000_000"));
    let mut notebook = daemon.notebook_under("a", "narrow");
    let ran = notebook
        .run("import sys\nfor n in range(100_000): print(f'{n:099d}')\nprint('errors', file=sys.stderr)")
        .ok();
    let all: String = (0..100_000).map(|n| format!("{n:099}\n")).collect();
    let gaps = ran.gaps();
    let [(Some(StreamName::Stdout), dropped, reason)] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(reason.contains("output_bytes") && reason.contains("1000000"), "{reason}");
    let stdout = ran.stdout();
    assert_eq!(stdout.len() as u64 + dropped, all.len() as u64, "the count is exact");
    // Where the gap is, by position among the outputs.
    let gap_at =
        ran.outputs.iter().position(|piece| matches!(piece.output, Output::Truncated { .. })).unwrap();
    let head: usize = ran.outputs[..gap_at].iter().map(|piece| piece.payload.len()).sum();
    assert_eq!(head, 1_000_000, "the head goes up to the cap");
    assert_eq!(stdout[..head], all[..head]);
    assert_eq!(stdout[head..], all[head + usize::try_from(*dropped).unwrap()..]);
    assert!(stdout.len() - head >= 10_000, "a tail of {} bytes", stdout.len() - head);
    // The next cell has its cap for itself.
    assert_eq!(notebook.run("print('x' * 900_000)").ok().gaps(), []);
}

fn client_that_never_reads_stops_nobody_else(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut deaf = daemon.notebook("deaf");
    drop(deaf.run("1"));
    let sent = deaf.start("import time\nfor n in range(10**9): print('x' * 99)");
    let mut other = daemon.notebook("other");
    // Until its notebook is held up: its worker no longer runs.
    let worker = other.client.status(&deaf.id).worker_pid.unwrap();
    let ticks = || fs::read_to_string(format!("/proc/{worker}/schedstat")).unwrap_or_default();
    let mut last = (ticks(), Instant::now());
    wait::until("a worker whose client does not read is held back", || {
        let now = ticks();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(500)).then_some(())
    });
    let begun = Instant::now();
    for number in 0..20 {
        assert_eq!(other.run(&format!("print({number})")).ok().stdout(), format!("{number}\n"));
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    // The deaf client's notebook heeds an interrupt all the same.
    let notebook = deaf.id.clone();
    other.client.tell(&cellblock_proto::client::Request::Interrupt { notebook });
    let end = loop {
        match deaf.client.next(sent.request).reply {
            Reply::Outcome { outcome, .. } => break outcome.end,
            Reply::Output(_) | Reply::Accepted { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end, End::Interrupted);
}
