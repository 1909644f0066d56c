//! Limits hold in whichever tier of cgroups a host gives: as root with them and without, as an ordinary
//! user without. (v2 with controllers needs another host: `tests/machine/limits.py`.)

use std::time::Instant;

use cellblock_proto::client::{Reply, Request};
use cellblock_proto::execution::{Checkpoint, End, Limit, Variables};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::in_every_mode;
use cellblock_tests::setup::{Setup, Who};
use sandbox_profiles::{Barrier, BarrierState};

in_every_mode!(
    processor_time_of_all_processes_ends_the_execution_and_not_the_notebook,
    too_many_processes_are_told_as_such_and_the_next_cell_runs,
    memory_is_told_with_the_peak_that_was_reached,
    what_a_save_copies_is_no_cells_end,
    usage_of_an_execution_is_its_own,
);

const PROCESSES: u64 = 32;
const MEMORY: u64 = 300_000_000;

/// Takes more and more, as fast as somebody who looks from time to time can follow.
const HOARD: &str =
    "import time\nhoard = []\nwhile True:\n    hoard.append(b'x' * 4_000_000)\n    time.sleep(0.002)";

/// The daemons of this mode, one per tier, under a profile with small limits.
fn tiers(setup: &Setup) -> Vec<(BarrierState, Daemon)> {
    tiers_with(setup, "")
}

fn tiers_with(setup: &Setup, more: &str) -> Vec<(BarrierState, Daemon)> {
    let limits =
        format!("processes = {PROCESSES}\nmemory_bytes = {MEMORY}\ninterrupt_grace_ms = 2_000\n{more}");
    let setup = setup.clone().limits("small", &limits);
    let with = |setup: &Setup, tier: &str| Daemon::start(setup.clone().argument("--cgroup").argument(tier));
    let mut all = vec![(BarrierState::Missing, with(&setup, "none"))];
    if setup.who == Who::Root {
        all.push((BarrierState::Enforced, with(&setup, "auto")));
    }
    for (state, daemon) in &all {
        let mut notebook = daemon.notebook_under("a", "small");
        notebook.run("keep = 1").ok();
        let report = notebook.status().report.unwrap();
        let line = report.barriers.iter().find(|line| line.barrier == Barrier::Cgroup).unwrap();
        assert_eq!(line.state, *state, "{line:?}");
    }
    all
}

fn processor_time_of_all_processes_ends_the_execution_and_not_the_notebook(setup: Setup) {
    for (tier, daemon) in tiers_with(&setup, "cpu_ms = 400") {
        let mut notebook = daemon.notebook_under("a", "small");
        // 400 ms of processor time, however it is spread; the wall clock alone would take ten minutes.
        let spread =
            "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        while True: pass\nos.wait()";
        for (name, code) in [("one process", "while True: pass"), ("four processes", spread)] {
            let began = Instant::now();
            let ran = notebook.run(code);
            let End::LimitHit { limit: Limit::Cpu, allowed: 400, reached } = ran.outcome.end else {
                panic!("{tier:?} {name}: {:?}", ran.outcome)
            };
            assert!((400..3_000).contains(&reached), "{tier:?} {name}: {reached} ms");
            assert!(
                ran.outcome.usage.cpu_us >= 400_000 && began.elapsed().as_secs() < 20,
                "{:?}",
                ran.outcome
            );
            assert_eq!(ran.outcome.variables, Variables::Kept, "{tier:?} {name}");
            notebook.run("import os, signal\nkeep").ok();
        }
        // Whoever does not heed the interrupt goes with the sandbox.
        let ran =
            notebook.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass");
        assert!(matches!(ran.outcome.end, End::LimitHit { limit: Limit::Cpu, .. }), "{:?}", ran.outcome);
        assert_eq!(notebook.run("print(6 * 7)").ok().stdout(), "42\n");
    }
}

fn too_many_processes_are_told_as_such_and_the_next_cell_runs(setup: Setup) {
    for (tier, daemon) in tiers(&setup) {
        let mut notebook = daemon.notebook_under("a", "small");
        let mut neighbour = daemon.notebook("neighbour");
        let forks = "import os, time\nchildren = []\nfor _ in range(100):\n    pid = os.fork()\n    \
                     if pid == 0:\n        time.sleep(60)\n        os._exit(0)\n    children.append(pid)";
        let threads = "import threading\nstop = threading.Event()\n\
                       for _ in range(100): threading.Thread(target=stop.wait).start()";
        let tidy = "for pid in globals().pop('children', []):\n    os.kill(pid, 9)\n    os.waitpid(pid, 0)\n\
                    if 'stop' in globals(): stop.set()";
        for code in [forks, threads] {
            let ran = notebook.run(code);
            let End::LimitHit { limit: Limit::Processes, allowed: PROCESSES, reached } = ran.outcome.end
            else {
                panic!("{tier:?}: {:?}", ran.outcome)
            };
            assert!((PROCESSES - 1..PROCESSES + 2).contains(&reached), "{tier:?}: {reached}");
            assert!(ran.raised().is_some() || !ran.outputs.is_empty(), "the exception is told as well");
            neighbour.run("import subprocess\nsubprocess.run(['true'], check=True)").ok();
            notebook.run(tidy).ok();
            assert_eq!(notebook.run("print(keep)").ok().stdout(), "1\n");
        }
        // An error that has nothing to do with it stays what it is.
        assert_eq!(notebook.run("1 / 0").raised(), Some("ZeroDivisionError"));
    }
}

