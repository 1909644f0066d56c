//! Runs the attacks of the catalogue against a daemon, and their controls outside of it. The verb
//! `selftest` does it with a private daemon of its own; the end-to-end tests do it with theirs, in
//! every mode and with barriers left out.
//!
//! ```text
//! inside   the probe as a cell, what the harness sees of its end, the health of all others after it
//! outside  the same probe by the same interpreter, started by us: the control
//! places   what both are told of: files, sockets and listeners that are ours, harmless and short-lived
//! ```
//!
//! Safe on a host in use: every probe is bounded, inside and outside; controls touch nothing but
//! `places`, and what they need rights for they do in namespaces of their own.

mod inside;
mod outside;
mod places;
mod processes;

use std::path::{Path, PathBuf};

use cellblock_attacks::{Attack, Control, Kind, Probe, Seen};
use cellblock_proto::client::Request;
use cellblock_proto::execution::{End, ExecuteOptions};
use cellblock_proto::id::NotebookId;
use sandbox_profiles::{Limits, Profile};
use serde_json::{Map, Value, json};

pub use self::inside::Ended;
use self::places::Places;
use crate::client::{ClientError, Connection};
use crate::fault::Fault;

/// The name of the profile that attacks run under.
pub const PROFILE_NAME: &str = "attack";

/// What the attacks are run against.
#[derive(Clone, Debug)]
pub struct Against {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Its folder of notebooks.
    pub notebooks: PathBuf,
    /// Whether it makes its sandboxes with root's rights.
    pub rootful: bool,
}

/// A daemon under attack: one notebook attacks, another is its neighbour and must not notice.
#[derive(Debug)]
pub struct Range {
    against: Against,
    connection: Connection,
    attacker: NotebookId,
    neighbour: NotebookId,
    /// The interpreter, by the path that sandbox and host have it at.
    python: PathBuf,
    places: Places,
    limits: Limits,
    executions: u32,
}

/// What became of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but what must be seen was seen.
    Contained,
    /// The same, and something of it stays open on this host, which is said.
    Residual,
    /// It got through, or somebody else suffered.
    NotContained,
}

/// An attack that was run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was seen inside.
    pub seen: Seen,
    /// What should have been seen and was not, and what suffered.
    pub wrong: Vec<String>,
    /// What it comes to.
    pub verdict: Verdict,
}

/// What a control showed.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The opposite of what is seen inside.
    Opposite(Seen),
    /// Not that; why.
    Nothing(String),
}

impl Range {
    /// Opens both notebooks, under the profile [`PROFILE_NAME`], which the daemon must have.
    ///
    /// # Errors
    /// The daemon cannot be reached or cannot run a cell.
    pub fn open(against: Against) -> Result<Self, Fault> {
        let mut connection = Connection::connect(&against.socket)?;
        let name = |name: &str| name.parse::<NotebookId>().expect("a legal name");
        let (attacker, neighbour) = (name("attacker"), name("neighbour"));
        for notebook in [&attacker, &neighbour] {
            connection.open_notebook(notebook, Some(PROFILE_NAME))?;
        }
        let limits = Profile::parse(PROFILE_NAME, cellblock_attacks::PROFILE, &|_| Ok(None))
            .expect("the catalogue's profile is checked by a test")
            .limits;
        let places = Places::make().map_err(Fault::file("prepare", "/var/tmp".as_ref()))?;
        let python = PathBuf::new();
        let mut range =
            Range { against, connection, attacker, neighbour, python, places, limits, executions: 0 };
        // Before anything hostile has run in there.
        let told = range.run_in_attacker("import sys\nprint(sys.executable)", None)?;
        range.python = PathBuf::from(told.stdout.trim());
        if told.end != End::Ok || !range.python.is_file() {
            return Err(Fault::usage(format!("the first cell did not name its interpreter: {:?}", told.end)));
        }
        let neighbour = range.neighbour.clone();
        range.run(&neighbour, "kept = 7\nimport os; open('mine', 'w').close()", None)?;
        Ok(range)
    }

    /// Carries an attack out, and looks afterwards whether everybody else is well.
    ///
    /// # Errors
    /// The daemon does not answer any more: then nothing is contained.
    pub fn attack(&mut self, attack: &Attack) -> Result<Outcome, Fault> {
        if let Some((place, probe)) = &attack.before {
            self.prepare(*place, probe)?;
        }
        let mut seen = Seen::default();
        if attack.variants.is_empty() {
            seen = self.attempt(attack, "")?;
        }
        for variant in attack.variants {
            let one = self.attempt(attack, variant)?;
            seen.merge(variant, &one);
        }
        if let Some((cellblock_attacks::Before::Neighbour, _)) = attack.before {
            let neighbour = self.neighbour.clone();
            self.run(&neighbour, "release()", None)?;
        }
        let mut wrong: Vec<String> =
            seen.unmet(attack.contained(self.against.rootful)).into_iter().map(str::to_owned).collect();
        if seen.get("worker").is_some() {
            wrong.push("its worker is gone, and should not be".to_owned());
        }
        wrong.extend(self.health()?);
        let verdict = if !wrong.is_empty() {
            Verdict::NotContained
        } else if attack.is_residual(&seen) {
            Verdict::Residual
        } else {
            Verdict::Contained
        };
        Ok(Outcome { seen, wrong, verdict })
    }

