//! The zygote's loop, and a worker's way from the fork to the seal (`cellblock_steps::join` has the words).
//!
//! Between the two the worker is in its sandbox, as the worker's user, but may still do what root of the
//! sandbox may. Nothing but our own Python runs then.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use cellblock_steps::join::{FILES, NAMESPACES, Reply, Request, Seal};
use cellblock_steps::talk::{hear, say};
use cellblock_steps::{StepError, execute_steps, sys as steps_sys, worker_step};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::DumpableBehavior;
use rustix::thread::LinkNameSpaceType;
use sandbox_profiles::{Action, Actor, Namespace, Resource, Step};

use crate::interpreter::Interpreter;
use crate::joint::{Joint, Side};
use crate::sys::Errno;

/// How long a shim may take to say what it wants; it says so at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a worker that could not be sealed exits with.
const NOT_STARTED: c_int = 71;

/// A new worker, to itself.
pub(crate) struct NewWorker {
    /// For [`seal`].
    pub(crate) channel: c_int,
    /// For its marks.
    pub(crate) nonce: [u8; 16],
    /// Nobody waits for it yet.
    pub(crate) spare: bool,
}

/// Serves until the listener fails; returns in each worker.
pub(crate) fn serve(listener: c_int) -> Result<NewWorker, Errno> {
    let interpreter = Interpreter::find()?;
    // SAFETY: it is open for as long as this process lives, and Python leaves it to us.
    let listener = unsafe { BorrowedFd::borrow_raw(listener) };
    let mut joint = Joint::new().map_err(from)?;
    loop {
        let shim = match rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
            Ok(shim) => shim,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => return Err(from(error)),
        };
        // On an error there is one shim less; it has been told, or has gone.
        if let Ok(Some(worker)) = answer(shim, &interpreter, &mut joint) {
            return Ok(worker);
        }
    }
}

/// One request. `Some` in the worker.
fn answer(shim: OwnedFd, interpreter: &Interpreter, joint: &mut Joint) -> io::Result<Option<NewWorker>> {
    set_socket_timeout(&shim, Timeout::Recv, Some(PATIENCE))?;
    let Some((request, files)) = hear::<Request>(shim.as_fd())? else { return Ok(None) };
    let side = Given::sort(&request, &files).and_then(|given| {
        // The type is not said: rustix has no name for it.
        rustix::thread::move_into_link_name_space(given.namespace(Namespace::Pid), None)?;
        (interpreter.before)();
        let side = joint.fork(given.birth);
        if let Ok(Side::Worker) = side {
            return Ok(Side::Worker);
        }
        (interpreter.in_parent)();
        Ok(side?)
    });
    match side {
        Ok(Side::Worker) => {
            let channel = match become_worker(&shim, &request, &files) {
                Ok(channel) => channel,
                Err(error) => {
                    let _ = say(shim.as_fd(), &Reply::Failed(error), &[]);
                    steps_sys::exit_now(NOT_STARTED);
                }
            };
            (interpreter.in_child)();
            // Their numbers are others' now, or nobody's.
            files.into_iter().chain([shim]).for_each(std::mem::forget);
            Ok(Some(NewWorker { channel, nonce: request.nonce, spare: request.spare }))
        }
        Ok(Side::Zygote { worker, pidfd }) => {
            say(shim.as_fd(), &Reply::Forked { pid: worker }, &[pidfd.as_fd()])?;
            Ok(None)
        }
        Err(error) => {
            say(shim.as_fd(), &Reply::Refused(StepError::new(&"fork a worker", &error)), &[])?;
            Ok(None)
        }
    }
}

/// The descriptors of a request, by what they are for.
struct Given<'a> {
    namespaces: &'a [OwnedFd],
    birth: Option<BorrowedFd<'a>>,
    late: &'a [OwnedFd],
    files: &'a [OwnedFd],
}

impl<'a> Given<'a> {
    fn sort(request: &Request, all: &'a [OwnedFd]) -> io::Result<Given<'a>> {
        let late = usize::try_from(request.late).unwrap_or(usize::MAX);
        let wanted = NAMESPACES.len().saturating_add(usize::from(request.birth)).saturating_add(late);
        if all.len() != wanted.saturating_add(FILES) {
            return Err(io::Error::other(format!("{} descriptors came with a request", all.len())));
        }
        let (namespaces, rest) = all.split_at(NAMESPACES.len());
        let (birth, rest) = rest.split_at(usize::from(request.birth));
        let (late, files) = rest.split_at(late);
        Ok(Given { namespaces, birth: birth.first().map(AsFd::as_fd), late, files })
    }

    fn namespace(&self, which: Namespace) -> BorrowedFd<'_> {
        let at = NAMESPACES.iter().position(|namespace| *namespace == which).unwrap_or_default();
        self.namespaces[at].as_fd()
    }
}

