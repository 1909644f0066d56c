//! A terminal for `cellctl`: what it was sent, and what then stands on its screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::wait;

/// The question for a terminal's attributes.
const QUESTION: &[u8] = b"\x1b[c";

/// What a terminal is like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Columns of characters.
    pub columns: u16,
    /// Rows of characters.
    pub rows: u16,
    /// Width in pixels.
    pub pixels: u16,
    /// What it answers when it is asked for its attributes.
    pub answer: &'static [u8],
}

/// What came of a program in a terminal.
#[derive(Debug)]
pub struct Shown {
    /// Every byte, with the line ends that the terminal makes.
    pub sent: Vec<u8>,
    /// The lines of the screen and of what has left it at its upper end.
    pub lines: Vec<String>,
    /// How often it was asked for its attributes.
    pub questions: usize,
    /// How it ended.
    pub status: ExitStatus,
    /// Whether the terminal's settings were at the end what they had been.
    pub restored: bool,
}

/// Runs a program in a terminal to its end.
///
/// # Panics
/// When it cannot be started, or does not end within [`wait::PATIENCE`].
pub fn run(mut command: Command, kind: Kind) -> Shown {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("our own terminal");
    let size = Winsize {
        ws_row: kind.rows,
        ws_col: kind.columns,
        ws_xpixel: kind.pixels,
        ws_ypixel: kind.rows * 20,
    };
    tcsetwinsize(&ours, size).expect("our own terminal");
    let name = ptsname(&ours, Vec::new()).expect("our own terminal");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs: OwnedFd = open(&*name, flags, Mode::empty()).expect("the other end of our own terminal");
    let before = settings(&tcgetattr(&theirs).expect("a terminal"));
    let mut file = File::from(ours);
    let end = || theirs.try_clone().expect("a descriptor");
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it can be started");
    // The command keeps copies of the ends that it gave.
    drop(command);
    let keep = end();
    drop(theirs);
    let deadline = Instant::now() + wait::PATIENCE;
    let (mut sent, mut questions) = (Vec::new(), 0);
    let mut has_ended = false;
    // While we keep an end ourselves there is no end of file: what is there when it has ended is all.
    loop {
        has_ended = has_ended || child.try_wait().expect("a child").is_some();
        let patience = if has_ended { Duration::ZERO } else { wait::GLANCE };
        if !wait::readable(&file, patience) {
            if has_ended {
                break;
            }
            assert!(Instant::now() < deadline, "it does not end: {:?}", String::from_utf8_lossy(&sent));
            continue;
        }
        let mut piece = [0; 65_536];
        let count = file.read(&mut piece).expect("our own terminal");
        sent.extend_from_slice(&piece[..count]);
        let asked = sent.windows(QUESTION.len()).filter(|bytes| *bytes == QUESTION).count();
        if asked > questions {
            questions = asked;
            file.write_all(kind.answer).expect("our own terminal");
        }
    }
    let status = child.wait().expect("a child");
    let restored = settings(&tcgetattr(&keep).expect("a terminal")) == before;
    let lines = screen(&sent, kind);
    Shown { sent, lines, questions, status, restored }
}

fn settings(of: &Termios) -> String {
    format!("{:?} {:?} {:?} {:?}", of.input_modes, of.output_modes, of.control_modes, of.local_modes)
}

/// What the bytes leave on a screen: text, motion, erasing. Images and colours leave nothing here.
fn screen(sent: &[u8], kind: Kind) -> Vec<String> {
    let (columns, rows) = (usize::from(kind.columns), usize::from(kind.rows));
    let text = String::from_utf8_lossy(sent).into_owned();
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0usize, 0usize);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' => row += 1,
            '\r' => column = 0,
            '\x1b' => match rest.next() {
                Some('[') => {
                    let mut parameter = String::new();
                    let last = loop {
                        match rest.next() {
                            Some(c) if c.is_ascii_alphabetic() => break c,
                            Some(c) => parameter.push(c),
                            None => break 'm',
                        }
                    };
                    let top = lines.len().saturating_sub(rows);
                    match last {
                        'A' => row = row.saturating_sub(parameter.parse().unwrap_or(1)).max(top),
                        'J' => {
                            lines.truncate(row + 1);
                            lines[row].truncate(column);
                        }
                        'K' => lines[row].truncate(column),
                        _ => {}
                    }
                }
                // A string for the terminal, up to its end.
                Some('P' | ']' | '_') => {
                    while let Some(c) = rest.next() {
                        if c == '\x07' || c == '\x1b' && rest.next_if_eq(&'\\').is_some() {
                            break;
                        }
                    }
                }
                _ => {}
            },
            c if c.is_control() => {}
            c => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}
