//! What a terminal may get from code that is not trusted: its colours and its motion within the line, but
//! no other control sequence, as those can set titles, write to the clipboard, or type.

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
}
