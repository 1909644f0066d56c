//! What code in a sandbox can see and do. Each probe also runs outside, where it must show the
//! opposite: a probe that finds nothing anywhere proves nothing.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, Who};
use cellblock_tests::{in_every_mode, leftovers, wait};
use sandbox_profiles::ids::DEFAULT_FIRST_HOST_UID;

in_every_mode!(
    worker_has_no_capability_no_new_privileges_no_seccomp_and_nobodys_id,
    processes_and_files_of_the_host_are_not_there,
    network_is_a_loopback_that_is_down,
    kernel_interfaces_that_make_sandboxes_are_refused,
    system_is_read_only_and_devices_are_few,
    environment_and_descriptors_are_an_allow_list,
    workspace_persists_and_belongs_to_nobody_of_the_host,
    notebooks_do_not_see_each_other,
);

/// What a probe prints, inside and outside. Outside means: the same Python, started by the test.
struct Probe {
    inside: String,
    outside: String,
}

fn inside(daemon: &Daemon, code: &str) -> String {
    daemon.notebook("probe").run(code).ok().stdout().trim().to_owned()
}

fn outside(setup: &Setup, code: &str) -> String {
    let output = Command::new(&setup.python).args(["-c", code]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn probe(daemon: &Daemon, code: &str) -> Probe {
    Probe { inside: inside(daemon, code), outside: outside(daemon.setup(), code) }
}

fn worker_has_no_capability_no_new_privileges_no_seccomp_and_nobodys_id(setup: Setup) {
    let daemon = Daemon::start(setup);
    let code = "for line in open('/proc/self/status'):\n    \
                if line.startswith(('Cap', 'NoNewPrivs', 'Seccomp:', 'Uid', 'Groups')): print(*line.split())";
    let found = probe(&daemon, code);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(found.inside.contains(&format!("{set}: 0000000000000000")), "{}", found.inside);
    }
    assert!(
        found.inside.contains("NoNewPrivs: 1") && found.inside.contains("Seccomp: 0"),
        "{}",
        found.inside
    );
    assert!(found.inside.contains("Uid: 1000 1000 1000 1000"), "{}", found.inside);
    assert!(!found.outside.contains("CapBnd: 0000000000000000"), "{}", found.outside);
    assert!(found.outside.contains("NoNewPrivs: 0"), "{}", found.outside);
    // On many machines 1000 is the one ordinary user, who may be us.
    let own = format!("Uid: {} ", rustix::process::geteuid().as_raw());
    assert!(own == "Uid: 1000 " || !found.outside.contains("Uid: 1000 "), "{}", found.outside);
    // As the host sees the worker: nobody's id, or the user's own.
    let worker = daemon.notebook("probe").status().worker_pid.unwrap();
    let uid = fs::metadata(format!("/proc/{worker}/status")).unwrap().uid();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    match daemon.setup().who {
        Who::Root => assert!(line.split_ascii_whitespace().skip(1).all(|id| id.len() == 10), "{line} {uid}"),
        Who::User => assert!(line.contains(&Who::User.uid().to_string()), "{line}"),
    }
}

fn processes_and_files_of_the_host_are_not_there(setup: Setup) {
    let daemon = Daemon::start(setup);
    let found =
        probe(&daemon, "import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))");
    assert_eq!(found.inside, "[1, 2]", "init and the worker, nobody else");
    assert!(found.outside.split(',').count() > 3, "{}", found.outside);

    let secret = daemon.state_dir().join("secret");
    fs::write(&secret, "told").unwrap();
    let mut paths = vec!["/etc/shadow".to_owned(), "/etc/hostname".to_owned()];
    paths.extend(
        ["/var/log", "/var/lib", "/home", "/sys", "/run", "/boot", "/proc/1/environ"].map(str::to_owned),
    );
    // The way to the interpreter is shown; what lies beside it is looked at below.
    paths.retain(|path| !daemon.setup().python.starts_with(path));
    paths.extend([secret.display().to_string(), daemon.socket().display().to_string()]);
    let code = format!(
        "import os\ndef can(path):\n    try:\n        os.listdir(path) if os.path.isdir(path) else open(path).close()\n        \
         return True\n    except OSError as error:\n        return os.path.exists(path) and error.errno == 6\n\
         print([path for path in {paths:?} if can(path)])"
    );
    let found = probe(&daemon, &code);
    assert_eq!(found.inside, "[]");
    for path in ["/etc/hostname", "/var/log", "/sys", "secret"] {
        assert!(found.outside.contains(path), "{path} is not there outside either: {}", found.outside);
    }
    // Of the folders above the interpreter, the way to it and nothing beside it.
    let above = "import os\nprint(sum(([f'{f}/{n}' for n in os.listdir(f)] for f in ('/root', '/var', '/work', '/home') \
                 if os.path.isdir(f) and os.access(f, os.R_OK)), []))";
    let found = probe(&daemon, above);
    for path in found.inside.split('\'').filter(|word| word.starts_with('/')) {
        let program = fs::canonicalize(&daemon.setup().python).unwrap();
        let leads = |program: &std::path::Path| program.starts_with(path);
        assert!(leads(&program) || leads(&daemon.setup().python), "{path} is shown: {}", found.inside);
    }
    assert!(found.outside.split(',').count() > 3, "{}", found.outside);
}

fn network_is_a_loopback_that_is_down(setup: Setup) {
    let daemon = Daemon::start(setup);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let namespace = probe(&daemon, "import os\nprint(os.readlink('/proc/self/ns/net'))");
    let ours = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    // Nothing is sent anywhere before this holds.
    assert_ne!(namespace.inside, ours);
    assert_eq!(namespace.outside, ours);
    let names = inside(&daemon, "import socket\nprint(socket.if_nameindex())");
    assert_eq!(names, "[(1, 'lo')]");
    let code = format!(
        "import socket\ns = socket.socket()\ns.settimeout(5)\ntry:\n    s.connect(('127.0.0.1', {port}))\n    \
         s.send(b'hello')\n    print('connected')\nexcept OSError as error:\n    print('refused', error.errno)"
    );
    let found = probe(&daemon, &code);
    assert!(found.inside.starts_with("refused"), "{}", found.inside);
    assert_eq!(found.outside, "connected");
    let mut heard = [0; 5];
    listener.accept().unwrap().0.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello", "the control's, and nobody else's");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody else has connected");
}

