//! What must hold of the plans that are made of another.

use super::*;
use crate::step::Resource;
use crate::{Host, Interpreter, Profile, Quota, Workspace, plan};

/// Every host that matters: whoever runs the daemon, however the workspace is held.
fn plans() -> Vec<Vec<Step>> {
    let image = Quota::Image { image: "/state/n/workspace.img".into() };
    let quotas = [None, Some(Quota::Watch), Some(Quota::Project { id: 7 }), Some(image)];
    let host = |rootful, quota| Host {
        rootful,
        system: vec!["/usr".into()],
        files: vec!["/etc/ld.so.cache".into()],
        links: vec![("/bin".into(), "usr/bin".into())],
        interpreter: Interpreter { program: "/usr/bin/python3".into(), trees: Vec::new() },
        payload: "/run/payload".into(),
        cache: None,
        workspace: Workspace { folder: "/state/n/workspace".into(), quota },
        slot: 3,
    };
    let all = quotas.into_iter().flat_map(|quota| [true, false].map(|rootful| host(rootful, quota.clone())));
    all.map(|host| plan(&Profile::builtin_default(), &host)).collect()
}

#[test]
fn a_spares_halves_are_the_plan_and_only_the_workspace_comes_later() {
    for whole in plans() {
        let SparePlan { before, claim } = spare_plan(&whole);
        assert!(claim.iter().all(|step| is_workspace(step) && step.actor < Actor::Worker), "{claim:#?}");
        assert!(
            claim.iter().any(
                |step| matches!(&step.action, Action::Attach { target } if target.ends_with("workspace"))
            )
        );
        let stands_in = |step: &Step| matches!(step.action, Action::MountPoint { .. });
        assert_eq!(before.iter().filter(|step| stands_in(step)).count(), 1);
        // Nothing of a notebook is done before, and nothing is forgotten or done twice.
        let mut halves: Vec<&Step> = before.iter().filter(|step| !stands_in(step)).chain(&claim).collect();
        halves.sort_by_key(|step| whole.iter().position(|other| other == *step));
        assert_eq!(halves, whole.iter().collect::<Vec<_>>());
        // The folder to mount on is made while the root can still be changed.
        let place = before.iter().position(stands_in);
        let sealed = before.iter().position(|step| matches!(step.action, Action::ReadOnly { .. }));
        assert!(place < sealed);
    }
}

#[test]
fn a_zygote_has_the_workers_root_and_nothing_of_a_notebook() {
    for whole in plans() {
        let zygote = zygote_plan(&whole);
        assert!(!zygote.iter().any(is_workspace));
        let attached = |steps: &[Step]| -> Vec<PathBuf> {
            let targets = steps.iter().filter_map(|step| match &step.action {
                Action::Attach { target } if !target.ends_with("workspace") => Some(target.clone()),
                _ => None,
            });
            targets.collect()
        };
        assert_eq!(attached(&zygote), attached(&whole));
        let clones: Vec<_> =
            zygote.iter().filter(|step| matches!(step.action, Action::Clone { .. })).collect();
        let [Step { action: Action::Clone { namespaces }, .. }] = clones[..] else { panic!("{clones:?}") };
        // In a user namespace or a pid namespace of its own it could join no sandbox.
        assert!(!namespaces.contains(&Namespace::User) && !namespaces.contains(&Namespace::Pid));
        assert!(namespaces.contains(&Namespace::Network) && namespaces.contains(&Namespace::Mount));
        let entered = zygote.iter().position(|step| step.action == Action::EnterOuter);
        let cloned = zygote.iter().position(|step| matches!(step.action, Action::Clone { .. }));
        assert!(entered < cloned, "it is never root of the host");
        // The set is bounded before exec gives root of the namespace what is left of it.
        assert!(zygote.iter().any(|step| step.action == Action::KeepAdmin && step.actor == Actor::Worker));
    }
}

#[test]
fn what_comes_before_python_is_prepared_is_the_workers_id_alone() {
    for whole in plans() {
        let worker: Vec<Step> = whole.into_iter().filter(|step| step.actor == Actor::Worker).collect();
        let (first, rest) = worker.split_at(early(&worker));
        assert!(first.iter().all(|step| matches!(step.action, Action::BecomeWorker { .. })));
        assert!(!rest.iter().any(|step| matches!(step.action, Action::BecomeWorker { .. })));
        let limits = |step: &Step| matches!(step.action, Action::Limit { resource: Resource::Processes, .. });
        assert!(rest.iter().any(limits));
    }
}
