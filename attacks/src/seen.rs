//! What a probe saw, and whether that is what was expected.

use std::collections::BTreeMap;
use std::fmt;

/// What a probe saw, thing by thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, String>);

/// A probe that found itself in the host's network and went no further.
const HOST_NETWORK: &str = "host network";

/// Longest value that is kept, in characters: it comes from code that is not trusted.
const VALUE_CHARS: usize = 120;

impl Seen {
    /// Out of what a probe printed: the last line that begins with `saw:`.
    pub fn parse(printed: &str) -> Self {
        let mut seen = Seen::default();
        let Some(line) = printed.lines().rev().find_map(|line| line.trim().strip_prefix("saw:")) else {
            return seen;
        };
        if line.trim() == HOST_NETWORK {
            seen.note("network", "host");
            return seen;
        }
        for (name, value) in line.split(';').filter_map(|item| item.trim().split_once('=')) {
            seen.note(name, value);
        }
        seen
    }

    /// Adds what whoever runs the probe has seen.
    pub fn note(&mut self, name: &str, value: &str) {
        let clean =
            |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(VALUE_CHARS).collect() };
        self.0.insert(clean(name), clean(value));
    }

    /// Keeps what `wanted` names.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    /// Takes all of another's, its names behind `prefix`.
    pub fn merge(&mut self, prefix: &str, other: &Seen) {
        for (name, value) in &other.0 {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            self.note(&name, value);
        }
    }

    /// One thing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether one pattern is met.
    pub fn matches(&self, pattern: &str) -> bool {
        let (name, values) = pattern.split_once('=').unwrap_or((pattern, "*"));
        self.get(name).is_some_and(|found| matches(values, found))
    }

    /// The patterns that are not met; of a probe that found the host's network, all.
    pub fn unmet<'a>(&self, patterns: &[&'a str]) -> Vec<&'a str> {
        patterns.iter().filter(|pattern| !self.matches(pattern)).copied().collect()
    }
}

/// Whether a value is one of the alternatives of a pattern, or, behind `!`, none of them.
pub fn matches(pattern: &str, value: &str) -> bool {
    if let Some(none) = pattern.strip_prefix('!') {
        return !matches(none, value);
    }
    pattern.split('|').any(|one| glob(one, value))
}

/// `*` stands for anything.
fn glob(pattern: &str, value: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == value };
    let Some(value) = value.strip_prefix(start) else { return false };
    let mut cut = value.char_indices().map(|(at, _)| at).chain([value.len()]);
    cut.any(|at| glob(rest, &value[at..]))
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            write!(out, "{}{name}={value}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