/// In the new process: into the sandbox. Returns the descriptor of the connection to the shim.
fn become_worker(shim: &OwnedFd, request: &Request, files: &[OwnedFd]) -> Result<c_int, StepError> {
    let join = || -> io::Result<c_int> {
        let given = Given::sort(request, files)?;
        for group in given.late {
            rustix::io::write(group, b"0")?;
        }
        for namespace in NAMESPACES.iter().filter(|namespace| **namespace != Namespace::Pid) {
            let kind = match namespace {
                Namespace::User => LinkNameSpaceType::User,
                Namespace::Mount => LinkNameSpaceType::Mount,
                Namespace::Network => LinkNameSpaceType::Network,
                Namespace::Ipc => LinkNameSpaceType::InterProcessCommunication,
                Namespace::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
                Namespace::Cgroup => LinkNameSpaceType::ControlGroup,
                Namespace::Pid => continue,
            };
            rustix::thread::move_into_link_name_space(given.namespace(*namespace), Some(kind))?;
        }
        // What a fork hands on unasked: the zygote's session…
        rustix::process::setsid()?;
        let null: OwnedFd = File::open("/dev/null")?.into();
        let wanted: Vec<BorrowedFd<'_>> =
            [&null].into_iter().chain(given.files).chain([shim]).map(AsFd::as_fd).collect();
        steps_sys::install_files(&wanted)?;
        std::mem::forget(null);
        Ok(c_int::try_from(FILES).unwrap_or_default() + 1)
    };
    let channel = join().map_err(|error| StepError::new(&"join the sandbox", &error))?;
    // SAFETY: `install_files` has just put it there.
    let shim = unsafe { BorrowedFd::borrow_raw(channel) };
    let failed = |error: &io::Error| StepError::new(&"prepare the channel", error);
    rustix::io::fcntl_setfd(shim, rustix::io::FdFlags::CLOEXEC).map_err(|error| failed(&error.into()))?;
    // A spare waits for as long as nobody needs it.
    set_socket_timeout(shim, Timeout::Recv, None).map_err(|error| failed(&error.into()))?;
    execute_steps(&request.steps, Actor::Worker, forked_step)?;
    // …and its keyring, which its workers would share. As the worker's own user: the kernel counts keys by
    // user, and 200 workers of one zygote would have used up what one may have.
    steps_sys::new_session_keyring()
        .map_err(|error| StepError::new(&"join a new, empty session keyring", &error.into()))?;
    Ok(channel)
}

/// As [`worker_step`], but for the limit of private memory: a fork has what its zygote has reserved without having
/// asked for it, and the limit is on what comes on top. An allocator of Arrow's alone takes a gibibyte of addresses.
fn forked_step(step: &Step) -> io::Result<()> {
    let Action::Limit { resource: resource @ Resource::Data, value } = step.action else {
        return worker_step(step);
    };
    let value = value.saturating_add(reserved_bytes());
    worker_step(&Step { action: Action::Limit { resource, value }, ..step.clone() })
}

/// Private memory, used or not; 0 where nobody says.
fn reserved_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(5).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}

/// Waits for the shim's word and takes the worker's last steps.
pub(crate) fn seal(channel: c_int) {
    // SAFETY: `serve` gave it to us alone.
    let shim = unsafe { OwnedFd::from_raw_fd(channel) };
    let sealed = say(shim.as_fd(), &Reply::Waits, &[]).and_then(|()| hear::<Seal>(shim.as_fd()));
    // The shim has gone, and with it the sandbox.
    let Ok(Some((Seal { steps }, _))) = sealed else { steps_sys::exit_now(NOT_STARTED) };
    let answer = execute_steps(&steps, Actor::Worker, forked_step).and_then(|missing| {
        // Each change of ids takes it away, and exec would give it back.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|error| StepError::new(&"be dumpable", &error.into()))?;
        Ok(missing)
    });
    let reply = match answer {
        Ok(missing) => Reply::Sealed { missing },
        Err(error) => Reply::Failed(error),
    };
    let is_sealed = matches!(reply, Reply::Sealed { .. });
    if say(shim.as_fd(), &reply, &[]).is_err() || !is_sealed {
        steps_sys::exit_now(NOT_STARTED);
    }
}

fn from(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}
