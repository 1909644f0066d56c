//! JSON of which a terminal shows what it says: what moves the cursor, breaks a line or turns the direction of writing
//! is escaped. Clients choose names.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Whether a terminal or a pager would do something else with it than show it.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A value as JSON on one line.
///
/// # Errors
/// It is none that JSON has.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Printable))?;
    Ok(bytes)
}

struct Printable;

impl Formatter for Printable {
    // What JSON itself has escaped is no part of a fragment.
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hidden) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut after = rest[at..].chars();
            if let Some(hidden) = after.next() {
                // None of them is beyond the first 65,536.
                write!(writer, "\\u{:04x}", u32::from(hidden))?;
            }
            rest = after.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_be_seen_is_escaped_and_reads_back_the_same() {
        let name = "é\u{85}\u{9b}2J\u{7f}\u{2028}\u{202e}\u{2066}\u{1b}\"\\\n名";
        let bytes = json(&name).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let escaped = r#""é\u0085\u009b2J\u007f\u2028\u202e\u2066\u001b\"\\\n名""#;
        assert_eq!(text, escaped);
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
    }
}
