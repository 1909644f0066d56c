//! Outputs as text in a terminal: streams as they come, results by their `text/plain`, images by
//! their size.
//!
//! The code is not trusted, so a terminal gets its colours and progress bars but no other control
//! sequence: those can set titles, write to the clipboard, or type. Pipes and files get the bytes.

use std::io::{self, IsTerminal, Write};

use cellblock_proto::execution::{Bundle, Output, StreamName};

use crate::ending::bytes;
use crate::notebook::outputs::words;
use crate::notebook::text::Utf8Decoder;

/// Writes outputs to standard output and standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    stdout: Side,
    stderr: Side,
}

#[derive(Debug)]
struct Side {
    /// `None`: bytes pass as they are.
    filter: Option<Filter>,
    decoder: Utf8Decoder,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let side =
            |terminal: bool| Side { filter: terminal.then(Filter::default), decoder: Utf8Decoder::default() };
        Screen { stdout: side(io::stdout().is_terminal()), stderr: side(io::stderr().is_terminal()) }
    }

    /// Shows one output. What needs an answer or changes earlier outputs is not shown.
    pub(crate) fn show(&mut self, output: &Output, payload: &[u8]) -> io::Result<()> {
        match output {
            Output::Stream { name: StreamName::Stdout } => self.stdout.write(&mut io::stdout(), payload),
            Output::Stream { name: StreamName::Stderr } => self.stderr.write(&mut io::stderr(), payload),
            Output::Display { bundle, .. } | Output::Result { bundle, .. } => {
                let text = plain(bundle, payload) + "\n";
                self.stdout.write(&mut io::stdout(), text.as_bytes())
            }
            Output::Error(report) => {
                let text = if report.traceback.is_empty() {
                    format!("{}: {}\n", report.name, report.value)
                } else {
                    report.traceback.join("\n") + "\n"
                };
                let text = if self.stderr.filter.is_some() { text } else { without_ansi(&text) };
                self.stderr.write(&mut io::stderr(), text.as_bytes())
            }
            Output::Truncated { .. } | Output::Notice { .. } => {
                let text = words(output).unwrap_or_default();
                self.stderr.write(&mut io::stderr(), text.as_bytes())
            }
            Output::ClearOutput { .. } | Output::InputRequest { .. } => Ok(()),
        }
    }
}

impl Side {
    fn write(&mut self, out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
        match &mut self.filter {
            None => out.write_all(bytes)?,
            Some(filter) => out.write_all(filter.pass(&self.decoder.decode(bytes)).as_bytes())?,
        }
        out.flush()
    }
}

/// A bundle in one piece of text.
pub(crate) fn plain(bundle: &Bundle, payload: &[u8]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for part in &bundle.parts {
        let Some(bytes) = part.span.of(payload) else { continue };
        if part.mime.starts_with("image/") {
            lines.push(image_line(&part.mime, bytes));
        }
    }
    let text = |mime: &str| {
        let part = bundle.parts.iter().find(|part| part.mime == mime)?;
        Some(String::from_utf8_lossy(part.span.of(payload)?).into_owned())
    };
    // Beside an image, `<Figure size 640x480 with 1 Axes>` says nothing more.
    // Markdown is for reading as it is; the plain text beside it is only an object's name.
    let shown = text("text/markdown").or_else(|| text("text/plain")).or_else(|| text("text/latex"));
    match shown {
        Some(text) if lines.is_empty() => lines.push(text),
        None if lines.is_empty() => {
            let mimes: Vec<_> = bundle.parts.iter().map(|part| part.mime.as_str()).collect();
            lines.push(format!("[{}]", mimes.join(", ")));
        }
        _ => {}
    }
    lines.join("\n")
}

fn image_line(mime: &str, image: &[u8]) -> String {
    let size = image_size(mime, image).map_or(String::new(), |(width, height)| format!(" {width}×{height},"));
    format!("[{mime}{size} {}]", bytes(image.len() as u64))
}

/// Width and height in pixels, from the places where PNG (IHDR) and GIF headers keep them.
fn image_size(mime: &str, image: &[u8]) -> Option<(u32, u32)> {
    match mime {
        "image/png" => {
            let word = |at: usize| Some(u32::from_be_bytes(image.get(at..at + 4)?.try_into().ok()?));
            Some((word(16)?, word(20)?))
        }
        "image/gif" => {
            let word = |at: usize| Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?).into());
            Some((word(6)?, word(8)?))
        }
        _ => None,
    }
}

