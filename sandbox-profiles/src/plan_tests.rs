//! What must hold of every plan, whatever the profile and the host.

use proptest::prelude::*;

use super::*;
use crate::{BUILTINS, Interpreter, LIMITS, Limits, Mount, Workspace};

fn host(rootful: bool, slot: u32, cache: bool) -> Host {
    Host {
        rootful,
        system: vec!["/usr".into(), "/etc/ssl".into()],
        files: vec!["/etc/ld.so.cache".into()],
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

/// Any host that a plan can be made for.
fn hosts() -> impl Strategy<Value = Host> {
    let trees = prop::collection::vec("/opt/[a-z]{1,8}", 0..3);
    let quota = any::<prop::sample::Index>();
    (any::<bool>(), 0..ids::SLOTS, any::<bool>(), trees, 0..3_usize, quota).prop_map(
        |(rootful, slot, cache, trees, system, quota)| {
            let mut host = host(rootful, slot, cache);
            host.workspace.quota = quota.get(&quotas(rootful)).clone();
            host.system.truncate(system);
            host.interpreter.trees = trees
                .into_iter()
                .map(|path| crate::Tree { source: path.clone().into(), target: path.into() })
                .collect();
            host
        },
    )
}

/// Any profile that its text could have made: built in, and changed in every way that has a say in plans.
fn profiles() -> impl Strategy<Value = Profile> {
    let limits =
        LIMITS.map(|limit| prop_oneof![Just(limit.least), Just(limit.most), limit.least..=limit.most]);
    let needs = Barrier::ALL.map(|barrier| {
        prop::option::of(if barrier.is_load_bearing() { Just(true).boxed() } else { any::<bool>().boxed() })
    });
    let mounts = prop::collection::vec(("/srv/[a-z]{1,4}", prop::option::of("/data/[a-z]{1,4}")), 0..3);
    (0..BUILTINS.len(), limits, needs, mounts, any::<bool>()).prop_map(
        |(at, limits, needs, mounts, loopback)| {
            let mut profile = Profile::builtin(BUILTINS[at].0).expect("its name is one of them");
            for (limit, value) in LIMITS.iter().zip(limits) {
                *(limit.field)(&mut profile.limits) = value;
            }
            let need = |required| if required { Need::Required } else { Need::BestEffort };
            profile.barriers = Barrier::ALL
                .into_iter()
                .zip(needs)
                .filter_map(|(barrier, is)| Some((barrier, need(is?))))
                .collect();
            profile.mounts = mounts
                .into_iter()
                .map(|(source, target)| Mount { source: source.into(), target: target.map(PathBuf::from) })
                .collect();
            profile.network = if loopback { Network::Loopback } else { Network::None };
            profile
        },
    )
}

proptest! {
    #[test]
    fn order_holds_for_every_profile_on_every_host(profile in profiles(), host in hosts()) {
        let steps = plan(&profile, &host);
        let pivot = position(&steps, |a| *a == Action::Pivot);
        prop_assert!(steps[pivot..].iter().all(|step| !mounts(&step.action)), "mounted after the pivot");
        let root = position(&steps, |a| matches!(a, Action::MountRoot { .. }));
        prop_assert!(steps[..root].iter().all(|step| !mounts(&step.action)), "mounted before there is a root");

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
        prop_assert!(drop < restrict && restrict + 1 == prove, "Landlock is not last, the proof alone after it");
        let opens = |a: &Action| mounts(a) || matches!(a, Action::OpenTree { .. } | Action::ChangeDirectory { .. });
        prop_assert!(steps[restrict..].iter().all(|step| !opens(&step.action)), "opened behind Landlock");
        let verify = position(&steps, |a| *a == Action::Verify);
        prop_assert!(prove + 1 == verify, "something comes between the proof and the first look from outside");
        prop_assert!(steps[verify..].iter().all(|step| step.actor == Actor::Watch), "something comes after");

        let clone = position(&steps, |a| matches!(a, Action::Clone { .. }));
        let enter = position(&steps, |a| *a == Action::EnterOuter);
        prop_assert!(enter < clone, "the shim made the sandbox with rights on the host");
        prop_assert!(steps.iter().map(|step| step.actor).is_sorted(), "actors interleave");
        prop_assert!(steps.iter().all(|step| !step.reason.is_empty()), "a step without a reason");
    }

    #[test]
    fn needs_are_the_profiles_and_load_bearing_barriers_are_always_required(
        profile in profiles(), host in hosts(),
    ) {
        let own = plan(&Profile { barriers: Default::default(), ..profile.clone() }, &host);
        let steps = plan(&profile, &host);
        prop_assert_eq!(own.len(), steps.len(), "a need adds no step and takes none away");
        for (step, own) in steps.iter().zip(own) {
            prop_assert_eq!(step.need, profile.barriers.get(&step.barrier).copied().unwrap_or(own.need));
            prop_assert!(!step.barrier.is_load_bearing() || step.need == Need::Required, "{step}");
        }
    }

    #[test]
    fn what_is_required_is_planned_or_named(profile in profiles(), host in hosts()) {
        let steps = plan(&profile, &host);
        let unplanned = unplanned(&profile, &steps);
        for barrier in Barrier::ALL.into_iter().filter(|barrier| !barrier.is_load_bearing()) {
            let is_required = profile.barriers.get(&barrier) == Some(&Need::Required);
            let is_planned = steps.iter().any(|step| step.barrier == barrier);
            prop_assert_eq!(unplanned.contains(&barrier), is_required && !is_planned, "{:?}", barrier);
        }
        prop_assert!(unplanned.iter().all(|barrier| !barrier.is_load_bearing()));
    }

    #[test]
    fn loopback_comes_up_only_where_the_profile_says_so_and_takes_the_rule_on_tcp_away(
        profile in profiles(), host in hosts(),
    ) {
        let steps = plan(&profile, &host);
        let up: Vec<_> = steps.iter().filter(|step| step.action == Action::LoopbackUp).collect();
        let has_loopback = profile.network == Network::Loopback;
        prop_assert_eq!(up.len(), usize::from(has_loopback));
        prop_assert!(up.iter().all(|step| step.actor == Actor::Init && step.barrier == Barrier::Network));
        let is_rule = |a: &Action| matches!(a, Action::Restrict { tcp, .. } if *tcp == has_loopback);
        prop_assert!(steps.iter().any(|step| is_rule(&step.action)));
    }

    #[test]
    fn an_explanation_has_a_line_per_step(profile in profiles(), host in hosts()) {
        let steps = plan(&profile, &host);
        let text = crate::explain(&steps);
        prop_assert_eq!(text.lines().count(), steps.len());
        for (at, (line, step)) in text.lines().zip(&steps).enumerate() {
            let mark = if step.need == Need::BestEffort { '~' } else { ' ' };
            prop_assert!(line.trim_start().starts_with(&format!("{} ", at + 1)), "{}", line);
            prop_assert!(line.ends_with(&format!(" {mark}{step} — {}", step.reason)), "{}", line);
        }
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
            taken += usize::from(matches!(step.action, Action::MakeDevices { .. }));
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
    insta::assert_snapshot!(crate::explain(&steps));
}
