//! What a plan must know of this host.

use std::fs;
use std::path::{Path, PathBuf};

/// The parts of `/etc` that programs need and that say nothing about anybody.
const ETC: [&str; 6] =
    ["/etc/alternatives", "/etc/fonts", "/etc/ssl", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types"];

/// Folders of the root that are links into `/usr` on merged systems and real ones on others.
const ROOTS: [&str; 5] = ["/bin", "/sbin", "/lib", "/lib64", "/lib32"];

/// What of the system every sandbox sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct System {
    /// Folders shown at their own paths, read-only.
    pub(crate) paths: Vec<PathBuf>,
    /// Files copied to their own paths.
    pub(crate) files: Vec<PathBuf>,
    /// Links as the host has them: (link, target).
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
}

/// Looks at the host. Nothing is resolved: a link is shown as a link.
pub(crate) fn system() -> System {
    let mut system = System { paths: vec![PathBuf::from("/usr")], ..System::default() };
    for path in ROOTS.iter().chain(&ETC).map(Path::new) {
        let Ok(found) = fs::symlink_metadata(path) else { continue };
        if found.is_dir() {
            system.paths.push(path.to_owned());
        } else if found.is_file() {
            system.files.push(path.to_owned());
        } else if let Ok(target) = fs::read_link(path) {
            system.links.push((path.to_owned(), target));
        }
    }
    system
}

/// Whether the daemon makes its sandboxes with root's rights.
pub(crate) fn is_rootful() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_is_usr_and_a_few_harmless_files_and_never_etc_itself() {
        let system = system();
        assert_eq!(system.paths[0], Path::new("/usr"));
        assert!(!system.paths.iter().any(|path| path == Path::new("/etc") || path == Path::new("/")));
        for (link, target) in &system.links {
            assert_eq!(&fs::read_link(link).unwrap(), target);
            assert!(!system.paths.contains(link));
        }
    }
}
