//! Outputs in a terminal, as well as it can: streams as they come, results as text, figures drawn or
//! saved, progress bars and `clear_output` by moving back over what still stands on the screen.
//!
//! The code is not trusted, so a terminal gets nothing of it but text, colours and motion ([`Filter`]), and
//! images that are what they say ([`crate::figures`]). Pipes and files get the bytes of streams as they
//! are, and no control sequence of ours.

mod cursor;
mod filter;
mod html_text;
mod plain;
mod table;

use std::io::{self, IsTerminal, Write};

use cellblock_proto::execution::{Bundle, Output, StreamName};

use self::cursor::{Cursor, Mark};
pub(crate) use self::filter::{Filter, one_line, without_ansi};
pub(crate) use self::plain::is_only_a_name;
use self::plain::{Shown, shown};
use crate::figures::{Figures, Shape};
use crate::notebook::outputs::words;
use crate::notebook::text::Utf8Decoder;

/// What stands where `clear_output` could not erase.
const CLEARED: &str = "\x1b[2m┄┄┄┄\x1b[0m\n";

/// Writes outputs to standard output and standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    stdout: Side,
    stderr: Side,
    figures: Figures,
    /// The terminal's, when standard output is one.
    cursor: Option<Cursor>,
    /// Where the outputs of this cell begin.
    begin: Mark,
    /// The display that was written last, and where it begins: its update takes its place.
    last_display: Option<(String, Mark)>,
    /// `clear_output(wait=True)` was called and nothing has come since.
    clear_next: bool,
}

/// The image that an output is, with its display id.
pub(crate) fn image_of<'a>(
    output: &'a Output,
    payload: &'a [u8],
) -> Option<(&'a str, &'a [u8], Option<&'a str>)> {
    let (bundle, id) = match output {
        Output::Display { bundle, display_id, .. } => (bundle, display_id.as_deref()),
        Output::Result { bundle, .. } => (bundle, None),
        _ => return None,
    };
    match shown(bundle, payload, 0) {
        Shown::Image { mime, bytes } => Some((mime, bytes, id)),
        _ => None,
    }
}

#[derive(Debug)]
struct Side {
    /// `None`: bytes pass as they are.
    filter: Option<Filter>,
    decoder: Utf8Decoder,
    /// Whether something stands in the current line.
    in_line: bool,
}

impl Screen {
    pub(crate) fn new(figures: Figures) -> Self {
        let side = |terminal: bool| Side {
            filter: terminal.then(Filter::default),
            decoder: Utf8Decoder::default(),
            in_line: false,
        };
        let terminal = io::stdout().is_terminal();
        Screen {
            stdout: side(terminal),
            stderr: side(io::stderr().is_terminal()),
            figures,
            cursor: terminal.then(Cursor::default),
            begin: Mark::default(),
            last_display: None,
            clear_next: false,
        }
    }

    /// What follows is put out by the cell of this number, if cells have numbers.
    pub(crate) fn begin_cell(&mut self, number: Option<usize>) {
        self.figures.begin_cell(number);
        self.lose_cursor();
        self.clear_next = false;
    }

