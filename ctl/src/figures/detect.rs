//! What the terminal draws, without guessing: a terminal that names itself is believed, any other is asked.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::Protocol;

/// How long an answer is waited for. Nearly every terminal answers in milliseconds; a connection from far
/// away takes its time, and an answer that comes late would be typed into the shell.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// Longest answer that is read.
const ANSWER_BYTES: usize = 256;

/// The protocol of the terminal, if it has one.
pub(super) fn protocol() -> Option<Protocol> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match named(&variable) {
        Named::Draws(protocol) => Some(protocol),
        Named::Plain => None,
        Named::Unknown => draws_sixels().then_some(Protocol::Sixel),
    }
}

/// What a terminal says of itself in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Draws(Protocol),
    /// It draws nothing, and should not be asked.
    Plain,
    Unknown,
}

fn named(variable: &dyn Fn(&str) -> Option<String>) -> Named {
    let term = variable("TERM").unwrap_or_default();
    // What the terminal outside of a multiplexer can says nothing of the one we write to.
    if variable("TMUX").is_some()
        || variable("STY").is_some()
        || term.starts_with("tmux")
        || term.starts_with("screen")
    {
        return Named::Unknown;
    }
    match term.as_str() {
        "" | "dumb" | "linux" => return Named::Plain,
        // Each terminal sets its own TERM, and ssh takes it along; the variables below are inherited.
        "xterm-kitty" | "xterm-ghostty" => return Named::Draws(Protocol::Kitty),
        _ => {}
    }
    let program = variable("TERM_PROGRAM");
    match program.as_deref() {
        Some("iTerm.app" | "WezTerm") => Named::Draws(Protocol::Iterm2),
        Some("ghostty") => Named::Draws(Protocol::Kitty),
        Some("Apple_Terminal") => Named::Plain,
        Some(_) => Named::Unknown,
        None if variable("KITTY_WINDOW_ID").is_some() => Named::Draws(Protocol::Kitty),
        // iTerm2 sets this one because ssh passes it on.
        None if variable("LC_TERMINAL").as_deref() == Some("iTerm2") => Named::Draws(Protocol::Iterm2),
        None => Named::Unknown,
    }
}

/// Asks the terminal for its device attributes; 4 among them means sixels.
fn draws_sixels() -> bool {
    answer().is_ok_and(|answer| answer.is_some_and(|answer| has_sixels(&answer)))
}

/// `ESC [ ? 62 ; 4 ; 22 c`: the class, then what it can.
fn has_sixels(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let attributes = text.split_once("\x1b[?").and_then(|(_, rest)| rest.split_once('c'));
    attributes.is_some_and(|(attributes, _)| attributes.split(';').skip(1).any(|attribute| attribute == "4"))
}

/// The answer to "primary device attributes"; `None` when it is not safe to ask, or nothing comes.
fn answer() -> io::Result<Option<Vec<u8>>> {
    let (stdin, mut stdout) = (io::stdin(), io::stdout());
    let before = tcgetattr(&stdin)?;
    // Both ends must be the same terminal, or somebody else gets the question or the answer.
    if fstat(&stdin)?.st_rdev != fstat(&stdout)?.st_rdev {
        return Ok(None);
    }
    // In the background, changing the terminal would stop us. A terminal that is not ours to control
    // has no foreground.
    if tcgetpgrp(&stdin).is_ok_and(|group| group != getpgrp()) {
        return Ok(None);
    }
    // Somebody types ahead: the keys would be taken for the answer, and lost.
    if readable(&stdin, Duration::ZERO)? {
        return Ok(None);
    }
    let mut raw = before.clone();
    raw.make_raw();
    // Only the input's manner is changed: what we write goes through as ever, and Ctrl-C is heard.
    raw.output_modes = before.output_modes;
    raw.local_modes.insert(LocalModes::ISIG);
    tcsetattr(&stdin, OptionalActions::Now, &raw)?;
    let _restored = Restored(before);
    stdout.write_all(b"\x1b[c")?;
    stdout.flush()?;
    let deadline = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !readable(&stdin, left)? {
            return Ok(None);
        }
        let mut byte = [0];
        // Unbuffered, so that nothing is left in our memory that somebody has typed.
        if rustix::io::read(&stdin, &mut byte)? == 0 {
            return Ok(None);
        }
        answer.push(byte[0]);
        if byte[0] == b'c' && answer.windows(3).any(|three| three == b"\x1b[?") {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

fn readable(stdin: &io::Stdin, patience: Duration) -> io::Result<bool> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(stdin, PollFlags::IN)], Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives the terminal its manner back, however we leave.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Named {
        named(&|name| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_terminal_that_names_itself_is_believed() {
        let (kitty, iterm2) = (Named::Draws(Protocol::Kitty), Named::Draws(Protocol::Iterm2));
        for (variables, expected) in [
            (&[("TERM", "xterm-kitty"), ("KITTY_WINDOW_ID", "1")][..], kitty),
            (&[("TERM", "xterm-ghostty"), ("TERM_PROGRAM", "ghostty")], kitty),
            (&[("TERM", "xterm-256color"), ("KITTY_WINDOW_ID", "1")], kitty),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")], iterm2),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "WezTerm")], iterm2),
            (&[("TERM", "xterm-256color"), ("LC_TERMINAL", "iTerm2")], iterm2),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "Apple_Terminal")], Named::Plain),
            (&[("TERM", "xterm-256color")], Named::Unknown),
            (&[("TERM", "linux")], Named::Plain),
            (&[("TERM", "dumb"), ("KITTY_WINDOW_ID", "1")], Named::Plain),
            (&[], Named::Plain),
        ] {
            assert_eq!(of(variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn what_was_inherited_from_another_terminal_is_not_believed() {
        for variables in [
            // A multiplexer inside kitty or iTerm2.
            &[("TERM", "screen-256color"), ("KITTY_WINDOW_ID", "1")][..],
            &[("TERM", "tmux-256color"), ("LC_TERMINAL", "iTerm2")],
            &[("TERM", "xterm-kitty"), ("TMUX", "/tmp/tmux-0/default,1,0")],
            &[("TERM", "xterm-256color"), ("STY", "1.pts-0"), ("TERM_PROGRAM", "iTerm.app")],
            // An editor that was started from kitty.
            &[("TERM", "xterm-256color"), ("TERM_PROGRAM", "vscode"), ("KITTY_WINDOW_ID", "1")],
        ] {
            assert_eq!(of(variables), Named::Unknown, "{variables:?}");
        }
    }

    #[test]
    fn sixels_are_attribute_4() {
        for (answer, expected) in [
            ("\x1b[?62;4;22c", true),
            ("\x1b[?4c", false),
            ("\x1b[?64;1;2;6;9;15;18;21;22c", false),
            ("x\x1b[?1;4c", true),
            ("", false),
            ("\x1b[?62;4", false),
        ] {
            assert_eq!(has_sixels(answer.as_bytes()), expected, "{answer:?}");
        }
    }
}
