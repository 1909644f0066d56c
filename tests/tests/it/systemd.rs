//! cellblockd as systemd starts it: with a socket that listens already, with somebody who wants to know how
//! it is, and beside an anchor of a unit of its own.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use cellblock_tests::client::Client;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::{Setup, we_are_root};
use cellblock_tests::{as_root_and_user, wait};
use rustix::process::{Pid, Signal, kill_process};

as_root_and_user!(
    socket_of_systemd_is_served_and_left_and_systemd_is_told_all,
    socket_of_systemd_and_another_one_named_are_refused,
);

/// Standard input is the socket; systemd hands it over as descriptor 3, to this very process id.
const ACTIVATE: &str = "import os, sys\n\
                        os.dup2(0, 3)\n\
                        os.dup2(os.open('/dev/null', os.O_RDONLY), 0)\n\
                        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))\n\
                        os.execv(sys.argv[1], sys.argv[1:])";

fn start(daemon: &Daemon, listener: &UnixListener, more: &[&str]) -> Child {
    let same = daemon.same_again();
    let mut command = Command::new(&daemon.setup().python);
    command.args(["-I", "-c", ACTIVATE]).arg(same.get_program()).args(same.get_args()).args(more);
    command.env_clear();
    for (name, value) in same.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env("NOTIFY_SOCKET", daemon.runtime_dir().join("notify.sock")).env("WATCHDOG_USEC", "200000");
    let uid = daemon.setup().who.uid();
    if we_are_root() && uid != 0 {
        command.uid(uid).gid(uid);
    }
    command.current_dir("/").stdin(OwnedFd::from(listener.try_clone().unwrap())).stdout(Stdio::null());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until systemd has been told a line.
fn told(notify: &UnixDatagram, line: &str) {
    let mut heard = Vec::new();
    while !heard.iter().any(|heard| heard == line) {
        assert!(wait::readable(notify, wait::PATIENCE), "{line} was not told, but {heard:?}");
        let mut bytes = [0; 4096];
        let count = notify.recv(&mut bytes).unwrap();
        heard.extend(String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned));
    }
}

/// A daemon has been there, and has left its anchor and a worker; now systemd listens.
fn before(setup: Setup) -> (Daemon, UnixListener, UnixDatagram) {
    let mut daemon = Daemon::start(Setup { private: false, ..setup });
    daemon.notebook("kept").run("x = 7").ok();
    kill_process(Pid::from_raw(daemon.pid()).unwrap(), Signal::TERM).unwrap();
    daemon.wait_for_end();
    let listener = UnixListener::bind(daemon.socket()).unwrap();
    let notify = UnixDatagram::bind(daemon.runtime_dir().join("notify.sock")).unwrap();
    let uid = daemon.setup().who.uid();
    chown(daemon.runtime_dir().join("notify.sock"), Some(uid), Some(uid)).unwrap();
    std::fs::set_permissions(daemon.socket(), std::fs::Permissions::from_mode(0o604)).unwrap();
    (daemon, listener, notify)
}

/// What systemd had goes, and an ordinary daemon comes back and ends with all that is left.
fn after(mut daemon: Daemon, listener: UnixListener, notify: UnixDatagram) {
    drop((listener, notify));
    std::fs::remove_file(daemon.runtime_dir().join("notify.sock")).unwrap();
    std::fs::remove_file(daemon.socket()).unwrap();
    daemon.restart();
    daemon.end();
}

fn socket_of_systemd_is_served_and_left_and_systemd_is_told_all(setup: Setup) {
    let (daemon, listener, notify) = before(setup);
    let mut child = start(&daemon, &listener, &["--anchor", "find"]);
    // It waits in the socket's queue, as systemd's first client does.
    let client = Client::connect(&daemon.socket());
    told(&notify, "READY=1");
    let mut notebook = Notebook::open(client, "kept", None);
    assert_eq!(notebook.run("print(x)").stdout(), "7\n");
    told(&notify, "WATCHDOG=1");
    told(&notify, "STATUS=listening, notebooks open: 1");
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o604, "its mode is systemd's matter");

    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    told(&notify, "STOPPING=1");
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    // Still there for the next one.
    drop(UnixStream::connect(daemon.socket()).unwrap());
    after(daemon, listener, notify);
}

fn socket_of_systemd_and_another_one_named_are_refused(setup: Setup) {
    let (daemon, listener, notify) = before(setup);
    let other = daemon.runtime_dir().join("other.sock");
    let child = start(&daemon, &listener, &["--socket", other.to_str().unwrap()]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("leave --socket out"), "{said}");
    after(daemon, listener, notify);
}
