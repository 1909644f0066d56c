//! `cargo xtask dist`: what is given to others, as one archive: programs, units, documents, and an `install.sh` that
//! says what it does. The same sources and toolchain give the same bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::licences;
use crate::process::{cargo, output, run as run_command, say};
use crate::tree;

const PROGRAMS: [&str; 3] = ["cellblockd", "cellblock-shim", "cellctl"];

/// Files and folders of the repository, and where they are in the archive. The worker's Python is inside cellblock-shim.
const CONTENT: [(&str, &str); 13] = [
    ("deploy/install.sh", "install.sh"),
    ("deploy/cellblockd.env", "cellblockd.env"),
    ("deploy/tenants.toml", "tenants.toml"),
    ("deploy/systemd", "systemd"),
    ("deploy/user", "user"),
    ("deploy/sysusers.d", "sysusers.d"),
    ("deploy/tmpfiles.d", "tmpfiles.d"),
    ("deploy/apparmor", "apparmor"),
    ("sandbox-profiles/profiles", "profiles"),
    ("docs", "doc"),
    ("clients/python/src", "python/client/src"),
    ("clients/python/pyproject.toml", "python/client/pyproject.toml"),
    ("clients/python/README.md", "python/client/README.md"),
];

/// At the top of the archive, and among the documents.
const DOCUMENTS: [&str; 5] = ["README.md", "CHANGELOG.md", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE"];

/// Shells, and what they call a file of completions.
const SHELLS: [(&str, &str); 3] = [("bash", "cellctl"), ("zsh", "_cellctl"), ("fish", "cellctl.fish")];

/// # Errors
/// When something cannot be built or written.
pub(crate) fn run(debug: bool) -> Result<()> {
    let (profile, folder) = if debug { ("dev", "debug") } else { ("archive", "archive") };
    say(format!("building cellblock ({profile})"));
    let mut build = cargo();
    build.args(["build", "--bins", "--locked", "--profile", profile]);
    if !debug {
        build.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags());
    }
    run_command(&mut build)?;

    let built = tree::target().join(folder);
    let name = format!("cellblock-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let dist = tree::target().join("dist");
    let stage = dist.join(&name);
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("failed to remove `{}`", stage.display()))?;
    }
    for program in PROGRAMS {
        copy(&built.join(program), &stage.join("bin").join(program))?;
    }
    for (source, target) in CONTENT {
        copy(&tree::root().join(source), &stage.join(target))?;
    }
    for document in DOCUMENTS {
        copy(&tree::root().join(document), &stage.join(document))?;
        copy(&tree::root().join(document), &stage.join("doc").join(document))?;
    }
    copy(&tree::root().join("python/requirements.txt"), &stage.join("python/requirements.txt"))?;
    write(&stage.join("LICENSES-OF-OTHERS.txt"), licences::of_others()?.as_bytes())?;
    for (shell, file) in SHELLS {
        let script = output(Command::new(built.join("cellctl")).args(["completions", shell]))?;
        write(&stage.join("completions").join(shell).join(file), script.as_bytes())?;
    }
    let archive = pack(&dist, &name)?;
    let bytes =
        fs::metadata(&archive).with_context(|| format!("failed to look at `{}`", archive.display()))?.len();
    say(format!("{} ({} MB)", tree::short(&archive), bytes / 1_000_000));
    Ok(())
}

/// The caller's flags, and such that panics and backtraces name sources by where they are in the repository, not on
/// this machine.
fn flags() -> String {
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<_> = given.split_whitespace().map(str::to_owned).collect();
    let home = |name| std::env::var_os(name).map(PathBuf::from);
    let cargo = home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo")));
    let folders = [(home("HOME"), "home"), (cargo, "cargo"), (Some(tree::root().to_owned()), "cellblock")];
    // Of several that fit, rustc takes the last.
    for (folder, name) in folders {
        flags.extend(folder.map(|folder| format!("--remap-path-prefix={}=/{name}", folder.display())));
    }
    flags.join("\u{1f}")
}

/// Packs a folder so that nothing of this machine or moment is in the archive.
fn pack(dist: &Path, name: &str) -> Result<PathBuf> {
    let archive = dist.join(format!("{name}.tar.gz"));
    let tar = dist.join(format!("{name}.tar"));
    let mut command = Command::new("tar");
    command.arg("--directory").arg(dist).args(["--create", "--format=gnu", "--sort=name"]);
    command.args(["--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]);
    command.arg(format!("--mtime=@{}", moment())).arg("--file").arg(&tar).arg(name);
    run_command(&mut command)?;
    // Without the name and the time.
    run_command(Command::new("gzip").args(["--no-name", "--force", "--best"]).arg(&tar))?;
    Ok(archive)
}

/// The files' time: what the builder says, else that of the last change of the sources, else the beginning of time.
fn moment() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let changed = || {
        let mut git = Command::new("git");
        output(git.current_dir(tree::root()).args(["log", "-1", "--format=%ct"])).ok()
    };
    let text = given.or_else(changed).unwrap_or_default();
    text.trim().parse::<u64>().unwrap_or_default().to_string()
}

/// Copies a file, or a folder with all that is in it but what Python has compiled.
fn copy(source: &Path, target: &Path) -> Result<()> {
    let failed = || format!("failed to copy `{}` to `{}`", source.display(), target.display());
    if source.is_dir() {
        for entry in fs::read_dir(source).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if entry.file_name() != "__pycache__" {
                copy(&entry.path(), &target.join(entry.file_name()))?;
            }
        }
        return Ok(());
    }
    if !source.is_file() {
        bail!("`{}` is missing", source.display());
    }
    fs::create_dir_all(target.parent().unwrap_or(target)).with_context(failed)?;
    fs::copy(source, target).map(drop).with_context(failed)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("failed to write `{}`", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(failed)?;
    fs::write(path, bytes).with_context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_packed_is_there() {
        for path in CONTENT.map(|(source, _)| source).iter().chain(&DOCUMENTS) {
            assert!(tree::root().join(path).exists(), "{path}");
        }
    }
}
