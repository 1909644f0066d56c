//! A spare's hand: a process forked from its shim while that still had the right to take a workspace.
//!
//! A spare's shim gives up its rights on the host before anybody knows for which notebook. So its hand
//! keeps them until the claim, does the steps that are left, gives what it has taken to the shim, and ends
//! before the worker is sealed. It reads nothing but what its shim says, and no user code runs meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use cellblock_proto::shim::{Checkpoints, StartSpec};
use cellblock_steps::talk::{hear, say};
use cellblock_steps::{StepError, execute_steps};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};
use sandbox_profiles::{Actor, Step};
use serde::{Deserialize, Serialize};

use super::{Making, host};
use crate::outer::Outer;
use crate::shim::Places;
use crate::sys::{self, Forked};

/// How long a hand may take; mounting an image takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);

/// The hand, as its shim holds it.
pub struct Hand {
    channel: OwnedFd,
    pid: Pid,
    pidfd: OwnedFd,
}

#[derive(Serialize, Deserialize)]
struct Order {
    steps: Vec<Step>,
    checkpoints: Option<Checkpoints>,
}

#[derive(Serialize, Deserialize)]
enum Done {
    /// What was taken came along.
    Taken {
        /// Trees for these targets.
        targets: Vec<PathBuf>,
        /// Behind them a folder on the workspace's disk; behind that the folder of checkpoints and its view.
        disk: bool,
    },
    Failed(StepError),
}

/// What a hand has taken.
pub(super) struct Handed {
    /// Trees, by the place they go to.
    pub(super) trees: BTreeMap<PathBuf, OwnedFd>,
    /// See [`super::Sandbox::disk`].
    pub(super) disk: Option<OwnedFd>,
    /// The checkpoints, opened.
    pub(super) places: Option<Places>,
}

impl Hand {
    /// Forks it. The caller has one thread, and the rights that it is to have.
    ///
    /// # Errors
    /// There is no further process.
    pub fn fork(spec: &StartSpec, outer: &Outer) -> io::Result<Hand> {
        let (ours, its) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        match sys::clone(0, None)? {
            Forked::Child => {
                drop(ours);
                let code = i32::from(serve(spec, outer, its.as_fd()).is_err());
                sys::exit_now(code)
            }
            Forked::Parent { pidfd, pid } => {
                set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE))?;
                Ok(Hand { channel: ours, pid, pidfd })
            }
        }
    }

    /// Has the shim's steps among these done, and the checkpoints opened.
    ///
    /// # Errors
    /// A step failed, or the hand has ended.
    pub(super) fn take(self, steps: &[Step], checkpoints: Option<&Checkpoints>) -> Result<Handed, StepError> {
        let lost = |error: &io::Error| StepError::new(&"take the workspace", error);
        let order = Order { steps: steps.to_vec(), checkpoints: checkpoints.cloned() };
        say(self.channel.as_fd(), &order, &[]).map_err(|error| lost(&error))?;
        match hear(self.channel.as_fd()).map_err(|error| lost(&error))? {
            Some((Done::Taken { targets, disk }, mut trees)) => {
                let mut others = trees.split_off(targets.len().min(trees.len())).into_iter();
                let disk = if disk { others.next() } else { None };
                let trees = targets.into_iter().zip(trees).collect();
                Ok(Handed { trees, disk, places: Places::from_files(others) })
            }
            Some((Done::Failed(error), _)) => Err(error),
            None => Err(lost(&io::Error::other("the shim's hand has ended"))),
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // As root it is not ours to kill; it ends when the channel does, if it has not yet.
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // One that hangs is not waited for: it ends with us.
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut ended, Some(&patience)));
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
    }
}

fn serve(spec: &StartSpec, outer: &Outer, channel: BorrowedFd<'_>) -> io::Result<()> {
    // The shim has one thread, so its end is the end of the thread that this is bound to.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let Some((Order { steps, checkpoints }, _)) = hear(channel)? else { return Ok(()) };
    let mut making = Making::new(outer, &[]);
    match execute_steps(&steps, Actor::Shim, |step| host::execute(step, spec, &mut making)) {
        Ok(_) => {
            let opened = checkpoints.as_ref().map(|spec| {
                let mut places = Places::open(spec)?;
                places.take_view(spec).map(|()| places.into_files())
            });
            let opened = match opened.transpose() {
                Ok(files) => files.unwrap_or_default(),
                Err(error) => {
                    let failed = StepError::new(&"open the notebook's checkpoints", &error);
                    return say(channel, &Done::Failed(failed), &[]);
                }
            };
            let trees = making.taken.trees;
            let disk = making.disk;
            let files: Vec<BorrowedFd<'_>> =
                trees.values().chain(&disk).chain(&opened).map(AsFd::as_fd).collect();
            let (targets, disk) = (trees.keys().cloned().collect(), disk.is_some());
            say(channel, &Done::Taken { targets, disk }, &files)
        }
        Err(error) => say(channel, &Done::Failed(error), &[]),
    }
}
