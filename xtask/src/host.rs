//! What this host lacks for making sandboxes, said before minutes of building rather than after.
//!
//! Only what stops everything is looked at here; `cellctl doctor` judges each barrier.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{on_path, say};

/// Our effective user id.
pub(crate) fn uid() -> u32 {
    // The owner of /proc/self is the effective user (proc(5)).
    fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    uid() == 0
}

/// Fails with one sentence when no sandbox can be made here.
///
/// # Errors
/// The sentence, with the command that helps where there is one.
pub(crate) fn require_sandboxes() -> Result<()> {
    match missing() {
        Some(sentence) => bail!("{sentence}"),
        None => Ok(()),
    }
}

/// Says the same, and goes on: most unit tests need no sandbox.
pub(crate) fn warn_about_sandboxes() {
    if let Some(sentence) = missing() {
        say(format!("tests that make sandboxes will fail: {sentence}"));
    }
}

fn missing() -> Option<String> {
    let setting = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let facts = Facts {
        root: is_root(),
        max_user_namespaces: setting("/proc/sys/user/max_user_namespaces"),
        unprivileged_clone: setting("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restricts: setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    };
    judge(&facts).or_else(try_it)
}

/// What the kernel's settings say; `None` where this kernel has no such setting.
struct Facts {
    root: bool,
    max_user_namespaces: Option<u64>,
    unprivileged_clone: Option<u64>,
    apparmor_restricts: Option<u64>,
}

fn judge(facts: &Facts) -> Option<String> {
    let allow = |what: &str, setting: &str| {
        Some(format!("{what} (`{setting}` as root allows it until the next boot)"))
    };
    match facts {
        Facts { max_user_namespaces: None, .. } => Some("this kernel has no user namespaces".into()),
        Facts { max_user_namespaces: Some(0), .. } => {
            allow("user namespaces are switched off", "sysctl user.max_user_namespaces=15000")
        }
        Facts { root: false, unprivileged_clone: Some(0), .. } => allow(
            "ordinary users may not make user namespaces here",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        Facts { root: false, apparmor_restricts: Some(1..), .. } => allow(
            "AppArmor keeps ordinary users from user namespaces",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        Facts { .. } => None,
    }
}

/// A container's own rules show in no setting: only trying tells.
fn try_it() -> Option<String> {
    let unshare = on_path("unshare")?;
    let mut command = Command::new(unshare);
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]);
    let made = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let failed = made.is_ok_and(|status| !status.success());
    failed.then(|| {
        "this host refuses new user, mount, process and network namespaces; inside a container, the container's own settings must allow them"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWS: Facts = Facts {
        root: false,
        max_user_namespaces: Some(15000),
        unprivileged_clone: Some(1),
        apparmor_restricts: Some(0),
    };

    #[test]
    fn each_switch_is_named_by_the_command_that_sets_it() {
        let off = [
            (Facts { max_user_namespaces: Some(0), ..ALLOWS }, "user.max_user_namespaces"),
            (Facts { unprivileged_clone: Some(0), ..ALLOWS }, "kernel.unprivileged_userns_clone"),
            (Facts { apparmor_restricts: Some(1), ..ALLOWS }, "kernel.apparmor_restrict_unprivileged_userns"),
        ];
        for (facts, setting) in off {
            assert!(judge(&facts).is_some_and(|sentence| sentence.contains(setting)), "{setting}");
        }
        assert_eq!(judge(&ALLOWS), None);
    }

    #[test]
    fn root_is_not_stopped_by_what_binds_ordinary_users() {
        let facts = Facts { root: true, unprivileged_clone: Some(0), apparmor_restricts: Some(1), ..ALLOWS };
        assert_eq!(judge(&facts), None);
    }
}
