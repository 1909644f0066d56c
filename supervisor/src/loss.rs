//! How a lost worker is told: to the Execution that was in it, and to the next one.

use cellblock_proto::client::ErrorCode;
use cellblock_proto::execution::{
    Death, End, NameChanges, NameInfo, NotRestored, NoticeTopic, Outcome, Output, Variables,
};
use cellblock_proto::id::ExecutionId;

use crate::unsaved::Unsaved;

/// What the next Execution is told, with the losses in `untold`, which nobody was told of yet.
pub(crate) fn notice(death: &Death, mut lost: Vec<String>, untold: Option<Output>) -> Output {
    if let Some(Output::Notice { names, .. }) = untold {
        lost.extend(names);
        lost.sort();
        lost.dedup();
    }
    let cause = cause(death);
    let text = if lost.is_empty() {
        format!("the worker was replaced (the old one {cause}); it had no variables")
    } else {
        format!("the worker was replaced (the old one {cause}): these variables are lost: {}", list(&lost))
    };
    Output::Notice { topic: NoticeTopic::VariablesLost, text, names: lost }
}

/// How the loading of a checkpoint has gone.
#[derive(Debug, Default)]
pub(crate) struct Restoration {
    /// Which; 0 for none.
    pub(crate) checkpoint: u64,
    /// What is not there.
    pub(crate) losses: Vec<NotRestored>,
    /// Why nothing is.
    pub(crate) failed: Option<String>,
    /// Versions that are others now.
    pub(crate) differences: Vec<String>,
    /// Why it is not the newest.
    pub(crate) passed_over: Vec<String>,
    /// Executions that have ended since it was taken, in order.
    pub(crate) since: Unsaved,
}

/// What the next Execution is told when a new worker has loaded what was saved of the one before; `untold` is what
/// went with that.
pub(crate) fn restored(untold: Option<Output>, back: &[NameInfo], told: Restoration) -> Option<Output> {
    let Restoration { checkpoint, losses, failed, differences, passed_over, since } = told;
    let (cause, mut gone) = match untold {
        Some(Output::Notice { text, names, .. }) => (text, names),
        _ => (String::new(), Vec::new()),
    };
    if let Some(why) = failed {
        let joined = if cause.is_empty() { cause } else { cause + "; " };
        let text = format!("{joined}what had been saved could not be loaded: {why}");
        return Some(Output::Notice { topic: NoticeTopic::VariablesLost, text, names: gone });
    }
    gone.retain(|name| !back.iter().any(|info| info.name == *name));
    let missing: Vec<String> = losses.iter().map(|loss| format!("{} ({})", loss.path, loss.reason)).collect();
    let own = format!("`manifests/{checkpoint}`");
    let passed_over: Vec<String> =
        passed_over.into_iter().filter(|damage| !damage.starts_with(&own)).collect();
    let is_all_there = gone.is_empty() && missing.is_empty() && since.is_empty() && passed_over.is_empty();
    if is_all_there && differences.is_empty() {
        return None;
    }
    // The cause may have any words.
    let mut text = match cause.rsplit_once("): ").filter(|_| !gone.is_empty()) {
        Some((head, _)) => format!("{head}): its variables are back"),
        None => "variables are back".to_owned(),
    };
    match since.is_empty() && passed_over.is_empty() {
        true => text.push_str(" from the last checkpoint"),
        false => text.push_str(&format!(" from checkpoint {checkpoint}")),
    }
    // A name that is gone is enough; what is gone inside of others has its reason with it.
    let is_within = |missing: &&String| !gone.iter().any(|name| missing.starts_with(&format!("{name} (")));
    let but: Vec<String> = gone.iter().chain(missing.iter().filter(is_within)).cloned().collect();
    if !but.is_empty() {
        text.push_str(&format!(", but for {}", list(&but)));
    }
    if let Some(damage) = passed_over.first() {
        text.push_str(&format!("; newer ones are damaged ({damage}), and what had changed since is lost"));
    } else if !since.is_empty() {
        text.push_str(&format!("; what changed since then is lost, by {}", whose(&since)));
    }
    if !differences.is_empty() {
        text.push_str(&format!("; versions are others than when they were saved: {}", list(&differences)));
    }
    let topic = if is_all_there { NoticeTopic::Degraded } else { NoticeTopic::VariablesLost };
    Some(Output::Notice { topic, text, names: gone })
}

/// What the next Execution is told when the worker before it went together with all who knew of it.
pub(crate) fn unsaved(lost: &Unsaved) -> Output {
    let text = format!(
        "the worker was lost before its variables were saved: what was changed is lost, by {}",
        whose(lost)
    );
    Output::Notice { topic: NoticeTopic::VariablesLost, text, names: Vec::new() }
}

