//! What a manifest takes from the worker: names, what was left out, versions. All of it is hostile.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::offer::NAMES_BYTES;

/// Most names of one checkpoint.
pub const MOST_NAMES: usize = 100_000;
/// Most things left out of one checkpoint that are told one by one.
pub const MOST_LEFT_OUT: usize = 10_000;
/// Most packages of one checkpoint.
pub const MOST_PACKAGES: usize = 10_000;
/// Longest name, in bytes.
pub const NAME_BYTES: usize = 1 << 10;
/// Longest type, path, reason or version, in bytes; a longer one is cut.
pub const WORDS_BYTES: usize = 4 << 10;

/// What the worker says of a checkpoint. In JSON, with these field names.
///
/// Names are what they were in the worker, and bounded; the words about them (types, paths, reasons, versions) are
/// cut to [`WORDS_BYTES`] and without control characters, so that they can be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPart {
    /// The Execution after which it was taken.
    pub execution: String,
    /// Python's version, as in `3.13.0`.
    pub python: String,
    /// The packages that were imported, and their versions.
    pub packages: BTreeMap<String, String>,
    /// The variables that were saved.
    pub names: Vec<Name>,
    /// What could not be saved.
    pub left_out: Vec<LeftOut>,
}

/// A variable that was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Its name.
    pub name: String,
    /// The type of its value, for people.
    pub r#type: String,
    /// About how large it is, in bytes, where that is known.
    pub bytes: Option<u64>,
}

/// Something that was not saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How it is reached, as in `config["lock"]`.
    pub path: String,
    /// Its type.
    pub r#type: String,
    /// Why it was left out.
    pub reason: String,
}

/// Why a [`WorkerPart`] was refused.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// Longer than [`NAMES_BYTES`].
    #[error("the worker's part has {found} bytes, more than the {NAMES_BYTES} it may have: save fewer names")]
    Long {
        /// Its length in bytes.
        found: usize,
    },
    /// Not the JSON that it should be.
    #[error("the worker's part is not as it should be")]
    Json(#[source] serde_json::Error),
    /// More than there may be.
    #[error("{found} {what}, more than the {most} there may be: save fewer")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A name that no manifest takes: leave it out, with a reason.
    #[error("name {name:?} is {fault}: leave it out")]
    Name {
        /// The beginning of the name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl WorkerPart {
    /// Reads the worker's JSON, and checks and cleans it.
    ///
    /// # Errors
    /// Too long, not JSON of this form, more entries than there may be, or a name that is too long, stands twice or
    /// has control characters. Unknown fields are passed over.
    pub fn parse(json: &[u8]) -> Result<Self, PartError> {
        if json.len() > NAMES_BYTES {
            return Err(PartError::Long { found: json.len() });
        }
        let part: WorkerPart = serde_json::from_slice(json).map_err(PartError::Json)?;
        part.checked()
    }

    /// Checks counts and names, and cleans all else.
    pub(crate) fn checked(mut self) -> Result<Self, PartError> {
        for (what, found, most) in [
            ("names", self.names.len(), MOST_NAMES),
            ("things left out", self.left_out.len(), MOST_LEFT_OUT),
            ("packages", self.packages.len(), MOST_PACKAGES),
        ] {
            if found > most {
                return Err(PartError::Many { what, found, most });
            }
        }
        check_names(&self.names)?;
        clean(&mut self.execution);
        clean(&mut self.python);
        self.names.iter_mut().for_each(|name| clean(&mut name.r#type));
        for left_out in &mut self.left_out {
            clean(&mut left_out.path);
            clean(&mut left_out.r#type);
            clean(&mut left_out.reason);
        }
        let packages = std::mem::take(&mut self.packages).into_iter().map(|(mut name, mut version)| {
            clean(&mut name);
            clean(&mut version);
            (name, version)
        });
        self.packages = packages.collect();
        Ok(self)
    }
}

fn check_names(names: &[Name]) -> Result<(), PartError> {
    let mut seen = HashSet::with_capacity(names.len());
    for Name { name, .. } in names {
        let fault = if name.len() > NAME_BYTES {
            "too long"
        } else if name.contains(is_control) {
            "unprintable"
        } else if !seen.insert(name) {
            "there twice"
        } else {
            continue;
        };
        return Err(PartError::Name { name: name[..name.floor_char_boundary(40)].to_owned(), fault });
    }
    Ok(())
}

/// Cuts `words` where they are too long, and puts a space in the place of what a terminal would obey.
pub(crate) fn clean(words: &mut String) {
    words.truncate(words.floor_char_boundary(WORDS_BYTES));
    if words.contains(is_control) {
        *words = words.replace(is_control, " ");
    }
}

/// Control characters, and those that turn the direction of the text around them.
fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(names: &str) -> String {
        format!(
            r#"{{"execution": "e-1", "python": "3.13.0", "packages": {{"numpy": "2.3"}}, "names": [{names}],
            "left_out": [{{"path": "a\u001b[31m", "type": "lock", "reason": "a\nlock"}}], "later": [[[]]]}}"#
        )
    }

    #[test]
    fn words_are_cleaned_and_unknown_fields_passed_over() {
        let part =
            WorkerPart::parse(json(r#"{"name": "é", "type": "int", "bytes": null}"#).as_bytes()).unwrap();
        assert_eq!(part.names[0].name, "é");
        assert_eq!(part.left_out[0].path, "a [31m");
        assert_eq!(part.left_out[0].reason, "a lock");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let mut words = "ä".repeat(WORDS_BYTES);
        words.insert(0, 'x');
        clean(&mut words);
        assert_eq!(words.len(), WORDS_BYTES - 1);
    }

    #[test]
    fn names_that_cannot_be_shown_or_told_apart_are_refused() {
        let one = |name: &str| format!(r#"{{"name": "{name}", "type": "int", "bytes": 1}}"#);
        for (names, fault) in [
            (one(r"a\u0007"), "unprintable"),
            (one(r"\u202egnp"), "unprintable"),
            (one(&"a".repeat(1025)), "too long"),
            (format!("{},{}", one("a"), one("a")), "there twice"),
        ] {
            let error = WorkerPart::parse(json(&names).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn more_than_there_may_be_is_refused() {
        let name = |i: usize| Name { name: i.to_string(), r#type: String::new(), bytes: None };
        let part = WorkerPart { names: (0..=MOST_NAMES).map(name).collect(), ..WorkerPart::default() };
        assert!(matches!(part.checked(), Err(PartError::Many { what: "names", .. })));
        let long = vec![b' '; NAMES_BYTES + 1];
        assert!(matches!(WorkerPart::parse(&long), Err(PartError::Long { .. })));
    }

    #[test]
    fn deep_and_cut_json_is_refused() {
        for text in ["[".repeat(100_000), json("")[..20].to_owned(), "{\"later\":".repeat(100_000)] {
            assert!(matches!(WorkerPart::parse(text.as_bytes()), Err(PartError::Json(_))));
        }
    }
}
