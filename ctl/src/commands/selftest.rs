//! `cellctl selftest`

use std::collections::BTreeSet;
use std::fmt::Write;

use cellblock_attacks::{ATTACKS, Attack};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{print, print_json};
use crate::daemon::PrivateDaemon;
use crate::exit::{EXIT_HELP, Exit};
use crate::fault::Fault;
use crate::selftest::{self, Against, Outcome, Range, Shown, Verdict};
use crate::session::{absolute, start_private};
use crate::show::one_line;
use crate::signals::Signals;

/// Attack this host's sandboxes, and show what holds
///
/// Starts a private cellblockd as whoever you are and runs the attacks that cellblock ships with
/// against it, most as a cell, with a control that must show the opposite wherever the host can show it.
/// One line per attack: ✓ contained, ~ contained but for what is said, ✗ not contained.
///
/// Safe on a host in use: no attack is unbounded, inside or outside (the most any takes is 400 MiB of
/// memory, 96 MiB below /var/tmp, and 300 processes, for a second). Controls run the interpreter
/// outside of the sandbox, in a folder of their own in /var/tmp, and speak to nothing but 127.0.0.1.
/// Attacks on the network begin only after the sandbox's own has been seen to be empty.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_HELP)]
pub(crate) struct Selftest {
    /// Run these attacks alone, by number
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=ATTACKS.len() as i64))]
    only: Vec<u8>,

    /// Print one JSON list
    #[arg(long)]
    json: bool,

    /// Attack with this Python, e.g. an environment's bin/python
    ///
    /// It needs IPython.
    #[arg(long, value_name = "PATH")]
    python: Option<std::path::PathBuf>,
}

/// An attack and what became of it; nothing when only the test suite can carry it out.
struct Line {
    attack: &'static Attack,
    ran: Option<(Outcome, Shown)>,
}

impl Selftest {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
        let profiles =
            tempfile::tempdir().map_err(Fault::file("prepare", "a folder of profiles".as_ref()))?;
        selftest::write_profile(profiles.path()).map_err(Fault::file("write", profiles.path()))?;
        let python = self.python.as_deref().map(absolute).transpose()?;
        let daemon = start_private(python, Some(profiles.path().to_owned()), &signals)?;
        let lines = self.attack(&daemon, &signals)?;
        if self.json {
            print_json(&lines.iter().map(as_json).collect::<Vec<_>>())?;
        } else {
            print(&(lines.iter().map(as_text).collect::<String>() + &summary(&lines)))?;
        }
        let open = |line: &Line| verdict(line) == Some(Verdict::NotContained);
        Ok(if lines.iter().any(open) { Exit::NotContained } else { Exit::Ok })
    }

    fn attack(&self, daemon: &PrivateDaemon, signals: &Signals) -> Result<Vec<Line>, Fault> {
        let only: BTreeSet<u8> = self.only.iter().copied().collect();
        let chosen: Vec<&'static Attack> = ATTACKS
            .iter()
            .copied()
            .filter(|attack| only.is_empty() || only.contains(&attack.number))
            .collect();
        let mut range = Range::open(Against {
            socket: daemon.socket().to_owned(),
            notebooks: daemon.notebooks_dir(),
            rootful: rustix::process::geteuid().is_root(),
        })?;
        // To standard error, and to nobody when that is no terminal.
        let bar = ProgressBar::new(chosen.len() as u64);
        bar.set_style(ProgressStyle::with_template("{pos}/{len} {wide_msg}").expect("a constant template"));
        let mut lines = Vec::new();
        for attack in chosen {
            if signals.stopping() {
                return Err(Fault::Interrupted);
            }
            bar.set_message(attack.title);
            let ran = if selftest::needs_no_more_than_a_client(attack) {
                Some((range.attack(attack)?, range.control(attack)?))
            } else {
                None
            };
            lines.push(Line { attack, ran });
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(lines)
    }
}

fn verdict(line: &Line) -> Option<Verdict> {
    line.ran.as_ref().map(|(outcome, _)| outcome.verdict)
}

fn mark(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Contained) => "✓",
        Some(Verdict::Residual) => "~",
        Some(Verdict::NotContained) => "✗",
        None => "-",
    }
}

