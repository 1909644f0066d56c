//! Limits hold whatever a cell keeps its memory in, and say what was reached.

use cellblock_proto::execution::{End, Limit};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::in_every_mode;
use cellblock_tests::setup::Setup;

in_every_mode!(memory_that_no_process_maps_counts, memory_that_is_seen_twice_counts_once,);

const MEMORY: u64 = 300_000_000;

fn small(setup: Setup) -> Daemon {
    // In a host's own /dev/shm and /tmp there is room for all of it.
    Daemon::start(
        setup.limits("small", &format!("memory_bytes = {MEMORY}\nprocesses = 64\nopen_files = 256")),
    )
}

const PRELUDE: &str = "import ctypes, mmap, os, threading, time
libc = ctypes.CDLL(None, use_errno=True)
block = bytes(4 << 20)
def fill(fd):
    for _ in range(200):
        os.write(fd, block)
        time.sleep(0.004)
    time.sleep(10)
";

/// 800 MB each, slowly enough for a watcher, in places that no process's own numbers show. Whoever is not
/// stopped ends by itself soon after, so that the test can name him.
const HOARDS: [(&str, &str); 6] = [
    ("a memfd", "fill(os.memfd_create('a'))"),
    ("a memfd of a child", "pid = os.fork()\nif pid == 0: fill(os.memfd_create('a'))\nos.waitpid(pid, 0)"),
    (
        "a memfd in a thread's own table",
        "def own():\n    assert libc.unshare(0x400) == 0\n    fill(os.memfd_create('a'))\n\
         t = threading.Thread(target=own)\nt.start()\nt.join()",
    ),
    ("/dev/shm", "fill(os.open('/dev/shm/a', os.O_CREAT | os.O_WRONLY))"),
    ("/tmp, unlinked", "fd = os.open('/tmp/a', os.O_CREAT | os.O_WRONLY)\nos.unlink('/tmp/a')\nfill(fd)"),
    (
        "SysV segments that nobody has attached",
        "libc.shmat.restype = ctypes.c_void_p\nfor _ in range(200):\n    \
         at = libc.shmat(libc.shmget(0, 4 << 20, 0o1600), None, 0)\n    \
         ctypes.memset(at, 1, 4 << 20)\n    libc.shmdt(ctypes.c_void_p(at))\n    time.sleep(0.004)\ntime.sleep(10)",
    ),
];

fn memory_that_no_process_maps_counts(setup: Setup) {
    let daemon = small(setup);
    let mut bystander = daemon.notebook("bystander");
    bystander.run("y = 7").ok();
    let mut wrong = Vec::new();
    for (number, (name, code)) in HOARDS.iter().enumerate() {
        let mut notebook = daemon.notebook_under(&format!("n{number}"), "small");
        notebook.run("keep = 1").ok();
        let ran = notebook.run(&format!("{PRELUDE}{code}"));
        match ran.outcome.end {
            // The kernel stops at the last page below the limit.
            End::LimitHit { limit: Limit::Memory, allowed: MEMORY, reached }
                if (MEMORY - 4096..MEMORY * 2).contains(&reached) => {}
            ref end => wrong.push(format!("{name}: {end:?} {}", ran.stderr())),
        }
        notebook.run("1").ok();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(bystander.run("y").ok().shape(), [("result", "7".to_owned())]);
}

fn memory_that_is_seen_twice_counts_once(setup: Setup) {
    let daemon = small(setup);
    let mut notebook = daemon.notebook_under("a", "small");
    // 160 MB each time; by the sum of what each process and each place says it is 960 MB.
    let shared = "
def share(fd):
    os.ftruncate(fd, 160_000_000)
    shared = mmap.mmap(fd, 160_000_000)
    for at in range(0, len(shared), 4096): shared[at] = 1
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            sum(shared[::4096])
            time.sleep(0.5)
            os._exit(0)
        children.append(pid)
    for pid in children: assert os.waitpid(pid, 0)[1] == 0
    shared.close()
    os.close(fd)
";
    notebook.run(&format!("{PRELUDE}{shared}")).ok();
    notebook.run("share(os.memfd_create('a'))").ok();
    notebook.run("share(os.open('/dev/shm/a', os.O_CREAT | os.O_RDWR))\nos.unlink('/dev/shm/a')").ok();
    // And what has been given back counts no more.
    notebook.run("share(os.memfd_create('b'))").ok();
}
