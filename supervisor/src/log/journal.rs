//! The log in systemd's journal, by its own protocol: a datagram per line, with a field for each of ours. The message has
//! them, too, because `journalctl` shows nothing but messages.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;

use serde_json::{Map, Value};
use tracing::{Level, Metadata};

use super::printable::is_hidden;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// What the journal calls our fields: `CELLBLOCK_NOTEBOOK` and so on.
const PREFIX: &str = "CELLBLOCK_";

/// Of one value; a datagram has its bounds.
const VALUE_BYTES: usize = 8 << 10;

/// The way to it.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Sees that it listens.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // One without content is no line.
        socket.send_to(&[], SOCKET)?;
        Ok(Journal(socket))
    }

    /// Writes a line; whether it could.
    pub(super) fn write(&self, fields: &Map<String, Value>, metadata: &Metadata<'_>) -> bool {
        self.0.send_to(&entry(fields, *metadata.level(), metadata.target()), SOCKET).is_ok()
    }
}

/// A line as the protocol has it.
fn entry(fields: &Map<String, Value>, level: Level, target: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, "MESSAGE", &message(fields));
    put(&mut bytes, "PRIORITY", priority(level));
    put(&mut bytes, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    put(&mut bytes, "TARGET", target);
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        let name = name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        put(&mut bytes, &format!("{PREFIX}{name}"), &plain(value));
    }
    bytes
}

/// As people read it: the words, then the fields.
pub(super) fn message(fields: &Map<String, Value>) -> String {
    let mut text = fields.get("message").map(plain).unwrap_or_default();
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        let value = match plain(value) {
            value if value.is_empty() || value.contains(|c| matches!(c, ' ' | '"') || is_hidden(c)) => {
                format!("{value:?}")
            }
            value => value,
        };
        // Writing to a String cannot fail.
        let _ = write!(text, " {name}={value}");
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// systemd's numbers are syslog's.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// A value with newlines is led by its length.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value.as_bytes()[..value.floor_char_boundary(VALUE_BYTES)];
    bytes.extend(name.as_bytes());
    if value.contains(&b'\n') {
        bytes.push(b'\n');
        bytes.extend((value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend(value);
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_its_fields_and_names_them_in_its_message() {
        let line = serde_json::json!({"message": "worker ended", "notebook": "a", "code": 3, "error": "no\nroom",
                "client": "a\u{9b}2J\u{202e}b"});
        let Value::Object(fields) = line else { unreachable!() };
        let entry = entry(&fields, Level::WARN, "cellblockd::notebook");
        let text = String::from_utf8_lossy(&entry);
        let (message, _) = text.split_once('\n').unwrap();
        assert!(message.starts_with("MESSAGE=worker ended "), "{message}");
        for part in [" code=3", " error=\"no\\nroom\"", " notebook=a", r#" client="a\u{9b}2J\u{202e}b""#] {
            assert!(message.contains(part), "{part}: {message}");
        }
        for part in
            ["PRIORITY=4\n", "CELLBLOCK_NOTEBOOK=a\n", "CELLBLOCK_CODE=3\n", "SYSLOG_IDENTIFIER=cellblockd\n"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("CELLBLOCK_ERROR\n\u{7}\0\0\0\0\0\0\0no\nroom\n"), "{text}");
    }

    #[test]
    fn long_value_is_cut_at_a_character() {
        let mut bytes = Vec::new();
        put(&mut bytes, "A", &"é".repeat(VALUE_BYTES));
        assert_eq!(bytes.len(), "A=\n".len() + VALUE_BYTES);
        assert!(String::from_utf8(bytes).is_ok());
    }
}
