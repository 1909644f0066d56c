//! `--with`: copies files from here into a notebook's workspace before it runs.
//!
//! It writes into the state directory of a private daemon; a shared one would need a request for
//! it, which the protocol does not have yet.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use crate::fault::Fault;

/// Copies `source` (a file or a directory) into `workspace`, under [`name_inside`].
pub(crate) fn copy_into(workspace: &Path, notebook_dir: &Path, source: &Path) -> Result<(), Fault> {
    let name = name_inside(notebook_dir, source).ok_or_else(|| {
        Fault::usage(format!("--with: `{}` has no name to copy it under", source.display()))
    })?;
    fs::create_dir_all(workspace).map_err(Fault::file("create", workspace))?;
    let owner = fs::metadata(workspace).map_err(Fault::file("look at", workspace))?;
    let owner = (owner.uid(), owner.gid());
    let mut target = workspace.to_owned();
    for component in name.parent().into_iter().flat_map(Path::components) {
        target.push(component);
        if !target.is_dir() {
            fs::create_dir(&target).map_err(Fault::file("create", &target))?;
            give_to(&target, owner)?;
        }
    }
    // The path itself may be a link; links below it are copied as links.
    let real = fs::canonicalize(source).map_err(Fault::file("copy", source))?;
    copy_tree(&real, &workspace.join(&name), owner)
}

/// The name a copied path has in the workspace: its place beside the notebook when it lies there,
/// else as it was typed, else (absolute, or with `..`) its last part.
fn name_inside(notebook_dir: &Path, source: &Path) -> Option<PathBuf> {
    let plain = |path: &Path| {
        let parts: PathBuf =
            path.components().filter(|component| !matches!(component, Component::CurDir)).collect();
        let inside = parts.components().all(|component| matches!(component, Component::Normal(_)));
        (inside && !parts.as_os_str().is_empty()).then_some(parts)
    };
    let beside = || {
        let source = std::path::absolute(source).ok()?;
        let folder = std::path::absolute(notebook_dir).ok()?;
        plain(source.strip_prefix(folder).ok()?)
    };
    let last = || plain(Path::new(fs::canonicalize(source).ok()?.file_name()?));
    beside().or_else(|| plain(source)).or_else(last)
}

fn copy_tree(from: &Path, to: &Path, owner: (u32, u32)) -> Result<(), Fault> {
    let kind = fs::symlink_metadata(from).map_err(Fault::file("copy", from))?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(from).map_err(Fault::file("copy", from))?;
        return symlink(target, to).map_err(Fault::file("create", to));
    }
    if kind.is_dir() {
        if !to.is_dir() {
            fs::create_dir(to).map_err(Fault::file("create", to))?;
        }
        give_to(to, owner)?;
        for entry in fs::read_dir(from).map_err(Fault::file("list", from))? {
            let name = entry.map_err(Fault::file("list", from))?.file_name();
            copy_tree(&from.join(&name), &to.join(&name), owner)?;
        }
        return Ok(());
    }
    if kind.is_file() {
        fs::copy(from, to).map_err(Fault::file("copy", from))?;
        return give_to(to, owner);
    }
    // Sockets, devices and pipes are no data.
    Ok(())
}

/// Only root can give files away, and only root needs to: else they are the worker's already.
fn give_to(path: &Path, owner: (u32, u32)) -> Result<(), Fault> {
    let found = fs::metadata(path).map_err(Fault::file("look at", path))?;
    if (found.uid(), found.gid()) == owner {
        return Ok(());
    }
    chown(path, Some(owner.0), Some(owner.1)).map_err(Fault::file("change the owner of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_relative_to_the_notebook_or_as_typed() {
        let named = |folder: &str, source: &str| name_inside(Path::new(folder), Path::new(source));
        assert_eq!(named("nb", "nb/data/x.csv"), Some("data/x.csv".into()));
        assert_eq!(named("nb", "data/x.csv"), Some("data/x.csv".into()));
        assert_eq!(named(".", "./data"), Some("data".into()));
        assert_eq!(named("nb", "/etc/passwd"), Some("passwd".into()));
        assert_eq!(named("src", "../ctl/src"), Some("src".into()));
        assert_eq!(named("nb", "/"), None);
    }

    #[test]
    fn directories_are_copied_whole() {
        let temp = tempfile::tempdir().unwrap();
        let (here, workspace) = (temp.path().join("here"), temp.path().join("state/workspace"));
        fs::create_dir_all(here.join("data/deep")).unwrap();
        fs::write(here.join("data/deep/x.csv"), "1,2").unwrap();
        copy_into(&workspace, &here, &here.join("data")).unwrap();
        assert_eq!(fs::read_to_string(workspace.join("data/deep/x.csv")).unwrap(), "1,2");
    }
}
