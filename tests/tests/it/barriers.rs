//! Barriers that stand behind others: attacks that only one of them stops.

use std::process::Command;

use cellblock_proto::client::Request;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, Who, skip, we_are_root};
use cellblock_tests::{in_every_mode, in_one_mode};
use sandbox_profiles::{Barrier, BarrierState};

in_every_mode!(
    landlock_refuses_what_no_other_barrier_does,
    ipc_objects_are_few,
    locks_do_not_cross_sandboxes,
    loopback_is_the_sandboxs_own,
);

in_one_mode!(masked_proc_of_the_host_is_no_hindrance_to_root, nothing_is_mounted_where_the_daemon_lives,);

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

fn locks_do_not_cross_sandboxes(setup: Setup) {
    let daemon = Daemon::start(setup);
    let (mut one, mut other) = (daemon.notebook("one"), daemon.notebook("other"));
    let files =
        "import fcntl, os, sys\nfiles = ['/usr/bin/env', os.path.realpath(sys.executable), '/dev/null']\n";
    // Held until the worker ends.
    let lock = format!(
        "{files}held = [open(path) for path in files]\nfor file in held: fcntl.flock(file, fcntl.LOCK_EX)"
    );
    let look = format!(
        "{files}def is_free(path):\n    try: fcntl.flock(open(path), fcntl.LOCK_SH | fcntl.LOCK_NB); return True\n    \
         except BlockingIOError: return False\nprint([is_free(path) for path in files])"
    );
    one.run(&lock).ok();
    // An ordinary user's sandboxes share the host's device nodes, which the report says.
    let devices = daemon.setup().who == Who::Root;
    let expected = format!("[True, True, {}]\n", if devices { "True" } else { "False" });
    assert_eq!(other.run(&look).ok().stdout(), expected);
    let report = other.status().report.unwrap();
    let line = |barrier| report.barriers.iter().find(|line| line.barrier == barrier).unwrap();
    assert_eq!(line(Barrier::Devices).state == BarrierState::Enforced, devices, "{report:?}");
    assert_eq!(line(Barrier::Overlay).state, BarrierState::Enforced, "{report:?}");
    // Outside, between two processes that share the files; nobody else may hold them then.
    let id = one.id.clone();
    one.client.tell(&Request::Close { notebook: id });
    let outside = format!(
        "{lock}\nimport subprocess\nprint(subprocess.run([sys.executable, '-c', {look:?}], stdout=-1, text=True).stdout, end='')"
    );
    let output = Command::new(&daemon.setup().python).args(["-c", &outside]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[False, False, False]\n", "the control");
    // Programs run from there, and nobody can change them.
    let works = "import subprocess, os\nprint(subprocess.run(['env', 'true']).returncode, os.access('/usr/bin/env', os.W_OK))";
    assert_eq!(other.run(works).ok().stdout(), "0 False\n");
}

fn loopback_is_the_sandboxs_own(setup: Setup) {
    let daemon = Daemon::start(setup.profile("local", "version = 1\nnetwork = \"loopback\"\n"));
    let talk = "import socket\nserver = socket.create_server(('127.0.0.1', 4321))\n\
                client = socket.create_connection(('127.0.0.1', 4321), 5)\nserver.accept()[0].send(b'heard')\n\
                print(client.recv(5), socket.if_nameindex())";
    let mut one = daemon.notebook_under("one", "local");
    assert_eq!(one.run(talk).ok().stdout(), "b'heard' [(1, 'lo')]\n");
    // The same port once more, in another sandbox, while the first still listens; and none without it.
    assert_eq!(daemon.notebook_under("two", "local").run(talk).ok().stdout(), "b'heard' [(1, 'lo')]\n");
    assert!(daemon.notebook("three").run(talk).raised().is_some());
    let away = "import socket\nsocket.create_connection(('192.0.2.1', 9), 5)";
    assert_eq!(one.run(away).raised(), Some("OSError"), "there is no way out");
}

fn masked_proc_of_the_host_is_no_hindrance_to_root(setup: Setup) {
    if !we_are_root() {
        return skip("only root can cover parts of /proc");
    }
    let daemon = Daemon::start(setup.masked_proc());
    let covered = format!("/proc/{}/mountinfo", daemon.pid());
    let covered = std::fs::read_to_string(covered).unwrap();
    assert!(covered.lines().any(|mount| mount.contains(" /proc/sys ")), "nothing is covered: {covered}");
    let code = "import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), open('/proc/self/comm').read())";
    assert!(daemon.notebook("a").run(code).ok().stdout().starts_with("[1, 2]"));
    // And the masks of the sandbox's own are there.
    let masks = "print(open('/proc/keys').read() == '', open('/proc/cmdline').read() == '')\nopen('/proc/sys/kernel/hostname', 'w')";
    let ran = daemon.notebook("a").run(masks);
    assert_eq!((ran.stdout().as_str(), ran.raised()), ("True True\n", Some("OSError")));
}

fn nothing_is_mounted_where_the_daemon_lives(setup: Setup) {
    if !we_are_root() {
        return skip("only root can make mounts that travel");
    }
    let daemon = Daemon::start(setup.shared_mounts());
    let mounts = || std::fs::read_to_string(format!("/proc/{}/mountinfo", daemon.pid())).unwrap();
    let before = mounts();
    assert!(before.contains(" shared:"), "nothing travels there: {before}");
    let mut notebook = daemon.notebook("a");
    notebook.run("1").ok();
    assert_eq!(mounts(), before, "while a sandbox lives");
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Close { notebook: id });
    assert_eq!(mounts(), before, "after its end");
}
