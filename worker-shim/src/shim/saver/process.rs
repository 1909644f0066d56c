//! Store processes, as the shim starts them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use cellblock_proto::codec::Codec;
use cellblock_proto::store::{StoreOrder, StoreReply};
use cellblock_steps::talk::say_in;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use crate::sys::{self, Forked};

/// What a store process may say at most: a line with a hundred losses, each of some words of bounded length.
const REPLY_BYTES: u64 = 1 << 20;

/// A store process. It ends with this.
pub struct Store {
    pid: Pid,
    pidfd: OwnedFd,
    said: OwnedFd,
}

impl Store {
    /// Starts one on a folder; `program` is our own. Gives the other end of what it talks to a worker over, which it
    /// ends with.
    pub fn start(
        order: &StoreOrder,
        folder: BorrowedFd<'_>,
        program: BorrowedFd<'_>,
    ) -> io::Result<(Store, OwnedFd)> {
        let pair = || {
            let kind = SocketType::SEQPACKET;
            rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        };
        let (orders, its_orders) = pair()?;
        let (workers, its_workers) = pair()?;
        let (said, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        say_in(Codec::Json, orders.as_fd(), order, &[folder, its_workers.as_fd()])?;
        let stderr = io::stderr();
        let argv = ["/proc/self/fd/3", "--store"].map(str::to_owned);
        match sys::clone(0, None)? {
            Forked::Child => {
                let files = [its_orders.as_fd(), says.as_fd(), stderr.as_fd(), program];
                if sys::install_files(&files).is_err() || sys::reset_signals().is_err() {
                    sys::exit_now(70);
                }
                let _ = sys::exec(&argv, &[]);
                sys::exit_now(70);
            }
            Forked::Parent { pidfd, pid } => Ok((Store { pid, pidfd, said }, workers)),
        }
    }

    /// Readable when it has replied, or has ended.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.said.as_fd()
    }

    /// Whether somebody has killed it: it does not end so by itself. To be asked when what it had is closed.
    pub fn was_killed(&self) -> bool {
        // What it had is closed a moment before it counts as ended.
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = rustix::event::poll(&mut ended, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        status.is_ok_and(|status| status.is_some_and(|status| status.killed()))
    }

    /// Whether it has replied, or ended, or does within that time.
    pub fn has_replied(&self, within: Duration) -> bool {
        let mut said = [PollFd::new(&self.said, PollFlags::IN)];
        let within = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        rustix::event::poll(&mut said, Some(&within)).is_ok_and(|count| count > 0)
    }

    /// Its reply, to be asked for when there is one: a whole line comes in one piece, or soon.
    pub fn reply(&self) -> StoreReply {
        let mut line = String::new();
        let heard = File::from(match self.said.try_clone() {
            Ok(said) => said,
            Err(error) => return StoreReply::Failed { reason: error.to_string() },
        });
        match heard.take(REPLY_BYTES).read_to_string(&mut line).map(|_| serde_json::from_str(&line)) {
            Ok(Ok(reply)) => reply,
            _ => StoreReply::Failed { reason: "the store process ended without a word".to_owned() },
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}