fn what_a_save_copies_is_no_cells_end(setup: Setup) {
    for (tier, daemon) in tiers_with(&setup, "[checkpoints]\nwhen = 'background'") {
        let mut notebook = daemon.notebook_under("a", "small");
        // Of chance, so that it takes its time to be saved.
        let make = "import os\ndata = None\ndata = bytearray(160 << 20)\n\
                    for at in range(0, len(data), 1 << 20): data[at:at + (1 << 20)] = os.urandom(1 << 20)";
        let write = "for at in range(0, len(data), 4096): data[at] = (data[at] + 1) % 256";
        let mut most = 0;
        for _ in 0..3 {
            // The second writes to all of it while the first is saved, and all of it once more is above the limit.
            let first = notebook.start(make);
            let second = notebook.start(&format!("import time\n{write}\ntime.sleep(0.2)\n{write}"));
            notebook.finish(first).ok();
            most = most.max(notebook.finish(second).ok().outcome.usage.memory_peak_bytes);
        }
        // Where a cgroup holds it, the limit was met; who sums from time to time finds a part of what was copied.
        assert!(tier == BarrierState::Missing || most > MEMORY - 4096, "nothing was copied: {most}");
        let id = notebook.id.clone();
        let asked = notebook.client.ask(&Request::Checkpoint { notebook: id }).unwrap();
        assert!(matches!(asked, Reply::Checkpoint(Checkpoint::Saved { .. })), "{tier:?}: {asked:?}");
        // A process of the cell's that is ended for want of memory is told all the same.
        let ran = notebook.run(HOARD);
        assert!(matches!(ran.outcome.end, End::LimitHit { limit: Limit::Memory, .. }), "{tier:?}: {ran:?}");
    }
}

fn memory_is_told_with_the_peak_that_was_reached(setup: Setup) {
    for (tier, daemon) in tiers(&setup) {
        let mut notebook = daemon.notebook_under("a", "small");
        let ran = notebook.run(HOARD);
        let End::LimitHit { limit: Limit::Memory, allowed: MEMORY, reached } = ran.outcome.end else {
            panic!("{tier:?}: {:?}", ran.outcome)
        };
        assert!((MEMORY - 4096..MEMORY * 2).contains(&reached), "{tier:?}: {reached}");
        assert_eq!(ran.outcome.usage.memory_peak_bytes, reached, "{tier:?}");
        assert_eq!(notebook.run("print(6 * 7)").ok().stdout(), "42\n");
        // Nor does it help to have so many descriptors that whoever looks at them is long at it.
        let crowd = "import os, time\nheld = [os.dup(1) for _ in range(900)]\nfor _ in range(20):\n    \
                     if os.fork() == 0: time.sleep(60)\nhoard = []\nfor _ in range(200):\n    \
                     hoard.append(b'x' * 4_000_000)\n    time.sleep(0.01)\ntime.sleep(5)";
        let ran = daemon.notebook_under("crowd", "small").run(crowd);
        let End::LimitHit { limit: Limit::Memory, reached, .. } = ran.outcome.end else {
            panic!("{tier:?}: {:?}", ran.outcome)
        };
        assert!(reached < MEMORY * 2, "{tier:?}: {reached}");
        if tier == BarrierState::Enforced {
            // Pipes hold memory that no process maps and no watcher sees: only the kernel's account does.
            // It gives one user 64 MiB of pipes, so there is something else first, and not too much.
            let pipes = "import fcntl, os\nrss = int([l for l in open('/proc/self/status') if l.startswith('VmRSS')][0].split()[1]) << 10\n\
                         ballast = bytearray(b'x') * (300_000_000 - rss - 40_000_000)\nprint('held', flush=True)\nheld = []\n\
                         block = bytes(1 << 20)\nfor _ in range(60):\n    ends = os.pipe()\n    \
                         fcntl.fcntl(ends[1], 1031, 1 << 20)\n    os.set_blocking(ends[1], False)\n    \
                         os.write(ends[1], block)\n    held.append(ends)";
            let ran = daemon.notebook_under("pipes", "small").run(pipes);
            assert!(
                matches!(ran.outcome.end, End::LimitHit { limit: Limit::Memory, .. }),
                "{:?}",
                ran.outcome
            );
            assert_eq!(ran.stdout(), "held\n");
        }
    }
}

fn usage_of_an_execution_is_its_own(setup: Setup) {
    for (tier, daemon) in tiers(&setup) {
        let mut notebook = daemon.notebook_under("a", "small");
        let ran = notebook.run(
            "import os, time\nfile = os.open('f', os.O_CREAT | os.O_WRONLY)\nos.write(file, bytes(8 << 20))\nos.fsync(file)\n\
             block = bytearray(b'x') * (64 << 20)\nuntil = time.process_time() + 0.1\n\
             while time.process_time() < until: pass",
        );
        let usage = ran.ok().outcome.usage;
        assert!(usage.written_bytes >= 8 << 20 && usage.written_bytes < 64 << 20, "{tier:?}: {usage:?}");
        assert!(usage.cpu_us >= 90_000 && usage.cpu_us < 400_000, "{tier:?}: {usage:?}");
        assert!(usage.memory_peak_bytes >= 64 << 20, "{tier:?}: {usage:?}");
        notebook.run("del block").ok();
        let next = notebook.run("1").ok().outcome.usage;
        assert!(next.written_bytes < 1 << 20 && next.cpu_us < 90_000, "{tier:?}: {next:?}");
    }
}
