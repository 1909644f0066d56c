//! Names of files in messages. A workspace holds whatever names the kernel allows: bytes without `/`
//! and NUL. A message holds UTF-8. So bytes that are no UTF-8, and control characters, stand as
//! `\xNN`, and a backslash as `\\`; every name that is listed can be asked for in the same form.
//!
//! A path is such names with `/` between them, relative to the workspace. `..`, a leading `/` and a
//! `/` that hides in an escape are refused here, before anything is looked up.

/// Longest path in bytes, unescaped: the kernel's own limit (PATH_MAX, with its NUL).
pub const MAX_PATH_BYTES: usize = 4095;

/// Longest name in bytes, unescaped (NAME_MAX).
pub const MAX_NAME_BYTES: usize = 255;

/// Why a text is no path in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It begins at a root that is not there.
    #[error("it begins with `/`, and paths are relative to the workspace")]
    Absolute,
    /// It would leave the workspace.
    #[error("it has a `..`, and nothing outside the workspace can be reached")]
    Escapes,
    /// A backslash before something else than `\` or `xNN`.
    #[error(r"it has a backslash that is no escape: write `\\`, or `\xNN` for a byte")]
    Escape,
    /// A byte that no name can have.
    #[error(r"a name can hold neither `/` nor NUL, escaped or not")]
    Byte,
    /// Above [`MAX_PATH_BYTES`] or [`MAX_NAME_BYTES`].
    #[error("it is too long: a name may have {MAX_NAME_BYTES} bytes, a path {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// A name as messages have it.
pub fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str(r"\\"),
                c if c.is_control() => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escaped(byte, &mut text));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_escaped(*byte, &mut text));
    }
    text
}

fn push_escaped(byte: u8, text: &mut String) {
    use std::fmt::Write;
    // Writing to a String does not fail.
    let _ = write!(text, r"\x{byte:02x}");
}

/// The names that a path consists of; none for the workspace itself (empty, or `.`).
///
/// # Errors
/// It is no path in a workspace.
pub fn parse(path: &str) -> Result<Vec<Vec<u8>>, PathError> {
    // No byte needs more than four characters, so this is refused before anything is kept.
    if path.len() > 4 * MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    let mut names = Vec::new();
    let mut bytes = 0;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let name = unescape(part)?;
        if name == b".." || name == b"." {
            return Err(PathError::Escapes);
        }
        bytes += name.len() + 1;
        if name.len() > MAX_NAME_BYTES || bytes > MAX_PATH_BYTES + 1 {
            return Err(PathError::TooLong);
        }
        names.push(name);
    }
    Ok(names)
}

fn unescape(part: &str) -> Result<Vec<u8>, PathError> {
    let mut name = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let byte = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                rest = after;
                b'\\'
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                rest = after;
                digit(*high)? << 4 | digit(*low)?
            }
            (b'\\', _) => return Err(PathError::Escape),
            (byte, _) => byte,
        };
        if byte == 0 || byte == b'/' {
            return Err(PathError::Byte);
        }
        name.push(byte);
    }
    Ok(name)
}

fn digit(byte: u8) -> Result<u8, PathError> {
    let value = char::from(byte).to_digit(16).ok_or(PathError::Escape)?;
    u8::try_from(value).map_err(|_| PathError::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_written_as_documented() {
        let table: [(&[u8], &str); 6] = [
            (b"data.csv", "data.csv"),
            ("größe 🦀".as_bytes(), "größe 🦀"),
            (b"a\\b", r"a\\b"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"a\nb\x1b[2J\x7f", r"a\x0ab\x1b[2J\x7f"),
            ("\u{9b}".as_bytes(), r"\xc2\x9b"),
        ];
        for (name, text) in table {
            assert_eq!(escape(name), text);
            assert_eq!(parse(text), Ok(vec![name.to_vec()]));
        }
    }

    #[test]
    fn what_is_no_path_in_a_workspace_is_refused() {
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        let deep = "a/".repeat(MAX_PATH_BYTES);
        let table = [
            ("/etc/passwd", PathError::Absolute),
            ("..", PathError::Escapes),
            ("a/../b", PathError::Escapes),
            (r"\x2e\x2e/a", PathError::Escapes),
            (r"\x2e", PathError::Escapes),
            (r"a\x2fb", PathError::Byte),
            (r"a\x00", PathError::Byte),
            ("a\0b", PathError::Byte),
            (r"a\b", PathError::Escape),
            (r"a\x4", PathError::Escape),
            (r"a\x-1", PathError::Escape),
            ("a\\", PathError::Escape),
            (&long, PathError::TooLong),
            (&deep, PathError::TooLong),
        ];
        for (path, error) in table {
            assert_eq!(parse(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn workspace_itself_and_superfluous_slashes_are_understood() {
        for path in ["", ".", "./", "./."] {
            assert_eq!(parse(path), Ok(vec![]), "{path:?}");
        }
        assert_eq!(parse("./a//b/"), Ok(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(parse("..a/b.."), Ok(vec![b"..a".to_vec(), b"b..".to_vec()]));
        let deepest = vec!["a"; MAX_PATH_BYTES / 2 + 1].join("/");
        assert_eq!((deepest.len(), parse(&deepest).map(|names| names.len())), (MAX_PATH_BYTES, Ok(2048)));
    }

    proptest! {
        #[test]
        fn every_name_that_is_listed_can_be_asked_for(name in prop::collection::vec(any::<u8>(), 1..MAX_NAME_BYTES)) {
            let legal = !name.contains(&0) && !name.contains(&b'/') && name != b"." && name != b"..";
            prop_assume!(legal);
            let text = escape(&name);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(parse(&text), Ok(vec![name]));
        }

        #[test]
        fn any_text_is_refused_or_stays_below_the_workspace(text in r"[a./\\x0-9\n]{0,40}") {
            for name in parse(&text).unwrap_or_default() {
                prop_assert!(!name.is_empty() && name != b"." && name != b"..");
                prop_assert!(!name.contains(&0) && !name.contains(&b'/'));
            }
        }
    }
}
