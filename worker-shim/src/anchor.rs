//! The anchor: holds the outer user namespace, starts shims, reaps them. It outlives cellblockd,
//! so it does nothing else and has nothing in it that would need an upgrade.
//!
//! SIGTERM (the end of its unit) is its end in order: every shim is told to end, which saves what is to be saved; who
//! takes too long is killed, and so is everybody at a second SIGTERM. `Shutdown` is the end without waiting: who asks
//! for it has closed the notebooks already, or wants them gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
use cellblock_proto::frame::Kind;
use cellblock_proto::id::WorkerId;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use sandbox_profiles::ids;

use crate::cgroup::{Tree, Wanted};
use crate::notify;
use crate::outer::{self, Outer};
use crate::sys::{self, Forked};
use crate::wire;

/// What an anchor is told at its start.
pub struct Arguments {
    /// Where it listens.
    pub socket: PathBuf,
    /// Where the range of host ids begins, as root.
    pub first_uid: Option<u32>,
    /// What is to be had of cgroups.
    pub cgroup: Wanted,
}

/// Makes Z, listens, says `ready` on standard output, and serves until it is told to end.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let socket = &arguments.socket;
    let first_uid = arguments.first_uid.unwrap_or(ids::DEFAULT_FIRST_HOST_UID);
    if first_uid == 0 {
        bail!("--first-uid 0 would map the host's root into sandboxes: choose an unused range");
    }
    outer::see_whole_proc().context("failed to mount a /proc without masks for the sandboxes")?;
    let outer = outer::make(first_uid).context(
        "failed to make the outer user namespace; are user namespaces allowed here? \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns)",
    )?;
    let listener = wire::listen(socket)?;
    // A session of its own: a terminal's Ctrl-C is for the program in front, not for this.
    let _ = rustix::process::setsid();
    let signals = sys::end_signal_fd()?;
    println_ready()?;
    let groups = Tree::make(&arguments.cgroup, outer.first_host_uid);
    // Only now: whoever comes after us in systemd's order finds a tree.
    if let Err(error) = notify::ready(&groups.detail) {
        eprintln!("cellblock-shim: failed to tell systemd that the anchor is ready: {error}");
    }
    let environment = vec![(MARK.to_owned(), socket.to_string_lossy().into_owned())];
    let (shims, connections) = (BTreeMap::new(), Vec::new());
    let mut anchor = Anchor { outer, groups, environment, shims, connections, signals, end_by: None };
    anchor.serve(&listener)?;
    let _ = std::fs::remove_file(socket);
    Ok(())
}

struct Shim {
    pid: Pid,
    pidfd: OwnedFd,
}

struct Anchor {
    outer: Outer,
    groups: Tree,
    /// Of its shims.
    environment: Vec<(String, String)>,
    shims: BTreeMap<WorkerId, Shim>,
    connections: Vec<OwnedFd>,
    /// Readable when SIGTERM has come.
    signals: OwnedFd,
    /// When it has: until when shims may take to end.
    end_by: Option<Instant>,
}

