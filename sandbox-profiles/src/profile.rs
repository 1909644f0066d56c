//! Profiles as operators write them: TOML, units in the key names, unknown keys refused, one profile
//! standing on another by `base`.
//!
//! A profile takes everything from its base, key by key. What is a set (mounts by target, the two
//! kinds of environment by name, barriers) is united, and the profile's own entry wins.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::builtin;
use crate::checkpoints::CheckpointPolicy;
use crate::error::{Fault, ProfileError};
use crate::lifecycle::Lifecycle;
use crate::limits::Limits;
use crate::reader::{self, Layer};
use crate::step::{Barrier, Need};

/// The keys of a profile.
pub(crate) const KEYS: [&str; 16] = [
    "version",
    "base",
    "description",
    "interpreter",
    "network",
    "max_running",
    "limits",
    "mounts",
    "environment",
    "pass_environment",
    "barriers",
    "warm_start",
    "preload",
    "spares",
    "checkpoints",
    "lifecycle",
];

/// The keys of `[[mounts]]`.
pub(crate) const MOUNT_KEYS: [&str; 2] = ["source", "target"];

/// Profiles that may stand on one another. A longer chain is nothing that anybody can still read.
pub const MAX_CHAIN: usize = 8;

/// What a notebook may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What it is for, one line.
    pub description: String,
    /// The Python to run; the supervisor's own choice when absent.
    pub interpreter: Option<PathBuf>,
    /// What the sandbox reaches.
    pub network: Network,
    /// How many cells of all its notebooks together may run at once; as many as there may be of all
    /// profiles when absent.
    pub max_running: Option<usize>,
    /// The limits.
    pub limits: Limits,
    /// Folders of the host to show besides the system and the interpreter, read-only.
    pub mounts: Vec<Mount>,
    /// Environment variables to set in the worker.
    pub environment: BTreeMap<String, String>,
    /// Variables taken over from the supervisor's own environment, where they are set there.
    pub pass_environment: BTreeSet<String>,
    /// Barriers whose need is another than the plan's own.
    pub barriers: BTreeMap<Barrier, Need>,
    /// How workers come to be.
    pub warm_start: WarmStart,
    /// What a zygote imports before it forks; empty also means that it imports what every worker needs.
    pub preload: Vec<Preload>,
    /// How many ready workers are kept for notebooks to come; a zygote's only.
    pub spares: u32,
    /// When and how variables are saved.
    pub checkpoints: CheckpointPolicy,
    /// When its workers are evicted.
    pub lifecycle: Lifecycle,
}

/// How a worker's interpreter comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WarmStart {
    /// Forked from a zygote, which has imported already. Workers of one zygote share the layout of their
    /// memory and the seed of their hashes.
    Zygote,
    /// A fresh interpreter for each.
    #[default]
    Exec,
}

/// A module that a zygote imports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Preload {
    /// Its name, e.g. `matplotlib.pyplot`.
    pub module: String,
    /// It may be missing: written with a `?` behind it.
    pub optional: bool,
}

impl std::fmt::Display for Preload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}{}", self.module, if self.optional { "?" } else { "" })
    }
}

/// What the sandbox reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing: an empty network namespace, its loopback down.
    #[default]
    None,
    /// The sandbox's own loopback, up: processes of the notebook reach each other, and nothing else.
    Loopback,
}

/// A folder shown read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox; the same path when absent.
    pub target: Option<PathBuf>,
}

impl Mount {
    /// Where the sandbox sees it.
    pub fn target(&self) -> &Path {
        self.target.as_deref().unwrap_or(&self.source)
    }
}

/// Gives the text of an operator's profile by name, `None` when there is none of that name. Names are
/// legal ones ([`is_profile_name`]); reading is the caller's, so that this crate touches no file.
pub type Bases<'a> = dyn Fn(&str) -> io::Result<Option<String>> + 'a;

/// Whether a profile can be called so; such a name leads out of no folder.
pub fn is_profile_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

impl Profile {
    /// The profile that ships under the name `default`.
    pub fn builtin_default() -> Self {
        Profile::builtin("default").expect("it is one of them")
    }