/// Why nothing is saved for who asks for a checkpoint now: of these nothing is left, and nobody was told.
pub(crate) fn before_it_was_saved(untold: &Unsaved) -> Option<String> {
    let newest = untold.lost().next_back()?;
    let more = match untold.lost().count() {
        1 => String::new(),
        count => format!(" and {} before it", count - 1),
    };
    Some(format!(
        "the worker has ended, and the variables since the newest checkpoint with it: those of {newest}{more}; \
         the next cell begins with that checkpoint and is told so, then there is something to save"
    ))
}

fn whose(lost: &Unsaved) -> String {
    let last = lost.lost().next_back().map_or("none", ExecutionId::as_str);
    match lost.lost().count() {
        1 => format!("execution {last}"),
        count => format!("{count} executions, {last} the last of them"),
    }
}

/// Why there is no worker, when it ended before it could say anything.
pub(crate) fn before_ready(death: &Death) -> (ErrorCode, String) {
    let cause = cause(death);
    match death {
        Death::ShimLost => (ErrorCode::Sandbox, format!("the worker ended before it was ready: it {cause}")),
        _ => {
            let message =
                format!("Python ended before it was ready (it {cause}): is it a Python 3.11 or newer?");
            (ErrorCode::Interpreter, message)
        }
    }
}

/// An Outcome that nobody measured, because it never began or its end was not seen.
pub(crate) fn unmeasured(end: End, variables: Variables) -> Outcome {
    Outcome {
        end,
        execution_count: 0,
        wall_us: 0,
        queued_us: 0,
        variables,
        names: NameChanges::default(),
        expressions: Vec::new(),
        usage: Default::default(),
        checkpoint: None,
        worker_ms: None,
    }
}

/// What happened to a worker, as the end of a sentence that begins with it.
pub(crate) fn cause(death: &Death) -> String {
    match death {
        Death::Exited { code } => format!("exited with code {code}"),
        Death::Signalled { signal } => match signal_name(*signal) {
            Some(name) => format!("was killed by {name}"),
            None => format!("was killed by signal {signal}"),
        },
        Death::Ended { reason } => format!("was ended: {reason}"),
        Death::ShimLost => "was lost together with its shim".to_owned(),
        Death::Protocol { detail } => format!("was ended, because it broke the protocol: {detail}"),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// Names for a sentence; the full list goes along as data.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        untold: Option<Output>,
        back: &[&str],
        losses: &[(&str, &str)],
        failed: Option<&str>,
    ) -> Option<String> {
        let info = |name: &&str| NameInfo { name: (*name).to_owned(), kind: "int".into(), bytes: None };
        let loss = |(path, reason): &(&str, &str)| NotRestored {
            path: (*path).to_owned(),
            kind: "object".into(),
            reason: (*reason).to_owned(),
        };
        let back: Vec<_> = back.iter().map(info).collect();
        let losses: Vec<_> = losses.iter().map(loss).collect();
        let told = Restoration { losses, failed: failed.map(str::to_owned), ..Restoration::default() };
        restored(untold, &back, told).map(|output| match output {
            Output::Notice { text, names, .. } => format!("{text} {names:?}"),
            other => panic!("{other:?}"),
        })
    }

    fn lost(names: &[&str]) -> Option<Output> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(notice(&Death::Exited { code: 7 }, names, None))
    }

    #[test]
    fn what_came_back_is_not_told_as_lost() {
        assert_eq!(told(None, &["x"], &[], None), None);
        assert_eq!(told(lost(&["x"]), &["x"], &[], None), None);
        assert_eq!(
            told(lost(&["lock", "x"]), &["x"], &[("lock", "a lock")], None).unwrap(),
            "the worker was replaced (the old one exited with code 7): its variables are back from the last \
             checkpoint, but for lock [\"lock\"]"
        );
        assert_eq!(
            told(None, &["d"], &[("d['lock']", "a lock")], None).unwrap(),
            "variables are back from the last checkpoint, but for d['lock'] (a lock) []"
        );
        assert_eq!(
            told(lost(&["x"]), &[], &[], Some("no space")).unwrap(),
            "the worker was replaced (the old one exited with code 7): these variables are lost: x; what had \
             been saved could not be loaded: no space [\"x\"]"
        );
        assert_eq!(
            told(None, &[], &[], Some("no space")).unwrap(),
            "what had been saved could not be loaded: no space []"
        );
    }
}
