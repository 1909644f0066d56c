//! A plan for people: what `cellctl profile explain` and `docs/sandbox-plan.md` print.

use std::fmt::Write;

use crate::step::{Actor, Need, Step};

/// The plan as a numbered list, a line per step: number, who does it, the barrier it is part of, the
/// step and why. `~` stands before a step that is best effort.
pub fn explain(steps: &[Step]) -> String {
    let actor = |actor| match actor {
        Actor::Shim => "shim",
        Actor::Init => "init",
        Actor::Worker => "worker",
        Actor::Watch => "watch",
    };
    let digits = steps.len().to_string().len();
    let barriers = steps.iter().map(|step| step.barrier.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (at, step) in steps.iter().enumerate() {
        let mark = match step.need {
            Need::Required => ' ',
            Need::BestEffort => '~',
        };
        let (number, actor, barrier, reason) = (at + 1, actor(step.actor), step.barrier.name(), &step.reason);
        let _ = writeln!(text, "{number:>digits$}  {actor:<6}  {barrier:<barriers$} {mark}{step} — {reason}");
    }
    text
}
