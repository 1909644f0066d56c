//! `cellctl` as its users run it: in a folder of its own, with whatever daemon it finds or starts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::setup::{Setup, Who, we_are_root};
use crate::{binaries, leftovers, wait};

/// A place to run `cellctl` in.
#[derive(Debug)]
pub struct Cli {
    folder: TempDir,
    setup: Setup,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Words.
    pub stderr: String,
}

impl Cli {
    /// A fresh place.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("cbc-").tempdir_in("/tmp").expect("/tmp can be written");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
        let uid = setup.who.uid();
        for name in ["t", "cache", "run"] {
            fs::create_dir(folder.path().join(name)).expect("a new folder");
            let _ = chown(folder.path().join(name), Some(uid), Some(uid));
        }
        let _ = chown(folder.path(), Some(uid), Some(uid));
        Cli { folder, setup }
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("our own folder");
        path
    }

    /// The program with arguments; what it starts bears our folder's name.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::folder(self.setup.who).join("cellctl"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.path("t"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        if self.setup.who == Who::User && we_are_root() {
            command.uid(self.setup.who.uid()).gid(self.setup.who.uid());
        }
        command
    }

    /// The interpreter, as an argument.
    pub fn python(&self) -> &str {
        self.setup.python.to_str().expect("UTF-8")
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).output().expect("cellctl can be started"))
    }

    /// Runs it with a private daemon.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn private(&self, arguments: &[&str]) -> Ended {
        self.run(&[arguments, &["--private", "--python", self.python()]].concat())
    }

    /// Checks that nothing is left of what was started here, our own files aside.
    ///
    /// # Panics
    /// When something is.
    pub fn check_leftovers(&self) {
        let mark = self.folder.path().file_name().expect("a name").to_string_lossy().into_owned();
        let gone = wait::within(wait::PATIENCE, || leftovers::processes(&mark).is_empty().then_some(()));
        assert!(gone.is_some(), "processes are left: {:?}", leftovers::processes(&mark));
        assert_eq!(leftovers::sockets(&mark), Vec::<String>::new());
        assert_eq!(leftovers::mounts(&mark), Vec::<String>::new());
        let files = |name: &str| leftovers::files(&self.path(name));
        assert_eq!((files("t"), files("run")), (vec![], vec![]), "files are left");
    }
}

/// What a finished program gave.
pub fn ended(output: std::process::Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A notebook file with these code cells.
pub fn notebook_json(cells: &[&str]) -> String {
    let escape = |text: &str| {
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out += "\\n",
                c => out.push(c),
            }
        }
        out + "\""
    };
    let cells: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(number, code)| {
            format!(
                r#"{{"cell_type": "code", "id": "c{number}", "metadata": {{}}, "execution_count": null, "outputs": [], "source": {}}}"#,
                escape(code)
            )
        })
        .collect();
    format!(r#"{{"nbformat": 4, "nbformat_minor": 5, "metadata": {{}}, "cells": [{}]}}"#, cells.join(", "))
}
