//! A cellblockd of the test's own.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
use cellblock_proto::client::{Reply, Request, ZygoteState};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FrameReader, Kind, Limits};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::client::{Answer, Client};
use crate::leftovers::{self, Process};
use crate::notebook::Notebook;
use crate::setup::{Setup, Who};
use crate::{binaries, wait};

/// Making an interpreter's cache, by whichever test comes first, is within the first start of a
/// worker; the daemon itself is up in milliseconds.
const START: Duration = Duration::from_secs(60);

/// From the order to end to the last process gone.
const END: Duration = Duration::from_secs(20);

/// A running cellblockd that ends when this is dropped; what it leaves behind fails the test.
#[derive(Debug)]
pub struct Daemon {
    setup: Setup,
    home: TempDir,
    /// What it is to believe of its own build: test switches of debug builds.
    switches: Vec<(&'static str, String)>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Kept open: a daemon that writes to a closed pipe would die of it.
    _stdout: ChildStdout,
}

impl Daemon {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it does not; with its log.
    pub fn start(setup: Setup) -> Self {
        let mut daemon = Daemon::prepared(setup);
        daemon.launch();
        daemon
    }

    /// Starts one that must fail; returns what it said.
    ///
    /// # Panics
    /// When it comes up.
    pub fn refused(setup: Setup) -> String {
        let daemon = Daemon::prepared(setup);
        let mut running = daemon.spawn();
        let pidfd = pidfd(&running.child);
        assert!(wait::readable(pidfd, START), "it neither came up nor ended: {}", daemon.log());
        let status = running.child.wait().expect("our own child");
        assert!(!status.success(), "it came up and ended well: {}", daemon.log());
        daemon.check_leftovers(&[]);
        daemon.log()
    }

    fn prepared(setup: Setup) -> Self {
        // Short, because a socket's path may have 107 bytes.
        let home = tempfile::Builder::new().prefix("cb-").tempdir_in("/tmp").expect("/tmp can be written");
        let uid = setup.who.uid();
        let own = |path: &Path| {
            // Fails for an ordinary user, whose it is already.
            let _ = chown(path, Some(uid), Some(uid));
        };
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).expect("our own folder");
        for name in ["state", "profiles"] {
            fs::create_dir(home.path().join(name)).expect("a new folder");
            own(&home.path().join(name));
        }
        for (name, text) in &setup.profiles {
            fs::write(home.path().join(format!("profiles/{name}.toml")), text).expect("a new file");
        }
        own(home.path());
        Daemon { setup, home, switches: Vec::new(), running: None }
    }

    /// The command that starts it, without the arguments of the setup.
    fn command(&self) -> Command {
        let folder = binaries::folder(self.setup.who);
        let program = folder.join("cellblockd");
        let mut command = Command::new(&program);
        let mut mounts = Vec::new();
        if !self.setup.dropped.is_empty() {
            // With a session keyring, as a daemon of a login or of systemd has: it is inherited, and what
            // is tried is whether it is taken away.
            command = Command::new(&self.setup.python);
            let join = "import ctypes, os, platform, sys\n\
                        keyctl = {'x86_64': 250, 'aarch64': 219}[platform.machine()]\n\
                        assert ctypes.CDLL(None).syscall(keyctl, 1, None) > 0\n\
                        os.execv(sys.argv[1], sys.argv[1:])";
            command.args(["-I", "-c", join]).arg(&program);
        }
        if self.setup.tiny_disk {
            mounts.push(format!("mount -t tmpfs -o {} tiny \"$0\"", self.setup.disk_options));
        }
        if self.setup.shared_mounts {
            mounts.push("mount --make-rshared /".to_owned());
        }
        if self.setup.masked_proc {
            let covers = "mount --bind -o ro /proc/sys /proc/sys && mount -t tmpfs -o ro masked /proc/acpi";
            mounts.push(covers.to_owned());
        }
        if !mounts.is_empty() {
            // In a mount namespace of its own, which ends with it.
            command = Command::new("unshare");
            let script = format!("{} && exec \"$@\"", mounts.join(" && "));
            command.args(["--mount", "sh", "-c", &script]).arg(self.state_dir()).arg(&program);
        }
        command
            .arg(if self.setup.private { "--private" } else { "--print-ready" })
            .arg("--runtime-dir")
            .arg(self.runtime_dir())
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--cache-dir")
            .arg(cache_dir(self.setup.who.uid()))
            .arg("--profiles")
            .arg(self.home.path().join("profiles"))
            .arg("--python")
            .arg(&self.setup.python)
            .args(["--warm-start", if self.setup.warm { "on" } else { "off" }])
            .args(&self.setup.arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home.path())
            .env("CELLBLOCK_TEST_DROP_BARRIERS", &self.setup.dropped)
            .envs(self.setup.switches.iter().cloned())
            .envs(self.switches.iter().cloned())
            .current_dir("/");
        if self.setup.who == Who::User && crate::setup::we_are_root() {
            // std drops the supplementary groups as well when root asks for another uid.
            command.uid(self.setup.who.uid()).gid(self.setup.who.uid());
        }
        command
    }