fn kernel_interfaces_that_make_sandboxes_are_refused(setup: Setup) {
    let daemon = Daemon::start(setup);
    // Each in a child of its own, so that what works outside (where it must) changes nothing.
    let code = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        USER, MOUNT = 0x10000000, 0x00020000\n\
        def enter():\n    return libc.unshare(USER | MOUNT)\n\
        def mount():\n    enter(); return libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)\n\
        def pids():\n    enter(); return libc.unshare(0x20000000)\n\
        def setns():\n    fd = os.open('/proc/self/ns/user', os.O_RDONLY)\n    enter(); return libc.unshare(0x40000000)\n\
        def chroot():\n    enter(); return libc.chroot(b'/tmp')\n\
        def hostname():\n    enter(); libc.unshare(0x04000000); return libc.sethostname(b'mine', 4)\n\
        for attempt in (enter, mount, pids, setns, chroot, hostname):\n    \
        pid = os.fork()\n    \
        if pid == 0:\n        \
        try: os._exit(0 if attempt() == 0 else 1)\n        \
        except BaseException: os._exit(2)\n    \
        print(attempt.__name__, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)";
    let found = probe(&daemon, code);
    for attempt in ["enter", "mount", "pids", "setns", "chroot", "hostname"] {
        assert!(found.inside.contains(&format!("{attempt} 1")), "{attempt}: {}", found.inside);
        assert!(found.outside.contains(&format!("{attempt} 0")), "{attempt}: {}", found.outside);
    }
    // io_uring_setup with one entry: locked memory is 0, so there is none for its rings.
    let ring = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n\
                print(libc.syscall(425, 1, ctypes.create_string_buffer(120)) >= 0, ctypes.get_errno())";
    let found = probe(&daemon, ring);
    assert!(found.inside.starts_with("False"), "{}", found.inside);
    if found.outside.starts_with("False") {
        eprintln!("no control for io_uring: this kernel refuses it to everybody ({})", found.outside);
    }
}

fn system_is_read_only_and_devices_are_few(setup: Setup) {
    let daemon = Daemon::start(setup);
    let writable = "import os\nprint([p for p in ('/', '/usr', '/usr/bin', '/etc') if not os.statvfs(p).f_flag & os.ST_RDONLY])";
    let found = probe(&daemon, writable);
    assert_eq!(found.inside, "[]");
    assert!(found.outside.contains("'/usr'"), "{}", found.outside);
    let attempts = "for path in ('/usr/new', '/new', '/etc/passwd', '/proc/sys/kernel/hostname', '/proc/sysrq-trigger'):\n    \
        try:\n        open(path, 'a').close(); print(path)\n    except OSError: pass\nprint('tried')";
    assert_eq!(inside(&daemon, attempts), "tried");

    let found = probe(&daemon, "import os\nprint(sorted(os.listdir('/dev')))");
    let expected = "['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', 'zero']";
    assert_eq!(found.inside, expected);
    assert_ne!(found.outside, expected);
    let works = "import os\nopen('/dev/null', 'w').write('x')\nprint(len(open('/dev/zero', 'rb').read(3)), \
                 len(open('/dev/urandom', 'rb').read(4)))\nopen('/tmp/t', 'w').write('x')\nopen('/dev/shm/s', 'w').write('x')";
    assert_eq!(inside(&daemon, works), "3 4");
}

