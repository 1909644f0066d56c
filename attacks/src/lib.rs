//! The attacks that cellblock is held against, as data. Each is a probe: a short Python program that
//! tries something and says what it saw. It is run as a cell, where what it sees must match
//! [`Attack::contained`], and outside as a control, where it must match [`Attack::open`]: a probe that
//! finds nothing anywhere proves nothing.
//!
//! Who runs them is elsewhere: `cellctl selftest` on any host, the end-to-end tests in every mode and
//! with every barrier left out in turn. Nothing here does anything.

mod catalogue;
mod seen;

pub use catalogue::{ATTACKS, find};
pub use seen::{Seen, matches};

use sandbox_profiles::Omit;

/// The profile that attacks run under.
pub const PROFILE: &str = include_str!("../profile.toml");

/// What every probe imports.
const COMMON: &str = include_str!("../probes/attack.py");

/// One row of the catalogue.
#[derive(Debug)]
pub struct Attack {
    /// Its number in the catalogue, from 1; numbers are never reused.
    pub number: u8,
    /// What is attempted, in a few words.
    pub title: &'static str,
    /// The probe.
    pub probe: Probe,
    /// What runs before it, and where; it defines `release()`, which undoes it.
    pub before: Option<(Before, Probe)>,
    /// Who carries it out.
    pub kind: Kind,
    /// Forms of it, run one after another; what is seen of each bears its name.
    pub variants: &'static [&'static str],
    /// Wall time in milliseconds, when it is the wall clock that is attacked.
    pub wall_ms: Option<u64>,
    /// What is left at the end of the cell is ended with the worker.
    pub restarts: bool,
    /// Whether its worker ends by it when it is contained.
    pub ends_worker: bool,
    /// What must be seen inside: `name=value`, alternatives with `|`, `*` for anything, `!` for none of them.
    pub contained: &'static [&'static str],
    /// The same for a rootless daemon, where that differs.
    pub contained_rootless: Option<&'static [&'static str]>,
    /// How the control is run.
    pub control: Control,
    /// What the control must show.
    pub open: &'static [&'static str],
    /// The least sets of barriers which, dropped together, let it through.
    pub let_through: &'static [&'static [Omit]],
    /// The same for a rootless daemon, where that differs.
    pub let_through_rootless: Option<&'static [&'static [Omit]]>,
    /// What stops it.
    pub stopped_by: &'static str,
    /// What stays open, see [`Residual`].
    pub residual: Option<Residual>,
}

/// A Python program of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Its file below `probes/`.
    pub file: &'static str,
    /// Its text.
    pub source: &'static str,
}

/// Where a preparation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// In the neighbour's notebook, which stays alive meanwhile.
    Neighbour,
    /// In the same notebook, whose worker is replaced before the probe.
    PreviousWorker,
}

/// Who carries an attack out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The cell alone.
    Cell,
    /// The cell lays something out in its workspace, and a client deletes the notebook.
    Deletion,
    /// A client, with names of notebooks that lead elsewhere.
    Names,
    /// A client that says half a frame and no more.
    HalfFrame,
    /// The end of the shim while a cell runs.
    ShimKilled,
    /// The end and the return of the daemon while a cell runs: for tests alone, because a private
    /// daemon takes its workers along.
    SupervisorKilled,
}

/// How a control is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The same program outside, by whoever runs us.
    Same,
    /// The same, by root: nobody else is allowed what it shows.
    Root,
    /// Below a shell that is pid 1 of namespaces of their own, as root in there; so it can show what
    /// needs rights without having any on the host. The words are further options of unshare(1).
    Own(&'static [&'static str]),
    /// With one descriptor more than it should have.
    ExtraDescriptor,
    /// The variant `honest`, inside: a frame that is as it should be is taken.
    Honest,
}

/// What of an attack stays possible, by design or by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    /// What must have been seen for it to be open on this host; nothing means always.
    pub when: &'static [&'static str],
    /// What it is and what lessens it.
    pub why: &'static str,
}

impl Attack {
    /// How it is tried: the first line of the probe's own description.
    pub fn how(&self) -> &'static str {
        let text = self.probe.source.trim_start_matches("\"\"\"");
        text.split("\"\"\"").next().unwrap_or(text).trim()
    }

    /// What must be seen inside.
    pub fn contained(&self, rootful: bool) -> &'static [&'static str] {
        if rootful { self.contained } else { self.contained_rootless.unwrap_or(self.contained) }
    }

    /// The least sets of barriers which, dropped together, let it through.
    pub fn let_through(&self, rootful: bool) -> &'static [&'static [Omit]] {
        if rootful { self.let_through } else { self.let_through_rootless.unwrap_or(self.let_through) }
    }

    /// Whether a sandbox without these barriers lets it through.
    pub fn succeeds_without(&self, omitted: &[Omit], rootful: bool) -> bool {
        self.let_through(rootful).iter().any(|set| set.iter().all(|omit| omitted.contains(omit)))
    }

    /// Whether anything is expected of a thing of this name: what nobody asked for need not be shown.
    pub fn asks_for(&self, name: &str) -> bool {
        let residual = self.residual.map_or(&[][..], |residual| residual.when);
        let inside = self.contained.iter().chain(self.contained_rootless.unwrap_or_default());
        let mut patterns = inside.chain(self.open).chain(residual);
        patterns.any(|pattern| {
            let known = pattern.split('=').next().unwrap_or(pattern);
            known == name || known.rsplit('.').next() == Some(name)
        })
    }

    /// Whether something of it stays open, given what was seen inside.
    pub fn is_residual(&self, seen: &Seen) -> bool {
        self.residual.is_some_and(|residual| residual.when.iter().all(|pattern| seen.matches(pattern)))
    }
}

/// A whole program out of a probe: its helpers, what it is told (a JSON object), itself.
pub fn program(probe: &Probe, given: &str) -> String {
    let (common, source) = (python_string(COMMON), python_string(probe.source));
    let (given, file) = (python_string(given), python_string(probe.file));
    format!(
        "import json, sys, types\n\
         attack = types.ModuleType('attack')\n\
         exec(compile({common}, 'attack.py', 'exec'), vars(attack))\n\
         attack.GIVEN.update(json.loads({given}))\n\
         sys.modules['attack'] = attack\n\
         exec(compile({source}, {file}, 'exec'), globals())\n"
    )
}

/// A text as a literal of Python, whatever is in it.
fn python_string(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            c if c.is_ascii() && !c.is_ascii_control() => literal.push(c),
            c => literal.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    literal + "\""
}

#[cfg(test)]
mod tests;