impl Anchor {
    fn serve(&mut self, listener: &OwnedFd) -> anyhow::Result<()> {
        loop {
            if self.end_by.is_some() && self.shims.is_empty() {
                self.groups.settle();
                return Ok(());
            }
            let mut polled =
                vec![PollFd::new(listener, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            polled.extend(self.shims.values().map(|shim| PollFd::new(&shim.pidfd, PollFlags::IN)));
            polled.extend(self.connections.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
            // Without shims and without a daemon there is nothing to hold: a daemon that was killed
            // while it was idle leaves nothing behind.
            let alone = self.shims.is_empty() && self.connections.is_empty();
            let patience = Timespec { tv_sec: ALONE_SECONDS, tv_nsec: 0 };
            let soon = Timespec { tv_sec: 0, tv_nsec: TIDY_NANOSECONDS };
            let left = self.end_by.map(|until| left(until.saturating_duration_since(Instant::now())));
            let timeout = match left.as_ref() {
                _ if self.groups.tidy() => Some(&soon),
                Some(left) if *left < soon => Some(&soon),
                None => alone.then_some(&patience),
                left => left,
            };
            let count = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout))?;
            if count == 0 && timeout == Some(&patience) && self.end_by.is_none() {
                return Ok(());
            }
            let woken: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(polled);

            let first_connection = 2 + self.shims.len();
            let asked: Vec<usize> =
                (0..self.connections.len()).filter(|at| woken[first_connection + at]).collect();
            self.reap();
            if woken[1] {
                self.told_to_end();
            }
            if self.end_by.is_some_and(|until| Instant::now() >= until) {
                self.signal_all(Signal::KILL);
            }
            if woken[0]
                && let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
            {
                self.connections.push(socket);
            }
            // From the back, so that removing one does not move those still to come.
            for at in asked.into_iter().rev() {
                match self.answer(at) {
                    Ok(After::Stay) => {}
                    Ok(After::End) => return Ok(()),
                    // The peer has gone or does not speak our language; the folder's mode says
                    // that it is ours, so there is nobody to accuse.
                    Err(_) => drop(self.connections.swap_remove(at)),
                }
            }
        }
    }

    /// SIGTERM: for the first time in order, then at once.
    fn told_to_end(&mut self) {
        let mut info = [0; 128];
        if !rustix::io::read(&self.signals, &mut info).is_ok_and(|count| count > 0) {
            return;
        }
        let now = Instant::now();
        let again = self.end_by.is_some();
        eprintln!("anchor: told to end (SIGTERM) with {} shims", self.shims.len());
        self.end_by = Some(if again { now } else { now + END_PATIENCE });
        self.signal_all(Signal::TERM);
    }

    fn signal_all(&self, signal: Signal) {
        for shim in self.shims.values() {
            let _ = rustix::process::pidfd_send_signal(&shim.pidfd, signal);
        }
    }

    fn reap(&mut self) {
        let Anchor { shims, groups, .. } = self;
        shims.retain(|worker, shim| {
            let ended = rustix::process::waitpid(Some(shim.pid), WaitOptions::NOHANG);
            let lives = matches!(ended, Ok(None));
            if !lives {
                groups.remove(worker);
            }
            lives
        });
    }

    fn answer(&mut self, at: usize) -> anyhow::Result<After> {
        let socket = self.connections[at].as_fd();
        let Some((request, fds)) = wire::hear::<AnchorRequest>(socket, Kind::AnchorRequest)? else {
            bail!("the peer has gone");
        };
        let end = request == AnchorRequest::Shutdown;
        let reply = match request {
            AnchorRequest::Hello => AnchorReply::Hello {
                build: cellblock_proto::BUILD.to_owned(),
                first_uid: self.outer.first_host_uid,
                cgroup: self.groups.tier(),
                cgroup_detail: self.groups.detail.clone(),
            },
            AnchorRequest::Spawn { worker } => match self.spawn(&worker, fds) {
                Ok(pid) => AnchorReply::Started { pid: pid.as_raw_pid().cast_unsigned() },
                Err(error) => AnchorReply::Failed { reason: format!("{error:#}") },
            },
            AnchorRequest::List => AnchorReply::Shims {
                shims: self
                    .shims
                    .iter()
                    .map(|(worker, shim)| (worker.clone(), shim.pid.as_raw_pid().cast_unsigned()))
                    .collect(),
            },
            AnchorRequest::Kill { worker } => match self.shims.get(&worker) {
                Some(shim) => {
                    let _ = rustix::process::pidfd_send_signal(&shim.pidfd, Signal::KILL);
                    AnchorReply::Done
                }
                None => AnchorReply::Failed { reason: format!("no shim of worker {worker} lives") },
            },
            AnchorRequest::Shutdown => {
                self.signal_all(Signal::KILL);
                for (worker, shim) in &self.shims {
                    let _ = rustix::process::waitpid(Some(shim.pid), WaitOptions::empty());
                    self.groups.remove(worker);
                }
                self.groups.settle();
                AnchorReply::Done
            }
        };
        wire::say(self.connections[at].as_fd(), Kind::AnchorReply, &reply)?;
        Ok(if end { After::End } else { After::Stay })
    }

    /// Forks and execs the program that came along, by its descriptor, so that an upgrade on disk
    /// between two workers cannot mix versions.
    fn spawn(&mut self, worker: &WorkerId, fds: Vec<OwnedFd>) -> anyhow::Result<Pid> {
        anyhow::ensure!(self.end_by.is_none(), "the anchor has been told to end (SIGTERM)");
        anyhow::ensure!(!self.shims.contains_key(worker), "a shim of worker {worker} lives already");
        let [stdin, binary] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|fds| anyhow::anyhow!("a shim takes two descriptors, {} came", fds.len()))?;
        let null = File::options().write(true).open("/dev/null").context("failed to open /dev/null")?;
        let mut arguments = vec![format!("/proc/self/fd/{SHIM_BINARY_FD}")];
        arguments.extend(["--worker".to_owned(), worker.to_string()]);
        arguments.push(self.outer.first_host_uid.map_or("rootless".to_owned(), |uid| uid.to_string()));
        arguments.extend(self.groups.arguments());
        let groups =
            self.groups.group(worker, self.outer.first_host_uid).context("failed to make its cgroups")?;
        let stderr = std::io::stderr();
        // Rootless shims get the mount namespace at 4; rootful ones have no use for a second copy.
        let mount = self.outer.mount.as_ref().map_or(self.outer.user.as_fd(), AsFd::as_fd);
        match sys::clone(0, None) {
            Ok(Forked::Child) => {
                let mut files = vec![
                    stdin.as_fd(),
                    null.as_fd(),
                    stderr.as_fd(),
                    self.outer.user.as_fd(),
                    mount,
                    binary.as_fd(),
                ];
                files.extend(groups.iter().map(AsFd::as_fd));
                if sys::install_files(&files).is_err() || sys::reset_signals().is_err() {
                    sys::exit_now(70);
                }
                let _ = sys::exec(&arguments, &self.environment);
                sys::exit_now(70);
            }
            Ok(Forked::Parent { pidfd, pid }) => {
                self.shims.insert(worker.clone(), Shim { pid, pidfd });
                Ok(pid)
            }
            Err(error) => {
                self.groups.remove(worker);
                Err(error).context("failed to fork")
            }
        }
    }
}

/// What is in the environment of every shim: its anchor's socket, so that it can be told whose it is.
const MARK: &str = "CELLBLOCK_ANCHOR_SOCKET";

/// How long shims may take to end in order: what runs to heed its interrupt, what is saved to be saved.
const END_PATIENCE: Duration = Duration::from_secs(11);

/// How long an anchor waits for a daemon that may be restarting.
const ALONE_SECONDS: i64 = 60;

/// Where a shim finds its own binary; behind the two namespaces, before its cgroups.
const SHIM_BINARY_FD: i32 = 5;

/// Between two attempts to remove the cgroup of something that is still dying.
const TIDY_NANOSECONDS: i64 = 20_000_000;

fn left(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

enum After {
    Stay,
    End,
}

fn println_ready() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(b"ready\n").and_then(|()| out.flush()).context("failed to say that we are ready")
}