    /// Somebody else wrote to the terminal, a whole line.
    pub(crate) fn lose_cursor(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.lose();
            self.begin = cursor.mark();
            self.stdout.in_line = false;
        }
        self.last_display = None;
    }

    /// Ends a line that the code has left open.
    fn end_line(&mut self) -> io::Result<()> {
        if self.stdout.in_line || self.cursor.as_ref().is_some_and(Cursor::in_line) {
            self.put(StreamName::Stdout, b"\n")?;
        }
        Ok(())
    }

    /// Ends a line that the code has left open in the terminal, before words of ours. A pipe gets what the
    /// code wrote and nothing else.
    pub(crate) fn end_terminal_line(&mut self) -> io::Result<()> {
        if self.cursor.is_some() { self.end_line() } else { Ok(()) }
    }

    /// Shows one output. What needs an answer is not shown.
    pub(crate) fn show(&mut self, output: &Output, payload: &[u8]) -> io::Result<()> {
        match output {
            Output::ClearOutput { wait: true } => {
                self.clear_next = true;
                return Ok(());
            }
            Output::ClearOutput { wait: false } => return self.clear(),
            Output::InputRequest { .. } => return Ok(()),
            _ => {}
        }
        if std::mem::take(&mut self.clear_next) {
            self.clear()?;
        }
        let last_display = self.last_display.take();
        match output {
            Output::Stream { name } => self.put(*name, payload),
            Output::Display { bundle, display_id, update } => {
                if let Some((id, mark)) = last_display
                    && *update
                    && display_id.as_deref() == Some(&*id)
                    && let Some(cursor) = &mut self.cursor
                    && let Some(back) = cursor.back_to(mark, Shape::of_terminal().rows)
                {
                    self.raw(&back)?;
                    self.stdout.in_line = false;
                }
                self.display(bundle, payload, display_id.as_deref())
            }
            Output::Result { bundle, .. } => self.display(bundle, payload, None),
            Output::Error(report) => {
                let text = if report.traceback.is_empty() {
                    format!("{}: {}\n", report.name, report.value)
                } else {
                    report.traceback.join("\n") + "\n"
                };
                let text = if self.stderr.filter.is_some() { text } else { without_ansi(&text) };
                self.block(StreamName::Stderr, &text)
            }
            Output::Truncated { .. } | Output::Notice { .. } => {
                let text = words(output).unwrap_or_default();
                self.block(StreamName::Stderr, &text)
            }
            Output::ClearOutput { .. } | Output::InputRequest { .. } => Ok(()),
        }
    }

    fn display(&mut self, bundle: &Bundle, payload: &[u8], id: Option<&str>) -> io::Result<()> {
        let shape = if self.cursor.is_some() { Shape::of_terminal() } else { Shape::default() };
        let text = match shown(bundle, payload, shape.columns) {
            Shown::Nothing => return Ok(()),
            Shown::Text(text) => text,
            Shown::Image { mime, bytes } => {
                let figure = self.figures.show(mime, bytes, id, &shape);
                if let Some(drawing) = figure.drawing {
                    self.end_line()?;
                    self.raw(&drawing)?;
                    self.lose_cursor();
                }
                figure.words
            }
        };
        if text.is_empty() {
            return Ok(());
        }
        self.end_line()?;
        let mark = self.cursor.as_ref().map(Cursor::mark);
        self.put(StreamName::Stdout, (text + "\n").as_bytes())?;
        self.last_display = id.map(str::to_owned).zip(mark);
        Ok(())
    }

    /// Text that begins a line of its own.
    fn block(&mut self, name: StreamName, text: &str) -> io::Result<()> {
        if self.cursor.is_some() && self.stderr.filter.is_some() {
            self.end_line()?;
        }
        self.put(name, text.as_bytes())
    }

    /// Takes back what this cell wrote, if it still stands on the screen.
    fn clear(&mut self) -> io::Result<()> {
        self.clear_next = false;
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let back = cursor.back_to(self.begin, Shape::of_terminal().rows);
        self.stdout.in_line = false;
        self.last_display = None;
        if let Some(back) = back {
            return self.raw(&back);
        }
        self.end_line()?;
        self.raw(CLEARED)?;
        self.lose_cursor();
        Ok(())
    }

    fn put(&mut self, name: StreamName, bytes: &[u8]) -> io::Result<()> {
        let (side, out): (_, &mut dyn Write) = match name {
            StreamName::Stdout => (&mut self.stdout, &mut io::stdout()),
            StreamName::Stderr => (&mut self.stderr, &mut io::stderr()),
        };
        let Some(filter) = &mut side.filter else {
            if let Some(last) = bytes.last() {
                side.in_line = *last != b'\n';
            }
            out.write_all(bytes)?;
            return out.flush();
        };
        let text = filter.pass(&side.decoder.decode(bytes));
        if let Some(cursor) = &mut self.cursor {
            cursor.follow(&text, Shape::of_terminal().columns);
        }
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Our own control sequences, to a terminal.
    fn raw(&mut self, sequence: &str) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(sequence.as_bytes())?;
        stdout.flush()
    }
}
