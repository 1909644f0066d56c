//! How a lost worker is told: to the Execution that was in it, and to the next one.

use cellblock_proto::client::ErrorCode;
use cellblock_proto::execution::{Death, End, NameChanges, NoticeTopic, Outcome, Output, Variables};

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