fn environment_and_descriptors_are_an_allow_list(setup: Setup) {
    let daemon = Daemon::start(setup);
    // What it was started with, which stays readable there whatever Python does to os.environ.
    let code = "print([p.split(b'=')[0].decode() for p in open('/proc/self/environ', 'rb').read().split(b'\\0') if p])";
    let found = probe(&daemon, code);
    let mut allowed = vec![
        "CELLBLOCK_CACHE",
        "CELLBLOCK_NATIVE",
        "CELLBLOCK_NONCE",
        "CELLBLOCK_PROFILE",
        "HOME",
        "IPYTHONDIR",
        "LANG",
        "LC_CTYPE",
        "MPLBACKEND",
        "MPLCONFIGDIR",
        "PATH",
        "TMPDIR",
        "USER",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
    ];
    let beyond = |names: &str, allowed: &[&str]| -> Vec<String> {
        let names = names.split('\'').filter(|word| word.starts_with(char::is_alphabetic));
        names.filter(|name| !allowed.contains(name)).map(str::to_owned).collect()
    };
    assert_eq!(beyond(&found.inside, &allowed), Vec::<String>::new());
    assert!(
        found.inside.contains("HOME") && found.outside.contains("CELLBLOCK_TEST_PYTHON"),
        "{}",
        found.outside
    );
    // What the worker and its libraries add for themselves.
    allowed.extend(["CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GIT_PAGER", "LINES", "PAGER"]);
    allowed.extend(["PLOTLY_RENDERER", "TERM"]);
    let own = inside(&daemon, "import os\nprint(sorted(os.environ))");
    assert_eq!(beyond(&own, &allowed), Vec::<String>::new());

    let code = "import os\nfor fd in sorted(int(n) for n in os.listdir('/proc/self/fd')):\n    \
                try: print(fd, os.readlink(f'/proc/self/fd/{fd}'))\n    except OSError: pass";
    for line in inside(&daemon, code).lines() {
        let (fd, target) = line.split_once(' ').unwrap();
        // The last is the process that saves the variables, which is in the sandbox too.
        let kinds = [
            "/dev/null",
            "pipe:[",
            "socket:[",
            "/memfd:",
            "anon_inode:[eventpoll]",
            "anon_inode:[eventfd]",
            "anon_inode:[pidfd]",
        ];
        assert!(kinds.iter().any(|kind| target.starts_with(kind)), "descriptor {line}");
        assert!(fd != "0" || target == "/dev/null", "{line}");
    }
}

fn workspace_persists_and_belongs_to_nobody_of_the_host(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let ran = notebook.run(
        "import os\nos.makedirs('folder'); open('folder/file', 'w').write('kept'); s = os.stat('folder/file')\n\
         print(os.getcwd(), s.st_uid, s.st_gid)\nos.symlink('/etc/shadow', 'link')",
    );
    assert_eq!(ran.ok().stdout(), "/workspace 1000 1000\n");
    let path = daemon.workspace("a").join("folder/file");
    let found = fs::metadata(&path).unwrap();
    let uid = match daemon.setup().who {
        // Seen through the worker's own mount, where its files are its own.
        Who::Root => DEFAULT_FIRST_HOST_UID + sandbox_profiles::ids::worker_in_outer(0),
        Who::User => Who::User.uid(),
    };
    assert_eq!((found.uid(), fs::read_to_string(&path).unwrap()), (uid, "kept".to_owned()));
    // The host's user writes, the notebook reads; and through a new worker as well.
    fs::write(daemon.workspace("a").join("from-outside"), "seen").unwrap();
    let id = notebook.id.clone();
    notebook.client.tell(&cellblock_proto::client::Request::Restart { notebook: id });
    let ran = notebook.run("print(open('from-outside').read(), open('folder/file').read())");
    assert_eq!(ran.ok().stdout(), "seen kept\n");
    assert_eq!(notebook.run("open('link')").raised(), Some("FileNotFoundError"));
    if daemon.setup().who == Who::Root {
        // On the disk they are nobody's, whoever the worker was.
        let id = notebook.id.clone();
        notebook.client.tell(&cellblock_proto::client::Request::Close { notebook: id });
        wait::until("the image is written", || leftovers::loops(&daemon.mark()).is_empty().then_some(()));
        let mut look = std::process::Command::new("/usr/sbin/debugfs");
        let stat = look.args(["-R", "stat /folder/file"]).arg(daemon.image("a")).output().unwrap();
        let stat = String::from_utf8_lossy(&stat.stdout);
        assert!(stat.contains(&format!("User: {DEFAULT_FIRST_HOST_UID} ")), "{stat}");
    }
}

fn notebooks_do_not_see_each_other(setup: Setup) {
    let daemon = Daemon::start(setup);
    let (mut one, mut other) = (daemon.notebook("one"), daemon.notebook("other"));
    one.run("import os\nopen('mine', 'w').write('x'); open('/tmp/mine', 'w').write('x'); open('/dev/shm/mine', 'w').write('x')")
        .ok();
    let code = "import os\nprint(os.listdir('/workspace'), [p for p in ('/tmp/mine', '/dev/shm/mine') if os.path.exists(p)])";
    assert_eq!(one.run(code).ok().stdout(), "['mine'] ['/tmp/mine', '/dev/shm/mine']\n", "the control");
    assert_eq!(other.run(code).ok().stdout(), "[] []\n");
    let (first, second) = (one.status().worker_pid.unwrap(), other.status().worker_pid.unwrap());
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert!(of(first) != of(second) && of(first) != ours && of(second) != ours, "{namespace}");
    }
}
