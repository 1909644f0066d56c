//! A terminal that is written over each second. Plain ANSI: the other screen, home, clear to the end.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::fault::Fault;

/// How often a wait looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// Rows of a terminal that does not say.
const ROWS: usize = 24;

/// The other screen of the terminal, until it is dropped.
pub(super) struct Screen;

impl Screen {
    /// `None` when standard output is no terminal.
    pub(super) fn open() -> Option<Self> {
        let mut stdout = io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        // The other screen, and no cursor.
        write!(stdout, "\x1b[?1049h\x1b[?25l").ok()?;
        Some(Screen)
    }

    /// How many rows there are now.
    pub(super) fn rows(&self) -> usize {
        rustix::termios::tcgetwinsize(io::stdout()).map_or(ROWS, |size| match size.ws_row {
            0 => ROWS,
            rows => usize::from(rows),
        })
    }

    /// Shows this in place of what was there.
    pub(super) fn show(&self, text: &str) -> Result<(), Fault> {
        let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        let mut stdout = io::stdout().lock();
        // Long lines are cut, or a row would be two.
        let written = write!(stdout, "\x1b[H\x1b[?7l{}\x1b[J\x1b[?7h", lines.trim_end_matches('\n'));
        written.and_then(|()| stdout.flush()).map_err(Fault::Stdout)
    }

    /// Waits, unless it is no longer wanted.
    pub(super) fn wait(&self, interval: Duration, unwanted: &dyn Fn() -> bool) {
        let until = Instant::now() + interval;
        while !unwanted() && Instant::now() < until {
            std::thread::park_timeout(GLANCE);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = write!(io::stdout(), "\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
    }
}
