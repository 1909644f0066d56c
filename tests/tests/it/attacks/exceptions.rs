//! What a host cannot show: a named skip on a developer's machine, a failure in continuous integration
//! unless it stands in `attacks/host-exceptions.toml` with its reason.

use std::fmt::Write as _;

use cellblock_attacks::Attack;
use serde::Deserialize;

const FILE: &str = include_str!("../../../../attacks/host-exceptions.toml");

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Outside, the opposite is not shown.
    Control,
    /// Inside, the barrier does not hold.
    Containment,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    attack: u8,
    what: What,
    mode: Mode,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Root,
    User,
    Any,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

impl Exceptions {
    pub fn read() -> Self {
        let exceptions: Exceptions = toml::from_str(FILE).unwrap();
        for exception in &exceptions.exception {
            assert!(cellblock_attacks::find(exception.attack).is_some() && !exception.reason.is_empty());
        }
        exceptions
    }

    /// Adds to `wrong` what is not to be passed over here, and says the rest aloud.
    pub fn judge(&self, attack: &Attack, what: What, rootful: bool, why: &str, wrong: &mut String) {
        let own = if rootful { Mode::Root } else { Mode::User };
        let known = self.exception.iter().find(|exception| {
            let mode = exception.mode == Mode::Any || exception.mode == own;
            exception.attack == attack.number && exception.what == what && mode
        });
        let name = format!("attack {} {}: {what:?}", attack.number, attack.title);
        match known {
            Some(exception) => eprintln!("skipped: {name}: {} ({why})", exception.reason),
            // A barrier that does not hold where it should is never passed over.
            None if what == What::Containment || in_ci() => {
                let _ = writeln!(wrong, "{name}: {why}");
            }
            None => eprintln!("skipped: {name}: {why}"),
        }
    }
}

fn in_ci() -> bool {
    std::env::var_os("CELLBLOCK_REQUIRE").is_some_and(|value| value == "all")
}
