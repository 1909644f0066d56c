//! Groups by name, as `/etc/group` has them. Nothing else is asked: that would be NSS, which loads
//! code; a group that is elsewhere can be named by its number.

use std::fs;
use std::io;

/// Why there is no such group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    #[error("there is no group {name:?} in /etc/group: make it, or name another, or give its number")]
    Unknown { name: String },
    #[error("failed to read /etc/group")]
    Read(#[source] io::Error),
}

/// The id of a group given by name or number.
///
/// # Errors
/// No such name.
pub(crate) fn find(group: &str) -> Result<u32, GroupError> {
    // The highest stands for "none" in chown(2), which would change nothing.
    if let Some(gid) = group.parse().ok().filter(|gid| *gid < u32::MAX) {
        return Ok(gid);
    }
    // Comments of others in it need not be UTF-8.
    let groups = fs::read("/etc/group").map_err(GroupError::Read)?;
    lookup(&String::from_utf8_lossy(&groups), group)
        .ok_or_else(|| GroupError::Unknown { name: group.to_owned() })
}

fn lookup(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next().filter(|found| !found.is_empty() && *found == name);
        found.and_then(|_| fields.nth(1)?.trim().parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_found_by_name_or_number_and_an_unknown_one_is_named() {
        let groups = "root:x:0:\n# a comment\nnotebooks:x:1234:ann,bob\nbroken:x\n";
        assert_eq!(lookup(groups, "notebooks"), Some(1234));
        for name in ["ann", "broken", "", "note"] {
            assert_eq!(lookup(groups, name), None, "{name}");
        }
        assert_eq!(find("1234").unwrap(), 1234);
        let unknown = find("no-such-group").unwrap_err().to_string();
        assert!(unknown.contains("no-such-group"), "{unknown}");
        find("4294967295").unwrap_err();
    }
}
