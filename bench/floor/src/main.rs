//! The bare floor of a new notebook: one clone3(2) into new user, pid, mount, network, ipc and uts namespaces,
//! and in there the interpreter, which runs the code and prints. No root of its own, no limits, no Landlock, no
//! protocol: whatever starts an interpreter in these namespaces takes at least so long.
//!
//! `cellblock-bench-floor EXPECTED PROGRAM ARGUMENT…` prints the nanoseconds from before the clone until the line
//! EXPECTED had come from the program's stdout.

#![expect(
    unsafe_code,
    reason = "clone3 and what comes between it and exec have no safe form without a dependency"
)]

use std::ffi::{CStr, CString, OsString, c_char};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Instant;

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// A line is never longer.
const LINE_BYTES: usize = 256;

fn main() -> ExitCode {
    match measure(std::env::args_os().skip(1)) {
        Ok(nanoseconds) => match writeln!(io::stdout(), "{nanoseconds}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut arguments: impl Iterator<Item = OsString>) -> io::Result<u128> {
    let usage = || io::Error::other("usage: cellblock-bench-floor EXPECTED PROGRAM ARGUMENT…");
    let mut expected = arguments.next().ok_or_else(usage)?.into_vec();
    expected.push(b'\n');
    let argv = arguments.map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>()?;
    if argv.is_empty() {
        return Err(usage());
    }
    let mut pointers: Vec<*const c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // Everything the child needs is made before the clone: between it and exec nothing is allocated.
    // SAFETY: these take nothing and cannot fail.
    let maps = unsafe { [id_map(libc::geteuid()), id_map(libc::getegid())] };

    let started = Instant::now();
    let (ours, theirs) = pipe()?;
    // SAFETY: we have one thread, and the child makes system calls only until it execs or ends.
    let pid = unsafe { clone3()? };
    if pid == 0 {
        // SAFETY: `pointers` ends with null and points into `argv`, which lives until exec.
        unsafe { be_the_program(&maps, theirs.as_raw_fd(), &pointers) }
    }
    drop(theirs);
    let answer = read_line(&ours)?;
    let nanoseconds = started.elapsed().as_nanos();

    // SAFETY: the pid is our child's, and nobody has waited for it yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
    if answer != expected {
        return Err(io::Error::other(format!(
            "the program said {:?} instead of {:?}",
            String::from_utf8_lossy(&answer),
            String::from_utf8_lossy(&expected)
        )));
    }
    Ok(nanoseconds)
}

/// The line that makes an id root of the new user namespace.
fn id_map(id: u32) -> Vec<u8> {
    format!("0 {id} 1\n").into_bytes()
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has place for both; what the kernel puts there is ours alone.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Like fork(2), but into new namespaces.
///
/// # Safety
/// The child may call nothing that another thread of ours could have left in the middle of something.
unsafe fn clone3() -> io::Result<libc::pid_t> {
    let flags = u64::from(NAMESPACES.cast_unsigned());
    // SAFETY: all zero is a valid `clone_args`: no stack of its own, no pointer.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: `arguments` is as long as is said; the caller keeps to what a forked child may do.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::pid_t::try_from(pid).map_err(io::Error::other)
}

/// The child: root of its namespaces, the pipe as its stdout, then the program.
///
/// # Safety
/// Only in a child of [`clone3`]; `argv` ends with null and its pointers are valid.
unsafe fn be_the_program(maps: &[Vec<u8>; 2], stdout: i32, argv: &[*const c_char]) -> ! {
    // SAFETY: system calls only, on memory that was made before the clone.
    unsafe {
        let mapped = write_file(c"/proc/self/setgroups", b"deny")
            && write_file(c"/proc/self/uid_map", &maps[0])
            && write_file(c"/proc/self/gid_map", &maps[1]);
        if mapped && libc::dup2(stdout, 1) == 1 {
            libc::execv(argv[0], argv.as_ptr());
        }
        libc::_exit(127)
    }
}

/// # Safety
/// As [`be_the_program`].
unsafe fn write_file(path: &CStr, content: &[u8]) -> bool {
    // SAFETY: the path ends with null, `content` is as long as is said.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY);
        let written = file >= 0
            && usize::try_from(libc::write(file, content.as_ptr().cast(), content.len()))
                == Ok(content.len());
        libc::close(file);
        written
    }
}

/// To the end of the first line, or of everything.
fn read_line(from: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(LINE_BYTES);
    let mut piece = [0; LINE_BYTES];
    while !line.ends_with(b"\n") && line.len() < LINE_BYTES {
        // SAFETY: `piece` is as long as is said.
        let count = unsafe { libc::read(from.as_raw_fd(), piece.as_mut_ptr().cast(), piece.len()) };
        match usize::try_from(count) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&piece[..count]),
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(line)
}
