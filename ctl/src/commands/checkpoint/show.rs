//! Checkpoints as text. Names, types and reasons come from code that is not trusted: each is cleaned.

use std::fmt::Write;

use cellblock_proto::checkpoint::{
    Checkpoint, CheckpointContent, CheckpointInfo, Collected, NotRestored, Verified,
};

use super::super::table;
use crate::checkpoints::{Kept, Restored};
use crate::ending::{bytes, time};
use crate::show::one_line;

/// One line per checkpoint.
pub(super) fn list(checkpoints: &[CheckpointInfo]) -> String {
    let heads = ["ID", "TAKEN", "AFTER", "NAMES", "LEFT OUT", "STATE", "OWN", "PYTHON", "REMARKS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(checkpoints.iter().map(|info| {
        vec![
            info.id.to_string(),
            when(info.created_ms),
            after(info),
            info.names.to_string(),
            info.left_out.to_string(),
            bytes(info.state_bytes),
            bytes(info.own_bytes),
            info.python.clone(),
            remarks(info),
        ]
    }));
    table(&rows)
}

/// What is said below the list.
pub(super) fn after_list(kept: &Kept) -> String {
    let mut text = match kept.checkpoints.len() {
        0 => "there are no checkpoints\n".to_owned(),
        1 => format!("1 checkpoint takes {}\n", bytes(kept.used_bytes)),
        count => format!("{count} checkpoints take {}\n", bytes(kept.used_bytes)),
    };
    warnings(&mut text, &kept.damage);
    text
}

/// All of one.
pub(super) fn content(content: &CheckpointContent) -> String {
    let info = &content.info;
    let line = |name: &str, value: String| vec![name.to_owned(), value];
    let packages: Vec<_> =
        content.packages.iter().map(|(package, version)| format!("{package} {version}")).collect();
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let mut text = table(&[
        line("checkpoint", info.id.to_string()),
        line("parent", info.parent.map_or("-".to_owned(), |parent| parent.to_string())),
        line("taken", when(info.created_ms)),
        line("after", after(info)),
        line("state", bytes(info.state_bytes)),
        line("own", bytes(info.own_bytes)),
        line("python", info.python.clone()),
        line("packages", or_none(packages.join(", "))),
        line("remarks", or_none(remarks(info))),
    ]);
    if !content.names.is_empty() {
        let mut rows = vec![["VARIABLE", "TYPE", "SIZE"].map(str::to_owned).to_vec()];
        rows.extend(content.names.iter().map(|name| {
            vec![name.name.clone(), name.kind.clone(), name.bytes.map(bytes).unwrap_or_default()]
        }));
        let _ = write!(text, "\n{}", table(&rows));
    }
    if !content.left_out.is_empty() {
        let mut rows = vec![["LEFT OUT", "TYPE", "REASON"].map(str::to_owned).to_vec()];
        rows.extend(
            content
                .left_out
                .iter()
                .map(|left_out| vec![left_out.path.clone(), left_out.kind.clone(), left_out.reason.clone()]),
        );
        let _ = write!(text, "\n{}", table(&rows));
    }
    text
}

/// What became of one.
pub(crate) fn saved(checkpoint: &Checkpoint) -> String {
    let cost = |written: u64, pause_us: u64| {
        format!("{} written, the worker stood still for {}", bytes(written), time(pause_us.div_ceil(1_000)))
    };
    match checkpoint {
        Checkpoint::Pending => "a checkpoint is being written\n".to_owned(),
        Checkpoint::Saved { id, written_bytes, pause_us } => {
            format!("checkpoint {id} is saved: {}\n", cost(*written_bytes, *pause_us))
        }
        Checkpoint::Partial { id, written_bytes, pause_us, left_out, left_out_count } => {
            let (but, cost) = (values(*left_out_count), cost(*written_bytes, *pause_us));
            let mut text = format!("checkpoint {id} is saved, but for {but}: {cost}\n");
            missing(&mut text, left_out, *left_out_count);
            text
        }
        Checkpoint::Failed { reason } => format!("error: no checkpoint was taken: {}\n", one_line(reason)),
    }
}

/// What came back.
pub(super) fn restored(restored: &Restored) -> String {
    let names = match restored.names.len() {
        0 => "no variables".to_owned(),
        1 => "1 variable".to_owned(),
        count => format!("{count} variables"),
    };
    let mut text = format!("restored checkpoint {}: {names}\n", restored.checkpoint);
    if !restored.losses.is_empty() {
        let count = restored.losses.len() as u64;
        let _ = writeln!(text, "{} could not be had back:", values(count));
        missing(&mut text, &restored.losses, count);
    }
    text
}

/// What a check has found.
pub(super) fn verified(checkpoints: &[Verified]) -> String {
    let mut text = String::new();
    for checkpoint in checkpoints {
        let found = match checkpoint.losses.len() {
            0 => "whole".to_owned(),
            1 => "1 loss".to_owned(),
            count => format!("{count} losses"),
        };
        let _ = writeln!(text, "{}  {found}", checkpoint.id);
        for loss in &checkpoint.losses {
            let _ = writeln!(text, "  {}", one_line(loss));
        }
    }
    text
}

