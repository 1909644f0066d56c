//! What becomes of a plan when a worker is not made in one go: the plan of a zygote, and the two halves of
//! a spare's. All of it is derived from [`crate::plan`]'s, so that there is one description of a sandbox.

use std::path::PathBuf;

use crate::step::{Action, Actor, Barrier, Namespace, Need, Step};

/// The plan of a zygote: a root like its workers', without workspace, `/proc` and ids of its own. It stays
/// in the outer user namespace and in the host's pid namespace, or it could join no sandbox.
pub fn zygote_plan(steps: &[Step]) -> Vec<Step> {
    let mut plan: Vec<Step> = steps.iter().filter(|step| is_zygotes(step)).cloned().collect();
    for step in &mut plan {
        if let Action::Clone { namespaces } = &mut step.action {
            *namespaces = vec![Namespace::Mount, Namespace::Network, Namespace::Ipc, Namespace::Uts];
        }
    }
    let own = |barrier, action, reason: &str| Step {
        actor: Actor::Worker,
        barrier,
        need: Need::Required,
        action,
        reason: reason.to_owned(),
    };
    plan.extend([
        own(
            Barrier::Namespaces,
            Action::EndWithParent,
            "a zygote ends with its shim, and that with the daemon",
        ),
        own(Barrier::Capabilities, Action::KeepAdmin, "what it takes to join a sandbox, and no more"),
        own(Barrier::NoNewPrivileges, Action::NoNewPrivileges, "set-uid programs give nothing"),
        own(Barrier::PrivateRoot, Action::ChangeDirectory { path: "/".into() }, "where there is nothing"),
    ]);
    plan
}

fn is_zygotes(step: &Step) -> bool {
    let left_out = matches!(
        step.action,
        Action::MapIds { .. }
            | Action::Cgroup { .. }
            | Action::JoinCgroup
            | Action::NewCgroupNamespace
            | Action::Sysctl { .. }
            | Action::MountProc
            | Action::Freeze { .. }
            | Action::Mask { .. }
            | Action::LoopbackUp
    );
    matches!(step.actor, Actor::Shim | Actor::Init) && !left_out && !is_workspace(step)
}

/// The steps of one plan, for a sandbox that is made before anybody knows for which notebook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparePlan {
    /// What is done at once.
    pub before: Vec<Step>,
    /// What the claim adds: the workspace, by the shim's hand and by init.
    pub claim: Vec<Step>,
}

/// Splits a plan for a spare. Both halves keep their order; where the workspace would be attached, the
/// first makes a folder to attach it to, because the root cannot be changed later.
pub fn spare_plan(steps: &[Step]) -> SparePlan {
    let mut spare = SparePlan { before: Vec::new(), claim: Vec::new() };
    for step in steps {
        if is_workspace(step) && matches!(step.actor, Actor::Shim | Actor::Init) {
            spare.claim.push(step.clone());
            if let Action::Attach { target } = &step.action {
                let action = Action::MountPoint { path: PathBuf::from(target) };
                spare.before.push(Step { action, ..step.clone() });
            }
        } else {
            spare.before.push(step.clone());
        }
    }
    spare
}

/// Of a worker's steps, how many come before Python prepares itself when it is forked: those that say whose
/// the files are that it makes.
pub fn early(worker: &[Step]) -> usize {
    worker.iter().take_while(|step| matches!(step.action, Action::BecomeWorker { .. })).count()
}

fn is_workspace(step: &Step) -> bool {
    matches!(step.barrier, Barrier::Workspace | Barrier::WorkspaceQuota)
}

#[cfg(test)]
#[path = "warm_tests.rs"]
mod tests;
