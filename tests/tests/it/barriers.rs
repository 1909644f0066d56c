//! Barriers that stand behind others: attacks that only one of them stops.

use std::process::Command;

use cellblock_tests::daemon::Daemon;
use cellblock_tests::in_every_mode;
use cellblock_tests::setup::Setup;
use sandbox_profiles::{Barrier, BarrierState};

in_every_mode!(landlock_refuses_what_no_other_barrier_does, ipc_objects_are_few,);

fn landlock_refuses_what_no_other_barrier_does(setup: Setup) {
    let daemon = Daemon::start(setup);
    // A whiteout is the one device that anybody may make; a bind to any address needs no interface.
    let code = "import os, socket, stat, tempfile\ndef attempt(name, what):\n    \
        try: what(); print(name, 0)\n    except OSError as error: print(name, error.errno)\n\
        folder = tempfile.mkdtemp()\n\
        attempt('whiteout', lambda: os.mknod(folder + '/w', stat.S_IFCHR))\n\
        attempt('tcp', lambda: socket.socket().bind(('0.0.0.0', 0)))\n\
        attempt('signal', lambda: os.kill(1 if os.getpid() == 2 else os.getpid(), 0))";
    let inside = daemon.notebook("probe").run(code).ok().stdout();
    assert_eq!(inside, "whiteout 13\ntcp 13\nsignal 1\n");
    let output = Command::new(&daemon.setup().python).args(["-c", code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "whiteout 0\ntcp 0\nsignal 0\n", "the control");
    // What programs need goes on working.
    let works = "import multiprocessing, os, signal, subprocess, tempfile\n\
        print(subprocess.run(['sh', '-c', 'echo x > /dev/null; echo y'], capture_output=True).stdout)\n\
        os.makedirs('a'); open('a/f', 'w').close(); os.rename('a/f', 'g')\n\
        with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n\
        child = subprocess.Popen(['sleep', '100']); child.send_signal(signal.SIGTERM); print(child.wait())\n\
        open('/proc/self/oom_score_adj', 'w').write('500')\n\
        open('s', 'w').write('#!/bin/sh\\necho script'); os.chmod('s', 0o700)\n\
        print(subprocess.run(['./s'], capture_output=True).stdout)";
    let ran = daemon.notebook("works").run(works);
    assert_eq!(ran.ok().stdout(), "b'y\\n'\n[1, 2]\n-15\nb'script\\n'\n");
    let report = daemon.notebook("works").status().report.unwrap();
    let line = |barrier| report.barriers.iter().find(|line| line.barrier == barrier).unwrap();
    let landlock = line(Barrier::Landlock);
    assert_eq!(landlock.state, BarrierState::Enforced, "{landlock:?}");
    assert!(landlock.detail.contains("TCP held in; signals and abstract sockets held in"), "{landlock:?}");
    assert!(!line(Barrier::Memory).detail.contains("not seen"), "{report:?}");
}

fn ipc_objects_are_few(setup: Setup) {
    let daemon = Daemon::start(setup);
    let code = "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        made = [libc.msgget(0, 0o1600) for _ in range(17)]\nerror = ctypes.get_errno()\n\
        for number in made:\n    libc.msgctl(number, 0, None)\n\
        many = libc.semget(0, 33, 0o1600)\nlibc.semctl(many, 0, 0)\n\
        print(sum(number >= 0 for number in made), made[-1] < 0 and error == errno.ENOSPC, many < 0)";
    assert_eq!(daemon.notebook("probe").run(code).ok().stdout(), "16 True True\n");
    let output = Command::new(&daemon.setup().python).args(["-c", code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "17 False False\n", "the control");
}