    /// A profile that ships with cellblock. It stands on others that do, whatever files there are.
    pub fn builtin(name: &str) -> Option<Self> {
        let text = builtin::text(name)?;
        Some(resolve(name, true, text, &|_| Ok(None)).expect("what ships is checked by a test"))
    }

    /// Reads an operator's profile. A base is one of the operator's, else one that is built in; a
    /// profile that names itself as its base means the built-in one of that name.
    ///
    /// # Errors
    /// TOML that does not parse, unknown keys, values out of range, a base that does not exist, leads
    /// back or too far; each points at its line.
    pub fn parse(name: &str, text: &str, bases: &Bases) -> Result<Self, ProfileError> {
        resolve(name, false, text, bases)
    }

    fn apply(&mut self, layer: Layer) {
        if let Some(description) = layer.description {
            self.description = description;
        }
        if let Some(interpreter) = layer.interpreter {
            self.interpreter = Some(interpreter);
        }
        if let Some(network) = layer.network {
            self.network = network;
        }
        self.max_running = layer.max_running.or(self.max_running);
        for (limit, value) in layer.limits {
            *(limit.field)(&mut self.limits) = value;
        }
        for mount in layer.mounts {
            match self.mounts.iter_mut().find(|other| other.target() == mount.target()) {
                Some(other) => *other = mount,
                None => self.mounts.push(mount),
            }
        }
        self.environment.extend(layer.environment);
        self.pass_environment.extend(layer.pass_environment);
        self.barriers.extend(layer.barriers);
        self.warm_start = layer.warm_start.unwrap_or(self.warm_start);
        self.spares = layer.spares.unwrap_or(self.spares);
        self.checkpoints.apply(layer.checkpoints);
        self.lifecycle.apply(layer.lifecycle);
        if let Some(preload) = layer.preload {
            self.preload = preload;
        }
    }
}

/// A profile of the chain: name, and whether it is the one that ships under it.
type Link = (String, bool);

fn resolve(name: &str, is_builtin: bool, text: &str, bases: &Bases) -> Result<Profile, ProfileError> {
    let mut link: Link = (name.to_owned(), is_builtin);
    let mut text = text.to_owned();
    let mut seen: Vec<Link> = Vec::new();
    let mut layers = Vec::new();
    loop {
        let refuse = |faults| ProfileError {
            profile: link.0.clone(),
            asked: (!seen.is_empty()).then(|| name.to_owned()),
            faults,
        };
        let layer = reader::read(&text).map_err(refuse)?;
        let Some((base, span)) = layer.base.clone() else {
            layers.push(layer);
            break;
        };
        let found = find(&base, &link, &seen, bases);
        let (next, next_text) = found.map_err(|message| refuse(vec![Fault::at(&text, span, message)]))?;
        layers.push(layer);
        seen.push(std::mem::replace(&mut link, next));
        text = next_text;
    }
    let mut profile = Profile::default();
    layers.into_iter().rev().for_each(|layer| profile.apply(layer));
    Ok(profile)
}

fn find(base: &str, from: &Link, seen: &[Link], bases: &Bases) -> Result<(Link, String), String> {
    let of_operator = if from.1 || from.0 == base { Ok(None) } else { bases(base) };
    let of_operator = of_operator.map_err(|error| format!("base {base:?} cannot be read: {error}"))?;
    let is_builtin = of_operator.is_none();
    let text = of_operator.or_else(|| builtin::text(base).map(str::to_owned));
    let Some(text) = text else {
        let names: Vec<_> = builtin::BUILTINS.iter().map(|(name, _)| *name).collect();
        let what = if from.0 == base { "is this profile itself" } else { "does not exist" };
        return Err(format!("base {base:?} {what}; built in are {}", names.join(", ")));
    };
    let next = (base.to_owned(), is_builtin);
    let chain = || {
        seen.iter().chain([from]).map(|link| link.0.as_str()).chain([base]).collect::<Vec<_>>().join(" → ")
    };
    if *from == next || seen.contains(&next) {
        return Err(format!("base {base:?} leads back: {}", chain()));
    }
    if seen.len() + 2 > MAX_CHAIN {
        return Err(format!(
            "base {base:?} is one too many: at most {MAX_CHAIN} profiles stand on one another: {}",
            chain()
        ));
    }
    Ok((next, text))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
