//! What must hold of every plan, whatever the profile and the host.

use proptest::prelude::*;

use super::*;
use crate::{Interpreter, Limits, Workspace};

fn host(rootful: bool, slot: u32, cache: bool) -> Host {
    Host {
        rootful,
        system: vec!["/usr".into(), "/etc/ssl".into()],
        links: vec![("/bin".into(), "usr/bin".into())],
        interpreter: Interpreter {
            program: "/opt/env/bin/python".into(),
            trees: vec![crate::Tree { source: "/opt/env".into(), target: "/opt/env".into() }],
        },
        payload: "/run/payload".into(),
        cache: cache.then(|| "/var/cache/python".into()),
        workspace: Workspace { folder: "/var/lib/cellblock/n/workspace".into(), quota: None },
        slot,
    }
}

/// Every way a workspace can be held; rootless the watch is the only one.
fn quotas(rootful: bool) -> Vec<Option<Quota>> {
    let image = Quota::Image { image: "/var/lib/cellblock/n/workspace.img".into() };
    let held = [Quota::Project { id: 77 }, image].map(Some).into_iter().filter(|_| rootful);
    held.chain([Some(Quota::Watch), None]).collect()
}

fn plan_with(quota: Option<Quota>, rootful: bool) -> Vec<Step> {
    let mut host = host(rootful, 0, true);
    host.workspace.quota = quota;
    plan(&Profile::builtin_default(), &host)
}

fn mounts(action: &Action) -> bool {
    matches!(
        action,
        Action::Attach { .. }
            | Action::MountTmpfs { .. }
            | Action::MountProc
            | Action::MountRoot { .. }
            | Action::Freeze { .. }
            | Action::Mask { .. }
    )
}

fn position(steps: &[Step], wanted: impl Fn(&Action) -> bool) -> usize {
    steps.iter().position(|step| wanted(&step.action)).expect("every plan has such a step")
}

proptest! {
    #[test]
    fn order_holds_on_every_host(rootful: bool, slot in 0..ids::SLOTS, cache: bool, quota: prop::sample::Index) {
        let mut host = host(rootful, slot, cache);
        host.workspace.quota = quota.get(&quotas(rootful)).clone();
        let steps = plan(&Profile::builtin_default(), &host);
        let pivot = position(&steps, |a| *a == Action::Pivot);
        prop_assert!(steps[pivot..].iter().all(|step| !mounts(&step.action)), "mounted after the pivot");

        let proc = position(&steps, |a| *a == Action::MountProc);
        let frozen = position(&steps, |a| matches!(a, Action::Freeze { .. }));
        for (at, step) in steps.iter().enumerate() {
            if matches!(step.action, Action::Sysctl { .. }) {
                prop_assert!(proc < at && at < frozen, "knob outside the time /proc/sys is writable");
            }
        }

        let nested = position(&steps, |a| matches!(a, Action::NestUserNamespace { .. }));
        let drop = position(&steps, |a| *a == Action::DropCapabilities);
        for (at, step) in steps.iter().enumerate() {
            if matches!(step.action, Action::Limit { .. }) {
                prop_assert!(nested < at && at < drop, "limit outside the nested user namespace");
            }
        }
        prop_assert!(position(&steps, |a| *a == Action::NoNewPrivileges) < drop);

        let restrict = position(&steps, |a| matches!(a, Action::Restrict { .. }));
        let prove = position(&steps, |a| *a == Action::Prove);
        prop_assert!(drop < restrict && restrict < prove, "proven before everything holds");
        let verify = position(&steps, |a| *a == Action::Verify);
        prop_assert!(prove + 1 == verify, "something comes between the proof and the first look from outside");
        prop_assert!(steps[verify..].iter().all(|step| step.actor == Actor::Watch), "something comes after");

        let clone = position(&steps, |a| matches!(a, Action::Clone { .. }));
        let enter = position(&steps, |a| *a == Action::EnterOuter);
        prop_assert!(enter < clone, "the shim made the sandbox with rights on the host");
        prop_assert!(steps.iter().map(|step| step.actor).is_sorted(), "actors interleave");
    }

    #[test]
    fn no_two_slots_share_an_id(a in 0..ids::SLOTS, b in 0..ids::SLOTS) {
        prop_assume!(a != b);
        let own = |slot| [ids::init_in_outer(slot), ids::worker_in_outer(slot)];
        prop_assert!(own(a).iter().all(|id| *id != 0 && *id < ids::RANGE && !own(b).contains(id)));
    }
}

