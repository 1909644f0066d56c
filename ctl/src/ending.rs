//! The end of an Execution in words.

use cellblock_proto::execution::{Death, End, Limit, Outcome, Variables};

use crate::show::one_line;

/// A name in the manner of an exception's, and a sentence. `None` for `Ok`.
///
/// An exception is as the code raised it; all else is in our words, where names that the code chose
/// and reasons that come from the worker are cleaned of control characters.
pub(crate) fn describe(outcome: &Outcome) -> Option<(String, String)> {
    let (name, mut sentence) = match &outcome.end {
        End::Ok => return None,
        End::Error { name, value } => return Some((name.clone(), value.clone())),
        End::TimedOut { limit_ms } => ("TimedOut", format!("stopped after {} of wall time", time(*limit_ms))),
        End::Interrupted => ("Interrupted", "interrupted".to_owned()),
        End::LimitHit { limit, allowed, reached } => ("LimitHit", limit_words(*limit, *allowed, *reached)),
        End::WorkerDied(death) => ("WorkerDied", death_words(death)),
        End::Cancelled { reason } => ("Cancelled", format!("never began: {reason}")),
    };
    match &outcome.variables {
        Variables::Kept => {}
        Variables::RolledBack => {
            sentence.push_str("; ");
            sentence.push_str(ROLLED_BACK);
        }
        Variables::Lost { names } => {
            sentence.push_str("; its variables went with it, but for those that are saved");
            if !names.is_empty() {
                sentence.push_str(": ");
                sentence.push_str(&names.join(", "));
            }
        }
    }
    Some((name.to_owned(), one_line(&sentence)))
}

/// What became of the variables of code that was transactional and failed.
pub(crate) const ROLLED_BACK: &str = "rolled back: the variables are as they were before it";

fn limit_words(limit: Limit, allowed: u64, reached: u64) -> String {
    let (what, show): (&str, fn(u64) -> String) = match limit {
        Limit::Memory => ("memory", bytes),
        Limit::Cpu => ("processor time", time),
        Limit::Processes => ("processes", |count| count.to_string()),
        Limit::Disk => ("disk", bytes),
        Limit::Output => ("output", bytes),
    };
    format!("reached the limit of {what}: allowed {}, reached {}", show(allowed), show(reached))
}

fn death_words(death: &Death) -> String {
    match death {
        Death::Exited { code } => format!("the worker exited with code {code}"),
        Death::Signalled { signal } => format!("the worker was ended by {}", signal_name(*signal)),
        Death::Ended { reason } => format!("the worker was ended: {reason}"),
        Death::ShimLost => "the shim beside the worker is gone, and the worker with it".to_owned(),
        Death::Protocol { detail } => format!("the worker broke the protocol: {detail}"),
    }
}

/// The signals that end workers in practice, as signal(7) names them on every architecture.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("{name} (signal {signal})")
}

/// Bytes for people: powers of 1000, as disks and downloads are counted.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) if count < 10 * size => {
            format!("{}.{} {unit}", count / size, count % size * 10 / size)
        }
        Some((size, unit)) => format!("{} {unit}", count / size),
        None => format!("{count} B"),
    }
}

/// Milliseconds for people.
pub(crate) fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

#[cfg(test)]
pub(crate) fn outcome(end: End, variables: Variables) -> Outcome {
    Outcome {
        end,
        execution_count: 1,
        wall_us: 0,
        queued_us: 0,
        variables,
        names: Default::default(),
        expressions: Vec::new(),
        usage: Default::default(),
        checkpoint: None,
        worker_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_said_in_one_sentence() {
        let lost = Variables::Lost { names: vec!["df".into(), "x".into()] };
        let ends = [
            (End::Ok, Variables::Kept),
            (End::Error { name: "ValueError".into(), value: "no".into() }, Variables::Kept),
            (End::TimedOut { limit_ms: 61_500 }, Variables::Kept),
            (End::Interrupted, Variables::Kept),
            (End::Interrupted, Variables::RolledBack),
            (
                End::LimitHit { limit: Limit::Memory, allowed: 2_000_000_000, reached: 2_100_000_000 },
                lost.clone(),
            ),
            (End::LimitHit { limit: Limit::Cpu, allowed: 1_000, reached: 1_250 }, Variables::Kept),
            (End::WorkerDied(Death::Signalled { signal: 11 }), lost),
            (End::WorkerDied(Death::Exited { code: 3 }), Variables::Lost { names: vec![] }),
            (End::Cancelled { reason: "the one before it failed".into() }, Variables::Kept),
        ];
        let told: Vec<String> = ends
            .into_iter()
            .map(|(end, variables)| match describe(&outcome(end, variables)) {
                None => "-".to_owned(),
                Some((name, sentence)) => format!("{name}: {sentence}"),
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn names_chosen_by_the_code_cannot_write_to_the_terminal() {
        let lost = Variables::Lost { names: vec!["x\x1b]0;title\x07y\r\n[cellblock] ok".into()] };
        let reason = "out\x1b[2Jside".into();
        let (_, sentence) = describe(&outcome(End::Cancelled { reason }, lost)).unwrap();
        assert_eq!(
            sentence,
            "never began: outside; its variables went with it, but for those that are saved: xy  [cellblock] ok"
        );
    }
}
