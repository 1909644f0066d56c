//! The system calls, behind safe functions.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// A system call's error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    pub(crate) fn last() -> Self {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

/// The proof that SIGINT is blocked in this thread, with the mask to go back to.
pub(crate) struct SigintBlocked {
    before: libc::sigset_t,
}

impl SigintBlocked {
    /// Runs `work` with SIGINT blocked in this thread.
    pub(crate) fn during(work: impl FnOnce(&Self) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut sigint = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: all three pointers are valid; pthread_sigmask fills `before` (it fails only for a
        // bad `how`), sigemptyset fills `sigint`.
        let before = unsafe {
            libc::sigemptyset(sigint.as_mut_ptr());
            libc::sigaddset(sigint.as_mut_ptr(), libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, sigint.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        let blocked = SigintBlocked { before };
        let result = work(&blocked);
        // SAFETY: `before` is the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &blocked.before, ptr::null_mut()) };
        result
    }

    /// Waits until each of `fds` (one or two) can be written, with signals as they were before: a
    /// signal ends the wait with `EINTR`. An error on one counts as ready; the write will name it.
    pub(crate) fn wait_writable(&self, fds: &[c_int]) -> Result<(), Errno> {
        let mut polls = [libc::pollfd { fd: -1, events: libc::POLLOUT, revents: 0 }; 2];
        for (poll, fd) in polls.iter_mut().zip(fds) {
            poll.fd = *fd;
        }
        while polls.iter().any(|poll| poll.fd >= 0) {
            // SAFETY: two pollfds, a valid mask, no timeout; a negative fd is passed over.
            if unsafe { libc::ppoll(polls.as_mut_ptr(), 2, ptr::null(), &self.before) } < 0 {
                return Err(Errno::last());
            }
            for poll in polls.iter_mut().filter(|poll| poll.revents != 0) {
                poll.fd = -1;
            }
        }
        Ok(())
    }

    /// The same in the middle of a write: SIGINT stays blocked, other signals only delay.
    fn wait_writable_blocked(&self, fd: c_int) {
        let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one pollfd, no timeout. The caller's loop tries again whatever ended the wait.
        unsafe { libc::poll(&mut poll, 1, -1) };
    }
}

/// What a descriptor stands for: device and inode; nothing when it is closed.
pub(crate) fn identity(fd: c_int) -> Option<(u64, u64)> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills `status` when it returns 0.
    unsafe {
        if libc::fstat(fd, status.as_mut_ptr()) != 0 {
            return None;
        }
        let status = status.assume_init();
        Some((status.st_dev, status.st_ino))
    }
}

/// Writes all of `bytes`, also where user code has made the pipe non-blocking.
pub(crate) fn write_all(fd: c_int, mut bytes: &[u8], signals: &SigintBlocked) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the range is the slice's.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) => retry(fd, signals)?,
        }
    }
    Ok(())
}

/// Sends `message` and `payload` as one message, with `memfd` when given.
pub(crate) fn send(
    socket: c_int,
    message: &[u8],
    payload: &[u8],
    memfd: Option<c_int>,
    signals: &SigintBlocked,
) -> Result<(), Errno> {
    let part =
        |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut parts = [part(message), part(payload)];
    // u64s, for the alignment of cmsghdr; one descriptor needs 24 bytes on 64-bit Linux.
    let mut control = [0u64; 4];
    // SAFETY: an all-zero msghdr is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = parts.len();
    if let Some(fd) = memfd {
        let fd_bytes = size_of::<c_int>() as u32;
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE is arithmetic.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(fd_bytes) } as usize;
        // SAFETY: `control` is large enough for one header and one descriptor (CMSG_SPACE(4) is 24),
        // so CMSG_FIRSTHDR points into it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(fd_bytes) as usize;
            ptr::write_unaligned(libc::CMSG_DATA(first).cast(), fd);
        }
    }
    loop {
        // SAFETY: header, parts and control live until the end of the function. MSG_NOSIGNAL: the
        // shim may be gone, and user code may have un-ignored SIGPIPE.
        if unsafe { libc::sendmsg(socket, &header, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(());
        }
        retry(socket, signals)?;
    }
}

/// A memfd holding `bytes` that nobody can change any more: the shim may map it without fear.
pub(crate) fn sealed_memfd(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string.
    let fd = unsafe {
        libc::memfd_create(c"cellblock-payload".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: memfd_create just made it, nobody else owns it.
    let memfd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the range is the slice's.
        let written = unsafe { libc::write(memfd.as_raw_fd(), rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(written) => rest = &rest[written..],
            Err(_) if Errno::last() == Errno(libc::EINTR) => {}
            Err(_) => return Err(Errno::last()),
        }
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: fcntl with an integer argument.
    if unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(Errno::last());
    }
    Ok(memfd)
}

/// After a failed write: waits and says "again", or gives the error back.
fn retry(fd: c_int, signals: &SigintBlocked) -> Result<(), Errno> {
    match Errno::last() {
        Errno(libc::EINTR) => Ok(()),
        Errno(libc::EAGAIN) => {
            signals.wait_writable_blocked(fd);
            Ok(())
        }
        other => Err(other),
    }
}
