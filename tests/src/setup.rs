//! As whom and with which Python a test runs.

use std::ffi::OsString;
use std::path::PathBuf;

/// The ordinary user that tests are run as when root runs them: without privileges, without an
/// entry in passwd, and outside the range of ids that sandboxes use.
pub const USER_ID: u32 = 52_001;

/// Another one, who is nobody to the daemons of the tests.
pub const STRANGER_ID: u32 = 52_002;

/// Whose the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Root's.
    Root,
    /// An ordinary user's.
    User,
}

impl Who {
    /// The daemon's user id.
    pub fn uid(self) -> u32 {
        match self {
            Who::Root => 0,
            Who::User if we_are_root() => USER_ID,
            Who::User => rustix::process::geteuid().as_raw(),
        }
    }
}

/// The ways a key test is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As root, with a Python that may lie under root's home.
    RootPyenv,
    /// As root, with Debian's Python.
    RootDebian,
    /// As an ordinary user, with Debian's Python.
    UserDebian,
}

impl Mode {
    /// The mode that fits whoever runs the tests.
    pub fn here() -> Self {
        if we_are_root() { Mode::RootPyenv } else { Mode::UserDebian }
    }

    /// Runs a test in this mode, or says why it is skipped.
    ///
    /// # Panics
    /// When the test does; when nothing may be skipped; without the variables of `cargo xtask test`.
    pub fn with(self, test: impl FnOnce(Setup)) {
        match self.setup() {
            Ok(setup) => test(setup),
            Err(reason) => skip(&reason),
        }
    }

    fn setup(self) -> Result<Setup, String> {
        let own = required("CELLBLOCK_TEST_PYTHON");
        let (who, python) = match self {
            Mode::RootPyenv | Mode::RootDebian if !we_are_root() => {
                return Err("only root can run it".to_owned());
            }
            Mode::RootPyenv => (Who::Root, own),
            Mode::RootDebian | Mode::UserDebian => {
                let who = if self == Mode::RootDebian { Who::Root } else { Who::User };
                let python = optional("CELLBLOCK_TEST_PYTHON_ROOTLESS")
                    .ok_or("CELLBLOCK_TEST_PYTHON_ROOTLESS names no Python that other users can read")?;
                (who, python)
            }
        };
        Ok(Setup {
            who,
            python,
            arguments: Vec::new(),
            profiles: Vec::new(),
            private: true,
            tiny_disk: false,
            disk_options: "size=256k,nr_inodes=40",
            masked_proc: false,
            shared_mounts: false,
            dropped: String::new(),
            warm: false,
            switches: Vec::new(),
        })
    }
}

/// Says why a test is skipped.
///
/// # Panics
/// When nothing may be skipped (`CELLBLOCK_REQUIRE=all`, as in continuous integration).
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("CELLBLOCK_REQUIRE").is_none_or(|value| value != "all"),
        "skipping is a failure here (CELLBLOCK_REQUIRE=all): {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// A variable that `cargo xtask test` always sets.
///
/// # Panics
/// Without it.
pub fn required(name: &str) -> PathBuf {
    optional(name).unwrap_or_else(|| {
        panic!("{name} is not set: run `cargo xtask test -- NAME`, which prepares what tests need")
    })
}

/// A variable that `cargo xtask test` sets when the host has the thing.
pub fn optional(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether root runs the tests.
pub fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whose it is.
    pub who: Who,
    /// The interpreter.
    pub python: PathBuf,
    /// Further arguments.
    pub arguments: Vec<OsString>,
    /// Profiles: name and TOML.
    pub profiles: Vec<(String, String)>,
    /// Whether it ends with the test's end of its standard input, and its workers with it.
    pub private: bool,
    /// Whether notebooks lie on a disk of a few files, seen by nobody else; as root only.
    pub tiny_disk: bool,
    /// How large that is, as options of its mount.
    pub disk_options: &'static str,
    /// Whether mounts travel between the daemon's namespace and copies of it, as systemd has it; as root
    /// only.
    pub shared_mounts: bool,
    /// Whether parts of the daemon's `/proc` are covered, as in a container; as root only.
    pub masked_proc: bool,
    /// Barriers that its sandboxes are made without, comma-separated.
    pub dropped: String,
    /// Whether it has zygotes and spares: most tests are of one worker, for which they are not worth it.
    pub warm: bool,
    /// Switches that only debug builds have: variables of its environment.
    pub switches: Vec<(String, String)>,
}

impl Setup {
    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With a profile; `limits` are lines below `[limits]`.
    #[must_use]
    pub fn limits(self, name: &str, limits: &str) -> Self {
        self.profile(name, &format!("version = 1\n[limits]\n{limits}\n"))
    }

    /// With a profile as it stands in its file.
    #[must_use]
    pub fn profile(mut self, name: &str, text: &str) -> Self {
        self.profiles.push((name.to_owned(), text.to_owned()));
        self
    }

    /// With a disk for notebooks that is soon full.
    #[must_use]
    pub fn tiny_disk(mut self) -> Self {
        self.tiny_disk = true;
        self
    }

    /// The same, with room for some files.
    #[must_use]
    pub fn small_disk(mut self) -> Self {
        self.disk_options = "size=8m";
        self.tiny_disk()
    }

    /// With mounts that travel.
    #[must_use]
    pub fn shared_mounts(mut self) -> Self {
        self.shared_mounts = true;
        self
    }

    /// With parts of `/proc` covered.
    #[must_use]
    pub fn masked_proc(mut self) -> Self {
        self.masked_proc = true;
        self
    }

    /// With sandboxes that lack these barriers, by their names in `sandbox_profiles::Omit`.
    #[must_use]
    pub fn without(mut self, dropped: &str) -> Self {
        self.dropped = dropped.to_owned();
        self
    }

    /// With zygotes and spares, as profiles ask for them.
    #[must_use]
    pub fn warm(mut self) -> Self {
        self.warm = true;
        self
    }

    /// With a switch that only debug builds have.
    #[must_use]
    pub fn switch(mut self, name: &str, value: &str) -> Self {
        self.switches.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another interpreter.
    #[must_use]
    pub fn python(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = python.into();
        self
    }

    /// As a daemon whose workers outlive it.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.private = false;
        self
    }
}