    fn spawn(&self) -> Running {
        let log = File::options().append(true).create(true).open(self.log_path()).expect("our own file");
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("cellblockd can be started");
        let stdout = child.stdout.take().expect("a pipe was asked for");
        Running { stdin: child.stdin.take(), child, _stdout: stdout }
    }

    fn launch(&mut self) {
        let mut running = self.spawn();
        let deadline = Instant::now() + START;
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(wait::readable(&running._stdout, left), "not ready after {START:?}: {}", self.log());
            let mut bytes = [0; 256];
            let count = running._stdout.read(&mut bytes).expect("a pipe");
            assert!(count > 0, "it ended before it was ready: {}", self.log());
            line.extend_from_slice(&bytes[..count]);
        }
        assert_eq!(String::from_utf8_lossy(&line), format!("ready {}\n", self.socket().display()));
        self.running = Some(running);
    }

    /// Kills it with SIGKILL and waits for its end; its workers live on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_hard(&mut self) {
        let mut running = self.running.take().expect("a running daemon");
        running.child.kill().expect("our own child");
        running.child.wait().expect("our own child");
    }

    /// Ends its standard input, as the end of whoever started it does.
    pub fn close_stdin(&mut self) {
        if let Some(running) = &mut self.running {
            drop(running.stdin.take());
        }
    }

    /// Waits for the end that it was told to come to.
    ///
    /// # Panics
    /// When it does not end, or not well.
    pub fn wait_for_end(&mut self) {
        let mut running = self.running.take().expect("a running daemon");
        assert!(wait::readable(pidfd(&running.child), END), "it did not end\n{}", self.log());
        let status = running.child.wait().expect("our own child");
        assert!(status.success(), "it ended with {status}\n{}", self.log());
    }

    /// Waits for the end that it was told to come to; gives its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut running = self.running.take().expect("a running daemon");
        assert!(wait::readable(pidfd(&running.child), END), "it did not end\n{}", self.log());
        running.child.wait().expect("our own child").code()
    }

    /// Starts it again on the same folders.
    ///
    /// # Panics
    /// When it runs.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "it still runs");
        self.launch();
    }

    /// Starts it again as another build would be, which speaks `link` to shims, or what all speak.
    ///
    /// # Panics
    /// As [`Daemon::restart`].
    pub fn restart_as(&mut self, build: &str, link: Option<u32>) {
        self.switches = vec![("CELLBLOCK_TEST_BUILD", build.to_owned())];
        self.switches.extend(link.map(|link| ("CELLBLOCK_TEST_LINK", link.to_string())));
        self.restart();
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> i32 {
        self.running.as_ref().expect("a running daemon").child.id().cast_signed()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("cellblockd.sock")
    }

    /// Its runtime directory.
    pub fn runtime_dir(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Opens a notebook whose workspace is a plain folder, as one is that had files before there were
    /// quotas; what is new would be an image, as root.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn notebook_in_folder(&self, name: &str) -> Notebook {
        let below = format!("notebooks/{name}/workspace");
        // Also where only the daemon sees its disk.
        let state = format!("/proc/{}/root{}", self.pid(), self.state_dir().display());
        let state = if self.setup.tiny_disk { PathBuf::from(state) } else { self.state_dir() };
        fs::create_dir_all(state.join(&below)).expect("a new folder");
        fs::write(state.join(&below).join("here-before"), "").expect("a new file");
        let uid = Some(self.setup.who.uid());
        for path in ["notebooks", &format!("notebooks/{name}"), &below, &format!("{below}/here-before")] {
            // Fails for an ordinary user, whose it is already.
            let _ = chown(state.join(path), uid, uid);
        }
        let mut notebook = self.notebook(name);
        notebook.run("import os\nos.remove('here-before')").ok();
        notebook
    }

    /// A notebook's workspace, as the host sees it: its folder, or where its worker sees its image.
    ///
    /// # Panics
    /// When there is an image and no worker that has it.
    pub fn workspace(&self, notebook: &str) -> PathBuf {
        let image = self.image(notebook);
        if !image.exists() {
            return image.with_file_name("workspace");
        }
        let found = leftovers::loops(&image.display().to_string());
        let [(device, _)] = found.as_slice() else { panic!("not one device for {image:?}: {found:?}") };
        let pid = leftovers::user_of(device).expect("a live worker has it");
        format!("/proc/{pid}/root/workspace").into()
    }

    /// Where a notebook's image is, when it has one.
    pub fn image(&self, notebook: &str) -> PathBuf {
        self.state_dir().join("notebooks").join(notebook).join("workspace.img")
    }

    /// The folder of profiles.
    pub fn profiles_dir(&self) -> PathBuf {
        self.home.path().join("profiles")
    }

    /// What only this daemon's things bear in their names.
    pub fn mark(&self) -> String {
        let name = self.home.path().file_name().expect("a folder has a name");
        name.to_string_lossy().into_owned()
    }

    /// Its setup.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What it has logged, the anchor included.
    pub fn log(&self) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        read(self.log_path()) + &read(self.runtime_dir().join("workers/anchor.log"))
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Another daemon's arguments on the same folders, e.g. to see it refused.
    pub fn same_again(&self) -> Command {
        self.command()
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// A notebook on a connection of its own, under the default profile.
    pub fn notebook(&self, name: &str) -> Notebook {
        Notebook::open(self.client(), name, None)
    }

    /// A notebook under a profile.
    pub fn notebook_under(&self, name: &str, profile: &str) -> Notebook {
        Notebook::open(self.client(), name, Some(profile))
    }

    /// Waits until a profile's zygote is up and its spares are ready.
    ///
    /// # Panics
    /// When that does not come.
    pub fn warmed(&self, profile: &str) {
        let mut client = self.client();
        let warm = wait::within(wait::PATIENCE, || {
            let Ok(Answer { reply: Reply::Warm { profiles }, .. }) = client.ask_about(&Request::Warm, b"")
            else {
                panic!("no word on what is warm")
            };
            let info = profiles.into_iter().find(|info| info.profile == profile)?;
            (info.zygote == ZygoteState::Up && info.spares_ready == info.spares_wanted).then_some(())
        });
        assert!(warm.is_some(), "profile {profile} does not become warm\n{}", self.log());
    }

    /// All processes that are the daemon's: anchor, shims, inits, workers, and what those started.
    pub fn processes(&self) -> Vec<Process> {
        let mut found = leftovers::processes(&self.mark());
        if let Some(running) = &self.running {
            found.retain(|process| process.pid != running.child.id().cast_signed());
        }
        found
    }

    /// Those of a name, e.g. `cellblock-shim`.
    pub fn processes_named(&self, name: &str) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.name == name).collect()
    }

    /// Those that start its shims: one, or none yet.
    pub fn anchors(&self) -> Vec<Process> {
        let is_anchor = |process: &Process| {
            let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("--anchor")
        };
        self.processes().into_iter().filter(is_anchor).collect()
    }

    /// Ends it as its setup says, and checks that nothing is left.
    ///
    /// # Panics
    /// When it does not end, or something is left.
    pub fn end(mut self) {
        self.end_and_check();
    }

    fn end_and_check(&mut self) {
        let mut known = self.processes();
        if let Some(mut running) = self.running.take() {
            let pidfd = pidfd(&running.child);
            drop(running.stdin.take());
            if !self.setup.private {
                pidfd_send_signal(&pidfd, Signal::TERM).expect("our own child");
            }
            let ended = wait::readable(&pidfd, END);
            if !ended {
                let _ = running.child.kill();
            }
            let status = running.child.wait().expect("our own child");
            assert!(ended, "it did not end within {END:?}\n{}", self.log());
            assert!(status.success(), "it ended with {status}\n{}", self.log());
        }
        if !self.setup.private {
            known.extend(self.processes());
            end_anchor(&self.runtime_dir().join("workers/anchor.sock"));
            // What a daemon leaves to the next one is not ours to judge here.
            let _ = fs::remove_dir_all(self.runtime_dir());
        }
        self.check_leftovers(&known);
    }

    fn check_leftovers(&self, known: &[Process]) {
        let mark = self.mark();
        let left = || {
            let mut left: Vec<Process> = known.iter().filter(|process| process.lives()).cloned().collect();
            left.extend(leftovers::processes(&mark));
            left
        };
        // A process that was killed takes a moment to go.
        let gone = wait::within(END, || left().is_empty().then_some(()));
        assert!(gone.is_some(), "processes are left: {:?}\n{}", left(), self.log());
        let cleared = wait::within(END, || leftovers::loops(&mark).is_empty().then_some(()));
        assert!(cleared.is_some(), "loop devices are left: {:?}", leftovers::loops(&mark));
        assert_eq!(leftovers::mounts(&mark), Vec::<String>::new(), "mounts are left");
        assert_eq!(leftovers::sockets(&mark), Vec::<String>::new(), "sockets are left");
        assert_eq!(leftovers::files(&self.runtime_dir()), Vec::<String>::new(), "files are left");
        assert_eq!(leftovers::cgroups(known), Vec::<PathBuf>::new(), "cgroups are left");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.end_and_check();
        }
        eprintln!("--- log of cellblockd\n{}---", self.log());
        // The test has failed; what matters now is that nothing stays. Its own words stay first.
        let known = self.processes();
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        for process in known.iter().filter(|process| process.lives()) {
            if let Some(pid) = Pid::from_raw(process.pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn pidfd(child: &Child) -> rustix::fd::OwnedFd {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has an id");
    pidfd_open(pid, PidfdFlags::empty()).expect("our own child, not yet waited for")
}

/// Caches of interpreters are made once per user, not once per test.
fn cache_dir(uid: u32) -> PathBuf {
    let path = PathBuf::from(format!("/var/tmp/cellblock-test-cache-{uid}"));
    match fs::create_dir(&path) {
        Ok(()) => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own folder");
            let _ = chown(&path, Some(uid), Some(uid));
        }
        Err(error) => assert!(path.is_dir(), "{}: {error}", path.display()),
    }
    path
}

/// Tells an anchor to end with all its shims; one that is not there is fine.
fn end_anchor(path: &Path) {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a socket");
    let address = SocketAddrUnix::new(path).expect("a short path");
    if rustix::net::connect(&socket, &address).is_err() {
        return;
    }
    let mut bytes = Vec::new();
    let request = Codec::Json.frame(Kind::AnchorRequest, 1, &AnchorRequest::Shutdown).expect("JSON");
    request.write_to(&mut bytes);
    rustix::net::send(&socket, &bytes, SendFlags::NOSIGNAL).expect("the anchor listens");
    assert!(wait::readable(&socket, END), "the anchor did not answer");
    let mut answer = vec![0; 4096];
    let (count, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).expect("an answer");
    let mut reader = FrameReader::new(Limits::DEFAULT);
    reader.feed(&answer[..count]);
    let frame = reader.next_frame().expect("a frame").expect("a whole frame");
    assert_eq!(frame.message::<AnchorReply>().expect("a reply"), AnchorReply::Done);
}
