use std::path::PathBuf;

use super::*;
use crate::{Host, Interpreter, Profile, plan};

fn whole(rootful: bool) -> Vec<Step> {
    let host = Host {
        rootful,
        system: vec!["/usr".into(), "/etc/ssl".into()],
        links: vec![("/bin".into(), "usr/bin".into()), ("/etc/localtime".into(), "/usr/zone".into())],
        interpreter: Interpreter { program: "/opt/env/bin/python".into(), trees: Vec::new() },
        payload: "/run/payload".into(),
        cache: None,
        workspace: crate::Workspace { folder: "/w".into(), quota: None },
        files: vec!["/etc/ld.so.cache".into()],
        slot: 0,
    };
    plan(&Profile::builtin_default(), &host)
}

#[test]
fn nothing_left_out_is_the_plan_itself() {
    assert_eq!(without(whole(true), &[]), whole(true));
}

#[test]
fn every_name_is_read_back_and_anything_else_is_refused() {
    for omit in omittable() {
        assert_eq!(omit.to_string().parse(), Ok(omit));
    }
    for bad in ["", "Landlock", "namespaces.user", "namespaces.net"] {
        assert!(bad.parse::<Omit>().is_err(), "{bad}");
    }
    assert_eq!(omittable().len(), NAMES.len() - LOAD_BEARING.len() + NAMESPACES.len());
}

#[test]
fn each_drop_takes_what_would_refuse_it_and_keeps_what_carries() {
    for (rootful, omit) in omittable().into_iter().flat_map(|omit| [(true, omit), (false, omit)]) {
        let steps = without(whole(rootful), &[omit]);
        assert!(!steps.iter().any(|step| matches!(step.action, Action::Prove | Action::Verify)), "{omit}");
        for carries in [
            |action: &Action| matches!(action, Action::Clone { namespaces } if namespaces.contains(&Namespace::Pid)),
            |action: &Action| matches!(action, Action::MapIds { .. }),
            |action: &Action| matches!(action, Action::Pivot),
            |action: &Action| matches!(action, Action::MountProc),
            |action: &Action| matches!(action, Action::EnterOuter),
        ] {
            let needed = omit == Omit::Barrier(Barrier::PrivateRoot);
            assert!(needed || steps.iter().any(|step| carries(&step.action)), "{omit}");
        }
        let order: Vec<Actor> = steps.iter().map(|step| step.actor).collect();
        assert!(order.is_sorted(), "{omit}: {order:?}");
    }
}

#[test]
fn host_devices_lie_below_the_sandboxes_own_memory() {
    let steps = without(whole(true), &[Omit::Barrier(Barrier::Devices)]);
    let at = |wanted: &dyn Fn(&Action) -> bool| steps.iter().position(|step| wanted(&step.action)).unwrap();
    let shm = PathBuf::from("/dev/shm");
    let devices = at(&|action| *action == Action::Attach { target: "/dev".into() });
    assert!(devices < at(&|action| matches!(action, Action::MountTmpfs { target, .. } if *target == shm)));
}

#[test]
fn landlock_comes_before_the_capabilities_go_when_there_is_no_no_new_privs() {
    let steps = without(whole(true), &[Omit::Barrier(Barrier::NoNewPrivileges)]);
    let at = |wanted: fn(&Action) -> bool| steps.iter().position(|step| wanted(&step.action)).unwrap();
    assert!(
        at(|action| matches!(action, Action::Restrict { .. }))
            < at(|action| *action == Action::DropCapabilities)
    );
}