fn as_text(line: &Line) -> String {
    let attack = line.attack;
    let mut text = format!("{} {:>2} {}", mark(verdict(line)), attack.number, attack.title);
    match &line.ran {
        None => text += " | carried out by the test suite: a private daemon takes its workers along",
        Some((outcome, control)) => {
            let _ = write!(text, " | saw {} | stopped by {}", outcome.seen, attack.stopped_by);
            match control {
                Shown::Opposite(seen) => {
                    let _ = write!(text, " | outside {seen}");
                }
                Shown::Nothing(why) => {
                    let _ = write!(text, " | without control: {why}");
                }
            }
            if let (Verdict::Residual, Some(residual)) = (outcome.verdict, attack.residual) {
                let _ = write!(text, " | stays open: {}", residual.why);
            }
            if !outcome.wrong.is_empty() {
                let _ = write!(text, " | wrong: {}", outcome.wrong.join(", "));
            }
        }
    }
    // What was seen comes from code that attacks: nothing of it may move the cursor.
    one_line(&text) + "\n"
}

fn as_json(line: &Line) -> Value {
    let attack = line.attack;
    let verdict = match verdict(line) {
        Some(Verdict::Contained) => "contained",
        Some(Verdict::Residual) => "residual",
        Some(Verdict::NotContained) => "not_contained",
        None => "not_run",
    };
    let ran = line.ran.as_ref();
    let (control, why) = match ran.map(|(_, control)| control) {
        Some(Shown::Opposite(seen)) => (Some(seen.to_string()), None),
        Some(Shown::Nothing(why)) => (None, Some(why.clone())),
        None => (None, None),
    };
    let rootful = rustix::process::geteuid().is_root();
    let sets = attack.let_through(rootful).iter();
    let let_through: Vec<Vec<String>> =
        sets.map(|set| set.iter().map(|omit| omit.to_string()).collect()).collect();
    json!({
        "number": attack.number,
        "title": attack.title,
        "how": attack.how(),
        "verdict": verdict,
        "saw": ran.map(|(outcome, _)| outcome.seen.to_string()),
        "wrong": ran.map(|(outcome, _)| outcome.wrong.clone()).unwrap_or_default(),
        "stopped_by": attack.stopped_by,
        // The least sets of barriers without which it would succeed, as the tests hold them.
        "let_through_without": let_through,
        "stays_open": attack.residual.filter(|_| verdict == "residual").map(|residual| residual.why),
        "control": control,
        "without_control": why,
    })
}

fn summary(lines: &[Line]) -> String {
    let count = |wanted| lines.iter().filter(|line| verdict(line) == wanted).count();
    let control = |line: &&Line| matches!(&line.ran, Some((_, Shown::Nothing(_))));
    let mut text = format!(
        "{} attacks: {} contained, {} residual (reported), {} not contained, {} without control",
        lines.len(),
        count(Some(Verdict::Contained)),
        count(Some(Verdict::Residual)),
        count(Some(Verdict::NotContained)),
        lines.iter().filter(control).count(),
    );
    let elsewhere = count(None);
    if elsewhere > 0 {
        let _ = write!(text, ", {elsewhere} by the test suite alone");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use cellblock_attacks::{Seen, find};

    use super::*;

    #[test]
    fn each_attack_is_a_line_and_the_last_one_counts() {
        let line = |number, printed: &str, wrong: &[&str], verdict, control| Line {
            attack: find(number).unwrap(),
            ran: Some((
                Outcome {
                    seen: Seen::parse(printed),
                    wrong: wrong.iter().map(|text| (*text).to_owned()).collect(),
                    verdict,
                },
                control,
            )),
        };
        let opposite = |printed| Shown::Opposite(Seen::parse(printed));
        let lines = [
            line(1, "saw: fork=EAGAIN", &[], Verdict::Contained, opposite("saw: fork=done")),
            line(48, "saw: vsock=done", &[], Verdict::Residual, opposite("saw: vsock=done")),
            line(
                9,
                "saw: files=\u{1b}[2Jdone",
                &["files=EMFILE"],
                Verdict::NotContained,
                Shown::Nothing("only root can show it".to_owned()),
            ),
            Line { attack: find(72).unwrap(), ran: None },
        ];
        insta::assert_snapshot!(lines.iter().map(as_text).collect::<String>() + &summary(&lines));
    }
}
