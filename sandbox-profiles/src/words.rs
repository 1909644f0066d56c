//! What single words of a profile may be: paths, names of variables, choices. Each check returns the
//! value, or the rest of a sentence that begins with the key.

use std::path::{Component, Path, PathBuf};

use crate::checkpoints::{Checkpointing, Serializer};
use crate::error::quoted;
use crate::lifecycle::Evictable;
use crate::profile::{Network, Preload, WarmStart};
use crate::step::Need;

/// PATH_MAX with its final zero.
const PATH_BYTES: usize = 4095;

/// MAX_ARG_STRLEN of execve(2), less the name.
const VALUE_BYTES: usize = 100 << 10;

/// A description is one line of a table.
const DESCRIPTION_CHARS: usize = 200;

/// The sandbox's own; what a profile mounted there would cover or be covered.
const OWN: [&str; 5] = ["/proc", "/dev", "/workspace", "/tmp", "/cellblock"];

/// Trees of the kernel: shown from the host they tell of the host.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Beginnings of names that no profile may set or pass, and why.
const RESERVED: [(&str, &str); 3] = [
    ("LD_", "it would load foreign code into every program"),
    ("PYTHON", "the worker starts isolated (-I), where it does nothing"),
    ("CELLBLOCK_", "it is cellblock's own"),
];

pub(crate) fn description(text: &str) -> Result<String, String> {
    if text.chars().count() > DESCRIPTION_CHARS || text.chars().any(char::is_control) {
        return Err(format!("must be one line of at most {DESCRIPTION_CHARS} characters"));
    }
    Ok(text.to_owned())
}

pub(crate) fn warm_start(text: &str) -> Result<WarmStart, String> {
    match text {
        "zygote" => Ok(WarmStart::Zygote),
        "exec" => Ok(WarmStart::Exec),
        other => Err(format!("is {}; it can be \"zygote\" or \"exec\"", quoted(other))),
    }
}

pub(crate) fn checkpoints(text: &str) -> Result<Checkpointing, String> {
    match text {
        "none" => Ok(Checkpointing::None),
        "background" => Ok(Checkpointing::Background),
        "wait" => Ok(Checkpointing::Wait),
        other => Err(format!("is {}; it can be \"none\", \"background\" or \"wait\"", quoted(other))),
    }
}

pub(crate) fn serializer(text: &str) -> Result<Serializer, String> {
    match text {
        "cellblock" => Ok(Serializer::Cellblock),
        "dill" => Ok(Serializer::Dill),
        other => Err(format!("is {}; it can be \"cellblock\" or \"dill\"", quoted(other))),
    }
}

pub(crate) fn evict(text: &str) -> Result<Evictable, String> {
    match text {
        "never" => Ok(Evictable::Never),
        "whole" => Ok(Evictable::Whole),
        "any" => Ok(Evictable::Any),
        other => Err(format!("is {}; it can be \"never\", \"whole\" or \"any\"", quoted(other))),
    }
}

pub(crate) fn preload(text: &str) -> Result<Preload, String> {
    let (module, optional) = text.strip_suffix('?').map_or((text, false), |module| (module, true));
    let is_name = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if module.len() > 200 || !module.split('.').all(is_name) {
        return Err(format!(
            "{} is no name of a module; write for example \"pandas\", or \"pandas?\" for one that may be \
             missing",
            quoted(text)
        ));
    }
    Ok(Preload { module: module.to_owned(), optional })
}

pub(crate) fn network(name: &str) -> Result<Network, String> {
    match name {
        "none" => Ok(Network::None),
        "loopback" => Ok(Network::Loopback),
        "proxy" | "host" => Err(format!("{name:?} is not available yet; use \"none\" or \"loopback\"")),
        _ => Err(format!("{} is unknown; use \"none\" or \"loopback\"", quoted(name))),
    }
}

pub(crate) fn need(word: &str) -> Result<Need, String> {
    match word {
        "required" => Ok(Need::Required),
        "best_effort" => Ok(Need::BestEffort),
        _ => Err(format!("is {}; use \"required\" or \"best_effort\"", quoted(word))),
    }
}

/// An absolute path that means what it says.
pub(crate) fn program(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path", quoted(text)));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{} has `..` in it; write where it leads", quoted(text)));
    }
    if text.len() > PATH_BYTES || text.contains('\0') {
        return Err(format!(
            "{} is no path: it is longer than {PATH_BYTES} bytes or has a zero in it",
            quoted(text)
        ));
    }
    // Without doubled slashes and dots, so that equal paths are equal.
    Ok(path.components().collect())
}

pub(crate) fn mount_source(text: &str) -> Result<PathBuf, String> {
    let path = program(text)?;
    if path == Path::new("/") || OF_THE_KERNEL.iter().any(|tree| path.starts_with(tree)) {
        let message = "would show the host itself; show a folder outside of /proc, /sys and /dev, and not /";
        return Err(format!("{} {message}", quoted(text)));
    }
    Ok(path)
}

pub(crate) fn mount_target(text: &str) -> Result<PathBuf, String> {
    let path = program(text)?;
    if path == Path::new("/") {
        return Err("\"/\" would cover the sandbox".to_owned());
    }
    if let Some(own) = OWN.iter().find(|own| path.starts_with(own)) {
        return Err(format!(
            "{} lies in {own}, which is the sandbox's own; choose another target",
            quoted(text)
        ));
    }
    Ok(path)
}

/// Checks a variable's name; the whole sentence, because the name may be a key itself.
pub(crate) fn variable(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !begins || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.len() > 255 {
        return Err(format!("{} is no name of a variable: use A-Z a-z 0-9 _, no digit first", quoted(name)));
    }
    match RESERVED.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        Some((prefix, reason)) => Err(format!("{} is refused, like all {prefix}*: {reason}", quoted(name))),
        None => Ok(()),
    }
}

pub(crate) fn variable_value(text: &str) -> Result<String, String> {
    if text.len() > VALUE_BYTES || text.contains('\0') {
        return Err(format!("is longer than {VALUE_BYTES} bytes or has a zero in it"));
    }
    Ok(text.to_owned())
}