/// What a collection has done.
pub(super) fn collected(collected: &Collected) -> String {
    let removed = match collected.removed.len() {
        0 => "no checkpoint".to_owned(),
        1 => "1 checkpoint".to_owned(),
        count => format!("{count} checkpoints"),
    };
    let (freed, used) = (bytes(collected.freed_bytes), bytes(collected.used_bytes));
    let mut text = format!("removed {removed}, freed {freed}; the others take {used}\n");
    warnings(&mut text, &collected.damage);
    text
}

fn missing(text: &mut String, values: &[NotRestored], count: u64) {
    for value in values {
        let line = format!("{} ({}): {}", value.path, value.kind, value.reason);
        let _ = writeln!(text, "  {}", one_line(&line));
    }
    let more = count.saturating_sub(values.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
}

fn values(count: u64) -> String {
    if count == 1 { "1 value".to_owned() } else { format!("{count} values") }
}

fn warnings(text: &mut String, sentences: &[String]) {
    for sentence in sentences {
        let _ = writeln!(text, "warning: {}", one_line(sentence));
    }
}

fn after(info: &CheckpointInfo) -> String {
    if info.execution.is_empty() { "-".to_owned() } else { info.execution.clone() }
}

fn remarks(info: &CheckpointInfo) -> String {
    let current = info.current.then(|| "current".to_owned());
    let origin = info.origin.as_ref().map(|(notebook, id)| format!("imported: {id} of {notebook}"));
    let damage = info.damage.as_ref().map(|damage| format!("damaged: {damage}"));
    [current, origin, damage].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The first moment of the year 10000, in milliseconds since 1970: from here on nobody has taken anything.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// A moment in UTC, to the second.
fn when(ms: u64) -> String {
    if ms >= YEAR_10000_MS {
        return "-".to_owned();
    }
    let (days, seconds) = (ms / 86_400_000, ms / 1_000 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day since 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> CheckpointInfo {
        CheckpointInfo {
            id: 41,
            parent: None,
            created_ms: 1_790_000_000_000,
            execution: "exec-1".into(),
            current: false,
            names: 2,
            left_out: 1,
            state_bytes: 80_000_500,
            own_bytes: 4_096,
            python: "3.11.7".into(),
            origin: Some(("elsewhere".into(), 7)),
            damage: Some("packs/3: it is \x1b[2Jmissing".into()),
        }
    }

    fn lock() -> NotRestored {
        NotRestored { path: "d['\x1b[31mlock']".into(), kind: "_thread.lock".into(), reason: "a lock".into() }
    }

    #[test]
    fn a_list_tells_which_is_current_and_what_is_wrong() {
        let current =
            CheckpointInfo { id: 42, parent: Some(41), current: true, origin: None, damage: None, ..info() };
        let checkpoints = vec![info(), CheckpointInfo { execution: String::new(), ..current }];
        let kept =
            Kept { checkpoints, used_bytes: 8_500_000_000, damage: vec!["HEAD: it is missing".into()] };
        insta::assert_snapshot!(list(&kept.checkpoints) + &after_list(&kept));
        let none = Kept { checkpoints: vec![], used_bytes: 0, damage: vec![] };
        assert_eq!(after_list(&none), "there are no checkpoints\n");
    }

    #[test]
    fn a_checkpoint_is_shown_with_what_it_lacks() {
        let name = |name: &str, bytes| cellblock_proto::execution::NameInfo {
            name: name.into(),
            kind: "pandas.DataFrame".into(),
            bytes,
        };
        insta::assert_snapshot!(content(&CheckpointContent {
            info: info(),
            names: vec![name("df", Some(80_000_000)), name("x", None)],
            left_out: vec![lock()],
            packages: vec![("numpy".into(), "2.4.0".into()), ("pandas".into(), "3.0.0".into())],
        }));
    }

    #[test]
    fn what_has_happened_is_said_with_what_is_missing() {
        let partial = Checkpoint::Partial {
            id: 43,
            written_bytes: 262_144,
            pause_us: 2_700,
            left_out: vec![lock()],
            left_out_count: 3,
        };
        let said = [
            saved(&Checkpoint::Saved { id: 7, written_bytes: 5, pause_us: 900 }),
            saved(&partial),
            saved(&Checkpoint::Failed { reason: "the disk is full".into() }),
            restored(&Restored { checkpoint: 41, names: vec![], losses: vec![lock()] }),
            verified(&[
                Verified { id: 41, losses: vec!["buffer 2: chunk 00ff is damaged".into()] },
                Verified { id: 42, losses: vec![] },
            ]),
            collected(&Collected {
                removed: vec![1, 2, 3],
                freed_bytes: 1_048_576,
                used_bytes: 1 << 30,
                damage: vec!["packs/9: a chunk is damaged".into()],
            }),
        ];
        insta::assert_snapshot!(said.concat());
    }

    #[test]
    fn days_become_dates() {
        let table = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_717, (2026, 9, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, expected) in table {
            assert_eq!(date(days), expected, "{days}");
        }
        assert_eq!(when(1_790_000_000_000), "2026-09-21 14:13:20");
        assert_eq!((when(YEAR_10000_MS - 1), when(u64::MAX)), ("9999-12-31 23:59:59".into(), "-".into()));
    }
}