/// Lets text, colours and motion within the line pass, and drops every other control sequence.
/// Keeps its place between pieces, as sequences come cut in two.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    state: State,
    /// The CSI sequence so far.
    sequence: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [ … final`.
    Control,
    /// `ESC ] … BEL` or `… ESC \`: titles, clipboard, links.
    Command,
    CommandEscape,
}

/// Longest CSI sequence that passes, in bytes; true-colour SGR with both colours has some 40.
const SEQUENCE_BYTES: usize = 64;

impl Filter {
    pub(crate) fn pass(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.state = match (self.state, c) {
                (State::Text, '\x1b') => State::Escape,
                (State::Text, '\n' | '\r' | '\t' | '\x08') => {
                    out.push(c);
                    State::Text
                }
                (State::Text, _) => {
                    // C1 controls (U+0080 to U+009F) are escape sequences in one character.
                    if !c.is_control() {
                        out.push(c);
                    }
                    State::Text
                }
                (State::Escape, '[') => {
                    self.sequence.clear();
                    State::Control
                }
                (State::Escape, ']' | 'P' | '_' | '^' | 'X') => State::Command,
                (State::Escape, _) => State::Text,
                (State::Control, '\x20'..='\x3f') => {
                    if self.sequence.len() <= SEQUENCE_BYTES {
                        self.sequence.push(c);
                    }
                    State::Control
                }
                (State::Control, _) => {
                    // SGR, erase in line, cursor up, down, forward, back: what colours and
                    // progress bars need. A private marker (`?`) is no such thing.
                    let harmless = self.sequence.chars().all(|c| c.is_ascii_digit() || ";:".contains(c));
                    if harmless && self.sequence.len() <= SEQUENCE_BYTES && "mKABCD".contains(c) {
                        out.push_str("\x1b[");
                        out.push_str(&self.sequence);
                        out.push(c);
                    }
                    State::Text
                }
                (State::Command, '\x07') => State::Text,
                (State::Command, '\x1b') => State::CommandEscape,
                (State::Command, _) => State::Command,
                (State::CommandEscape, '\\') => State::Text,
                (State::CommandEscape, _) => State::Command,
            };
        }
        out
    }
}

/// The text without escape sequences, for readers that are no terminal.
pub(crate) fn without_ansi(text: &str) -> String {
    let safe = Filter::default().pass(text);
    let mut out = String::with_capacity(safe.len());
    let mut rest = safe.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        rest = rest.get(1..).unwrap_or_default();
    }
    out + rest
}

/// The text on one line and without control characters: names and reasons that are shown between
/// our own words must not pass for more of them.
pub(crate) fn one_line(text: &str) -> String {
    without_ansi(text).trim_end().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use cellblock_proto::execution::{Part, Span};

    use super::*;

    #[test]
    fn colours_pass_and_commands_to_the_terminal_do_not() {
        let mut filter = Filter::default();
        assert_eq!(filter.pass("\x1b[1;31mred\x1b[0m 10%\r20%"), "\x1b[1;31mred\x1b[0m 10%\r20%");
        assert_eq!(filter.pass("a\x1b]52;c;ZXZpbA==\x07b\x1b]0;t\x1b\\c"), "abc");
        assert_eq!(filter.pass("\x1bcx\x1b[?1049hy\x1b[2Jz\u{9b}31m\x07"), "xyz31m");
        // Cut between two pieces.
        assert_eq!(filter.pass("\x1b[3") + &filter.pass("2mgreen"), "\x1b[32mgreen");
    }

    #[test]
    fn text_without_colours_is_the_text() {
        assert_eq!(without_ansi("\x1b[1;31mred\x1b[0m\nx"), "red\nx");
    }

    #[test]
    fn words_between_our_own_stay_on_their_line() {
        assert_eq!(one_line("a\x1b[2K\x1b[31mb\rc\x08d\ne\x1b]0;t\x07\u{9b}f\n"), "ab c d ef");
    }

    #[test]
    fn an_image_is_shown_by_its_size() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0".to_vec();
        png.resize(23_400, 0);
        let span = |offset, length| Span { offset, length };
        let parts = vec![
            Part { mime: "text/plain".into(), span: span(23_400, 8) },
            Part { mime: "image/png".into(), span: span(0, 23_400) },
        ];
        png.extend_from_slice(b"<Figure>");
        let bundle = Bundle { parts, metadata: None };
        assert_eq!(plain(&bundle, &png), "[image/png 640×480, 23 kB]");
    }
}