    /// Runs the control.
    ///
    /// # Errors
    /// The daemon does not answer (only a control that runs inside asks it).
    pub fn control(&mut self, attack: &Attack) -> Result<Shown, Fault> {
        let seen = match attack.control {
            Control::Root if !rustix::process::geteuid().is_root() => {
                return Ok(Shown::Nothing("only root can show it".to_owned()));
            }
            Control::Honest => {
                let seen = self.attempt(attack, "honest")?;
                self.renew()?;
                Ok(seen)
            }
            _ => self.outside(attack),
        };
        Ok(match seen {
            Ok(seen) => match seen.unmet(attack.open).first() {
                None => Shown::Opposite(seen),
                Some(_) => Shown::Nothing(format!("outside it shows {seen}")),
            },
            Err(why) => Shown::Nothing(why),
        })
    }

    fn prepare(&mut self, place: cellblock_attacks::Before, probe: &Probe) -> Result<(), Fault> {
        let previous = place == cellblock_attacks::Before::PreviousWorker;
        let notebook = if previous { self.attacker.clone() } else { self.neighbour.clone() };
        let program = cellblock_attacks::program(probe, &self.given("", "").to_string());
        let ended = self.run(&notebook, &program, None)?;
        if ended.end != End::Ok {
            return Err(Fault::usage(format!("`{}` did not prepare: {:?}", probe.file, ended.end)));
        }
        if previous {
            self.renew()?;
        }
        Ok(())
    }

    /// What every probe is told. All of it may be known to an attacker.
    fn given(&self, variant: &str, execution: &str) -> Value {
        let mut given: Map<String, Value> = self.places.given();
        let limits = &self.limits;
        for (name, value) in [
            ("memory_bytes", limits.memory_bytes),
            ("tmp_bytes", limits.tmp_bytes),
            ("tmp_inodes", limits.tmp_inodes),
            ("workspace_bytes", limits.workspace_bytes),
            ("cpu_ms", limits.cpu_ms),
            ("host_network", processes::namespace_inode("self", "net").unwrap_or(0)),
        ] {
            given.insert(name.to_owned(), json!(value));
        }
        let folder = self.against.notebooks.join(self.neighbour.as_str());
        for (name, path) in [
            ("notebook_folder", &*folder),
            ("neighbour_folder", &folder.join("workspace")),
            ("state_folder", self.against.notebooks.as_path()),
        ] {
            given.insert(name.to_owned(), json!(path));
        }
        // Outside we are the neighbour.
        given.insert("neighbour_pid".to_owned(), json!(std::process::id()));
        given.insert("variant".to_owned(), json!(variant));
        given.insert("execution".to_owned(), json!(execution));
        Value::Object(given)
    }

    /// Whether the daemon, pid 1 of the sandbox (or of a new one) and the neighbour answer.
    fn health(&mut self) -> Result<Vec<String>, Fault> {
        let mut wrong = Vec::new();
        let neighbour = self.neighbour.clone();
        let kept = self.run(&neighbour, "print(kept)", None)?;
        if kept.stdout.trim() != "7" {
            wrong.push(format!("the neighbour suffered: {:?}", kept.end));
        }
        let again = self.run_in_attacker("print(1 + 1)", None)?;
        if again.stdout.trim() != "2" {
            wrong.push(format!("no cell runs after it: {:?}", again.end));
            self.renew()?;
        }
        Ok(wrong)
    }

    /// A new worker for the next attack.
    fn renew(&mut self) -> Result<(), Fault> {
        let notebook = self.attacker.clone();
        Ok(self.connection.tell(&Request::Restart { notebook })?)
    }

    fn run_in_attacker(&mut self, code: &str, wall_ms: Option<u64>) -> Result<Ended, ClientError> {
        let attacker = self.attacker.clone();
        self.run(&attacker, code, wall_ms)
    }

    fn run(&mut self, notebook: &NotebookId, code: &str, wall_ms: Option<u64>) -> Result<Ended, ClientError> {
        let id = self.next_id();
        let options = ExecuteOptions { wall_ms, store_history: false, ..ExecuteOptions::default() };
        inside::run(&mut self.connection, notebook, &id, code, options, &mut |_| {})
    }

    fn next_id(&mut self) -> String {
        self.executions += 1;
        format!("attack-{}", self.executions)
    }
}

/// Whether an attack can be carried out with a client alone.
pub fn needs_no_more_than_a_client(attack: &Attack) -> bool {
    attack.kind != Kind::SupervisorKilled
}

/// Writes the profile that attacks need into a folder of profiles.
///
/// # Errors
/// The folder cannot be written.
pub fn write_profile(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join(format!("{PROFILE_NAME}.toml")), cellblock_attacks::PROFILE)
}
