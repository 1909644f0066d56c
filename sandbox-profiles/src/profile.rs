//! Profiles as operators write them: TOML, units in the key names, unknown keys refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a notebook may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Format of the file; 1.
    pub version: u32,
    /// What it is for, one line.
    #[serde(default)]
    pub description: String,
    /// The Python to run; the supervisor's own choice when absent.
    #[serde(default)]
    pub interpreter: Option<PathBuf>,
    /// What the sandbox reaches.
    #[serde(default)]
    pub network: Network,
    /// The limits.
    #[serde(default)]
    pub limits: Limits,
    /// Folders of the host to show besides the system and the interpreter, read-only.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Environment variables to set in the worker.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// What the sandbox reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing: an empty network namespace, its loopback down.
    #[default]
    None,
    /// The sandbox's own loopback, up: processes of the notebook reach each other, and nothing else.
    Loopback,
}

/// A folder shown read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox; the same path when absent.
    #[serde(default)]
    pub target: Option<PathBuf>,
}

/// The limits of one notebook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of the whole sandbox, in bytes.
    pub memory_bytes: u64,
    /// Wall time of one Execution, in milliseconds.
    pub wall_ms: u64,
    /// Processor time of one Execution, all processes together, in milliseconds.
    pub cpu_ms: u64,
    /// From the interrupt to the kill, in milliseconds.
    pub interrupt_grace_ms: u64,
    /// How long `input()` waits for an answer, in milliseconds. The wall clock stops meanwhile.
    pub input_ms: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Size of one file, in bytes.
    pub file_bytes: u64,
    /// Stack of a main thread, in bytes.
    pub stack_bytes: u64,
    /// `/tmp` and `/dev/shm`, each, in bytes.
    pub tmp_bytes: u64,
    /// Files and folders in each of them.
    pub tmp_inodes: u64,
    /// Files in the workspace, in bytes.
    pub workspace_bytes: u64,
    /// Stdout and stderr of one Execution, in bytes; beyond it the tail alone is kept.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 4 << 30,
            wall_ms: 10 * 60 * 1000,
            cpu_ms: 60 * 60 * 1000,
            interrupt_grace_ms: 5_000,
            input_ms: 10 * 60 * 1000,
            processes: 256,
            open_files: 1024,
            file_bytes: 4 << 30,
            stack_bytes: 8 << 20,
            tmp_bytes: 1 << 30,
            tmp_inodes: 100_000,
            workspace_bytes: 10 << 30,
            output_bytes: 256 << 20,
        }
    }
}

/// The only format there is.
const VERSION: u32 = 1;

impl Profile {
    /// The profile that ships under the name `default`.
    pub fn builtin_default() -> Self {
        Profile::parse("default", include_str!("../profiles/default.toml"))
            .expect("the shipped profile is checked by a test")
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// TOML that does not parse, an unknown key, a value out of range; each names its line or key.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let profile: Profile = toml::from_str(text)
            .map_err(|source| ProfileError::Syntax { name: name.to_owned(), source: Box::new(source) })?;
        if profile.version != VERSION {
            return Err(ProfileError::Version { name: name.to_owned(), found: profile.version });
        }
        profile.limits.check(name)?;
        Ok(profile)
    }
}

impl Limits {
    fn check(&self, name: &str) -> Result<(), ProfileError> {
        // Below these Python itself does not start, and the operator would look for the reason in
        // the wrong place.
        for (key, value, least) in [
            ("memory_bytes", self.memory_bytes, 64 << 20),
            ("wall_ms", self.wall_ms, 1),
            ("cpu_ms", self.cpu_ms, 1),
            ("interrupt_grace_ms", self.interrupt_grace_ms, 10),
            ("processes", self.processes, 8),
            ("open_files", self.open_files, 32),
            ("file_bytes", self.file_bytes, 1 << 20),
            ("stack_bytes", self.stack_bytes, 256 << 10),
            ("tmp_bytes", self.tmp_bytes, 1 << 20),
            ("tmp_inodes", self.tmp_inodes, 64),
            ("workspace_bytes", self.workspace_bytes, 4 << 20),
            ("output_bytes", self.output_bytes, 64 << 10),
        ] {
            if value < least {
                return Err(ProfileError::TooSmall { name: name.to_owned(), key, value, least });
            }
        }
        Ok(())
    }
}

/// Why a profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not the TOML of a profile.
    #[error("profile {name:?} does not parse")]
    Syntax {
        /// The profile's name.
        name: String,
        /// What the parser says, with the line.
        source: Box<toml::de::Error>,
    },
    /// Another format.
    #[error("profile {name:?} has version {found}; this build reads version {VERSION}")]
    Version {
        /// The profile's name.
        name: String,
        /// The version found.
        found: u32,
    },
    /// A limit no worker can live with.
    #[error("profile {name:?}: limits.{key} is {value}, a worker needs at least {least}")]
    TooSmall {
        /// The profile's name.
        name: String,
        /// Which limit.
        key: &'static str,
        /// What it says.
        value: u64,
        /// The least that works.
        least: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_default_profile_parses_and_equals_the_defaults() {
        assert_eq!(Profile::builtin_default().limits, Limits::default());
    }

    #[test]
    fn unknown_key_is_refused_by_name_and_line() {
        let error = Profile::parse("mine", "version = 1\n\n[limits]\nmemory_mb = 5\n").unwrap_err();
        let ProfileError::Syntax { source, .. } = error else { panic!("not a syntax error: {error}") };
        let text = source.to_string();
        assert!(text.contains("line 4") && text.contains("memory_mb"), "{text}");
    }

    #[test]
    fn limit_too_small_for_python_is_refused_with_the_least() {
        let error = Profile::parse("mine", "version = 1\n[limits]\nprocesses = 1\n").unwrap_err();
        assert_eq!(error.to_string(), "profile \"mine\": limits.processes is 1, a worker needs at least 8");
    }
}
