//! What lies here, copied into a notebook's workspace: for `run --with` and `files put`.
//!
//! Bytes and names are copied. Modes are not: the requests have none, so a script that is to be
//! executed needs a `chmod` in the notebook. Links are not either: one that leads to something that
//! is copied too becomes a copy of that, any other is refused by name before it shows the notebook
//! something that nobody has named.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cellblock_proto::path::escape;

use crate::fault::Fault;
use crate::files::Files;

/// The name a copied path has in the workspace: its place beside the notebook when it lies there,
/// else as it was typed, else (absolute, or with `..`) its last part.
///
/// # Errors
/// It has none.
pub(crate) fn name_inside(notebook_dir: &Path, source: &Path) -> Result<String, Fault> {
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
    match beside().or_else(|| plain(source)).or_else(last) {
        Some(name) => Ok(inside(&name)),
        None => Err(Fault::usage(format!("`{}` has no name to copy it under", source.display()))),
    }
}

/// A path of ours as requests have it.
fn inside(path: &Path) -> String {
    let names: Vec<String> = path.components().map(|name| escape(name.as_os_str().as_bytes())).collect();
    names.join("/")
}

/// Copies `source` (a file or a folder with all that is in it) to `target` in the workspace. `stop`
/// is asked now and then; when it says yes, the copy ends.
pub(crate) fn copy_into(
    files: &mut Files<'_>,
    source: &Path,
    target: &str,
    stop: &dyn Fn() -> bool,
) -> Result<(), Fault> {
    // The path itself may be a link: whoever named it means what it leads to.
    let top = fs::canonicalize(source).map_err(Fault::file("copy", source))?;
    let found = fs::metadata(&top).map_err(Fault::file("copy", source))?;
    if !found.is_file() && !found.is_dir() {
        return Err(Fault::usage(format!("`{}` is neither a file nor a directory", source.display())));
    }
    Copy { files, top: &top, stop }.one(&top, &mut Vec::new(), target)
}

struct Copy<'a, 'b> {
    files: &'a mut Files<'b>,
    top: &'a Path,
    stop: &'a dyn Fn() -> bool,
}

impl Copy<'_, '_> {
    /// `above` are the folders that we are in: a link to one of them would have no end.
    fn one(&mut self, from: &Path, above: &mut Vec<PathBuf>, to: &str) -> Result<(), Fault> {
        let kind = fs::symlink_metadata(from).map_err(Fault::file("copy", from))?.file_type();
        if kind.is_symlink() {
            let real = fs::canonicalize(from).map_err(Fault::file("follow the link", from))?;
            if !real.starts_with(self.top) || above.contains(&real) {
                let reason = if above.contains(&real) { "a folder it lies in" } else { "something outside" };
                return Err(Fault::usage_with_hint(
                    format!("`{}` is a link to {reason}, `{}`", from.display(), real.display()),
                    "copy what it leads to by name, or take the link away",
                ));
            }
            return self.one(&real, above, to);
        }
        if kind.is_dir() {
            return self.folder(from, above, to);
        }
        // Sockets, devices and pipes are no data.
        if kind.is_file() {
            let mut file = File::open(from).map_err(Fault::file("copy", from))?;
            self.files.write(to, &mut file, from, self.stop)?;
        }
        Ok(())
    }

    fn folder(&mut self, from: &Path, above: &mut Vec<PathBuf>, to: &str) -> Result<(), Fault> {
        above.push(from.to_owned());
        let mut is_empty = true;
        for entry in fs::read_dir(from).map_err(Fault::file("list", from))? {
            is_empty = false;
            let name = entry.map_err(Fault::file("list", from))?.file_name();
            // The workspace itself is the empty path.
            let slash = if to.is_empty() { "" } else { "/" };
            self.one(&from.join(&name), above, &format!("{to}{slash}{}", escape(name.as_bytes())))?;
        }
        if is_empty {
            self.files.make_folder(to)?;
        }
        above.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_relative_to_the_notebook_or_as_typed() {
        let named = |folder: &str, source: &str| name_inside(Path::new(folder), Path::new(source)).ok();
        assert_eq!(named("nb", "nb/data/x.csv"), Some("data/x.csv".into()));
        assert_eq!(named("nb", "data/x.csv"), Some("data/x.csv".into()));
        assert_eq!(named(".", "./data"), Some("data".into()));
        assert_eq!(named("nb", "/etc/passwd"), Some("passwd".into()));
        assert_eq!(named("src", "../ctl/src"), Some("src".into()));
        assert_eq!(named("nb", "/"), None);
    }
}