#[test]
fn every_tree_that_is_taken_is_attached_and_only_the_workspace_is_writable() {
    for steps in quotas(true).into_iter().map(|quota| plan_with(quota, true)) {
        let attached: Vec<_> = steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Attach { target } => Some(target),
                _ => None,
            })
            .collect();
        let mut taken = 0;
        for step in &steps {
            let (target, writable) = match &step.action {
                Action::OpenTree { target, writable, .. } => (target, *writable),
                Action::MountImage { target, .. } => (target, true),
                _ => continue,
            };
            taken += 1;
            assert!(attached.contains(&target), "{step}");
            assert_eq!(writable, target == Path::new("/workspace"), "{step}");
        }
        assert_eq!(taken, attached.len());
    }
}

#[test]
fn workspace_is_held_by_one_means_and_with_rights_where_it_needs_them() {
    for rootful in [true, false] {
        for quota in quotas(rootful) {
            let steps = plan_with(quota.clone(), rootful);
            let of_quota = |step: &&Step| step.barrier == Barrier::WorkspaceQuota;
            let held: Vec<&Step> = steps.iter().filter(of_quota).collect();
            let Some(quota) = quota else {
                assert_eq!(held, Vec::<&Step>::new());
                continue;
            };
            assert_eq!(held.len(), 1, "{held:?}");
            let at = position(&steps, |a| *a == held[0].action);
            let bytes = Limits::default().workspace_bytes;
            match (&quota, &held[0].action) {
                (Quota::Project { id }, Action::LimitWorkspace { project, bytes: limit, .. }) => {
                    assert_eq!((project, *limit), (id, bytes));
                    // Before the tree is taken, and with rights on the host.
                    assert!(at < position(&steps, |a| matches!(a, Action::OpenTree { .. })));
                }
                (Quota::Image { image }, Action::MountImage { image: mounted, bytes: limit, idmap, .. }) => {
                    assert_eq!((mounted, *limit, *idmap), (image, bytes, true));
                    assert!(at < position(&steps, |a| *a == Action::EnterOuter));
                    let workspace = |a: &Action| matches!(a, Action::OpenTree { target, .. } if target == Path::new("/workspace"));
                    assert!(!steps.iter().any(|step| workspace(&step.action)), "taken twice");
                }
                (Quota::Watch, Action::WatchWorkspace { bytes: limit }) => {
                    assert_eq!((*limit, held[0].actor), (bytes, Actor::Watch));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn project_id_is_the_inodes_number_where_that_is_one() {
    assert_eq!(Quota::project_id(77), Some(77));
    assert_eq!(Quota::project_id(0x7fff_ffff), Some(0x7fff_ffff));
    assert_eq!([0, 0x8000_0000, 1 << 32].map(Quota::project_id), [None; 3]);
}

#[test]
fn root_takes_trees_before_it_gives_up_its_rights_and_a_user_after_he_has_some() {
    for rootful in [true, false] {
        let steps = plan(&Profile::builtin_default(), &host(rootful, 0, false));
        let enter = position(&steps, |a| *a == Action::EnterOuter);
        let tree = position(&steps, |a| matches!(a, Action::OpenTree { .. }));
        assert_eq!(tree < enter, rootful);
    }
}

#[test]
fn plan_reads_like_a_story() {
    let steps = plan(&Profile::builtin_default(), &host(true, 0, true));
    let text: String =
        steps.iter().enumerate().map(|(n, step)| format!("{:2}. {step}: {}\n", n + 1, step.reason)).collect();
    insta::assert_snapshot!(text);
}
