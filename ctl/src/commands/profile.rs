//! `cellctl profile`

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cellblock_proto::client::ProfileInfo;
use clap::{Args, Subcommand};
use sandbox_profiles::{Need, Profile, explain, is_profile_name};

use super::{print, print_json, say, table};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{DaemonArgs, Session};
use crate::signals::Signals;

/// List, explain and check what notebooks may be allowed
///
/// A profile says what a notebook may do: limits, mounts, network, environment. `docs/profiles.md`
/// tells how to write one.
#[derive(Args, Debug)]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(Ls),
    Explain(Explain),
    Check(Check),
}

/// List the profiles that notebooks can be opened with
///
/// One line each: name, whether it is built in or a file of the operator's, whether it can be used,
/// and what it is for or what is wrong with it.
#[derive(Args, Debug)]
struct Ls {
    #[command(flatten)]
    daemon: DaemonArgs,

    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

/// Print the steps that make a profile's sandbox on this host
///
/// One line each: number, who does it (the shim outside, the sandbox's init, the worker, the watch),
/// the barrier it is part of, the step, and why. A step with ~ is best effort: where the host cannot
/// do it, the worker starts and its report says so; any other step that fails is the end of the start.
/// Nothing is made. The paths are those of a notebook that would be called NOTEBOOK.
///
/// Example: cellctl profile explain strict
#[derive(Args, Debug)]
struct Explain {
    /// The profile's name, as `cellctl profile ls` shows it
    #[arg(default_value = "default")]
    name: String,

    #[command(flatten)]
    daemon: DaemonArgs,

    /// Print one JSON list
    #[arg(long)]
    json: bool,
}

/// Check profiles that are files, without cellblockd
///
/// What they stand on by `base` is looked for in the file's own folder, then among what is built in.
/// Prints the files that can be used; what is wrong with others goes to standard error, with line and
/// column, and the end is 2.
///
/// Example: cellctl profile check /etc/cellblock/profiles/*.toml
#[derive(Args, Debug)]
struct Check {
    /// The files, each NAME.toml
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl ProfileArgs {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        match self.verb {
            Verb::Ls(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(),
            Verb::Check(verb) => verb.run(),
        }
    }
}

fn session(args: &DaemonArgs) -> Result<Session, Fault> {
    let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
    Session::find_or_start(args, &signals)
}

impl Ls {
    fn run(self) -> Result<Exit, Fault> {
        let profiles = session(&self.daemon)?.connection.profiles()?;
        if self.json {
            print_json(&profiles)?;
        } else {
            print(&list(&profiles))?;
        }
        Ok(Exit::Ok)
    }
}

fn list(profiles: &[ProfileInfo]) -> String {
    let mut rows = vec![["PROFILE", "FROM", "STATE", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(profiles.iter().map(|info| {
        let from = if info.builtin { "built-in" } else { "file" };
        let state = if info.usable { "usable" } else { "broken" };
        vec![info.name.clone(), from.to_owned(), state.to_owned(), info.description.clone()]
    }));
    table(&rows)
}

impl Explain {
    fn run(self) -> Result<Exit, Fault> {
        let steps = session(&self.daemon)?.connection.plan(&self.name)?;
        if self.json {
            print_json(&steps)?;
            return Ok(Exit::Ok);
        }
        print(&explain(&steps))?;
        if steps.iter().any(|step| step.need == Need::BestEffort) {
            say(
                "~ is best effort: where it cannot be done, the worker starts without it and its report says so\n",
            );
        }
        Ok(Exit::Ok)
    }
}

impl Check {
    fn run(self) -> Result<Exit, Fault> {
        let mut exit = Exit::Ok;
        for file in &self.files {
            match check(file) {
                Ok(()) => print(&format!("ok {}\n", file.display()))?,
                Err(message) => {
                    say(&format!("error: {}: {message}\n", file.display()));
                    exit = exit.or(Exit::Usage);
                }
            }
        }
        Ok(exit)
    }
}

fn check(file: &Path) -> Result<(), String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if !is_profile_name(stem) || file.extension().is_none_or(|extension| extension != "toml") {
        return Err(
            "a profile is a file NAME.toml, where NAME has 1 to 64 of the characters A-Z a-z 0-9 _ -"
                .to_owned(),
        );
    }
    let text = read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let base = |name: &str| match read(&folder.join(format!("{name}.toml"))) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    Profile::parse(stem, &text, &base).map(|_| ()).map_err(|error| error.to_string())
}

/// A profile is a page of text; more is a mistake.
const MAX_BYTES: u64 = 1 << 20;

fn read(path: &Path) -> io::Result<String> {
    // Of a pipe the open would wait for somebody to write.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_profile_is_listed_with_its_fault() {
        let info = |name: &str, description: &str, usable, builtin| ProfileInfo {
            name: name.into(),
            description: description.into(),
            usable,
            builtin,
        };
        insta::assert_snapshot!(list(&[
            info("default", "compute within limits, no network", true, true),
            info("team", "profile \"team\", line 3, column 11: limits.wall_ms is 0", false, false),
        ]), @r#"
        PROFILE  FROM      STATE   DESCRIPTION
        default  built-in  usable  compute within limits, no network
        team     file      broken  profile "team", line 3, column 11: limits.wall_ms is 0
        "#);
    }
}
