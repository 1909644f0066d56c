use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use cellblock_proto::execution::{NameChanges, Usage, Variables};

use super::*;

fn outcome(end: End) -> Outcome {
    Outcome {
        end,
        execution_count: 1,
        wall_us: 1_500,
        queued_us: 20,
        variables: Variables::Kept,
        names: NameChanges::default(),
        expressions: Vec::new(),
        usage: Usage { cpu_us: 2_000, ..Usage::default() },
        checkpoint: None,
        worker_ms: None,
    }
}

/// Every metric has been counted once.
fn all() -> Metrics {
    let metrics = Metrics::new();
    let (tenant, profile) = ("web\"\n".into(), "default".into());
    metrics.request(&Request::Notebooks);
    metrics.refused(ErrorCode::Busy);
    metrics.turned_away();
    metrics.opened(Duration::from_millis(3));
    metrics.execution(&tenant, &profile, &outcome(End::Ok));
    metrics.execution(&tenant, &profile, &outcome(End::Interrupted));
    metrics.started(StartKind::Spare, Duration::from_millis(4));
    metrics.started(StartKind::Exec, Duration::from_secs(90));
    metrics.start_failed(ErrorCode::Sandbox);
    metrics.worker_ended(&Death::ShimLost);
    metrics.end_took(Duration::from_millis(2));
    metrics.checkpoint(&Checkpoint::Saved { id: 1, written_bytes: 100, pause_us: 700 });
    metrics.restored("whole", Duration::from_millis(8));
    metrics.evicted();
    metrics.store_failed();
    metrics.adopted();
    metrics.reconciled("socket");
    metrics.audit_lost().inc();
    metrics
}

/// A family as promtool reads it.
#[derive(Debug, Default)]
struct Read {
    kind: String,
    help: String,
    samples: BTreeMap<String, f64>,
}

/// Strict: what is said of a family comes before its samples and once, no sample twice, names and labels are legal,
/// the buckets of a histogram grow and end in +Inf, which is its count.
fn read(text: &str) -> BTreeMap<String, Read> {
    let mut families = BTreeMap::<String, Read>::new();
    let mut current = String::new();
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    for line in body.lines() {
        if let Some(told) = line.strip_prefix("# ") {
            let mut words = told.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if current != name {
                assert!(!families.contains_key(name), "{name} comes twice");
                current = name.to_owned();
            }
            let family = families.entry(name.to_owned()).or_default();
            assert!(family.samples.is_empty(), "{line} after its samples");
            match what {
                "HELP" => family.help = rest.to_owned(),
                "TYPE" => family.kind = rest.to_owned(),
                "UNIT" => assert!(name.ends_with(rest), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample and a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels end")),
            None => (series, ""),
        };
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{name}");
        check_labels(labels);
        let family = families.get_mut(&current).unwrap_or_else(|| panic!("{line} has no family"));
        let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} within {current}"));
        match family.kind.as_str() {
            "counter" => assert_eq!(suffix, "_total", "{line}"),
            "gauge" => assert_eq!(suffix, "", "{line}"),
            "info" => assert_eq!(suffix, "_info", "{line}"),
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            other => panic!("{line}: type {other:?}"),
        }
        let value: f64 = value.parse().unwrap();
        assert!(family.samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }
    for (name, family) in &families {
        assert!(!family.help.is_empty() && !family.kind.is_empty(), "{name}");
        if family.kind == "histogram" {
            check_histogram(name, body);
        }
    }
    families
}

fn check_labels(labels: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").expect("a label has a value");
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{labels}");
        let mut is_escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        rest = &value[end.expect("a value ends") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn check_histogram(name: &str, body: &str) {
    let mut last = BTreeMap::<String, (f64, f64)>::new();
    let mut counts = BTreeMap::<String, f64>::new();
    for line in body.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let (series, value) = rest.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        if series.starts_with("_bucket{") {
            let (bound, others): (Vec<_>, Vec<_>) =
                labels.split(',').partition(|label| label.starts_with("le="));
            let bound = bound[0].trim_start_matches("le=\"").trim_end_matches('"').replace("+Inf", "inf");
            let bound: f64 = bound.parse().unwrap();
            let before = last.insert(others.join(","), (bound, value));
            assert!(before.is_none_or(|(le, count)| le < bound && count <= value), "{line}");
        } else if series.starts_with("_count") {
            counts.insert(labels.to_owned(), value);
        }
    }
    assert!(!last.is_empty(), "{name} has no buckets");
    for (labels, (bound, count)) in last {
        assert!(bound.is_infinite(), "{name}{{{labels}}} ends at {bound}");
        assert_eq!(counts.get(&labels), Some(&count), "{name}{{{labels}}}");
    }
}

#[test]
fn text_is_what_prometheus_reads() {
    let metrics = all();
    let (_here, mut notebook) = (metrics.connected(), metrics.notebook());
    notebook.set(WorkerState::Busy);
    let now = Moment { running: 2, waiting: 1, asleep: 3 };
    let families = read(&metrics.text(now));
    let value = |family: &str, series: &str| families[family].samples[series];
    assert_eq!(value("cellblock_requests", "cellblock_requests_total{kind=\"notebooks\"}"), 1.0);
    assert_eq!(value("cellblock_notebooks", "cellblock_notebooks{state=\"busy\"}"), 1.0);
    assert_eq!(value("cellblock_notebooks", "cellblock_notebooks{state=\"none\"}"), 0.0);
    assert_eq!(value("cellblock_connections", "cellblock_connections"), 1.0);
    assert_eq!(value("cellblock_cells_waiting", "cellblock_cells_waiting"), 1.0);
    assert_eq!(value("cellblock_workers", "cellblock_workers"), 1.0);
    let ok = "cellblock_executions_total{profile=\"default\",end=\"ok\"}";
    assert_eq!(value("cellblock_executions", ok), 1.0);
    let cpu = "cellblock_execution_cpu_seconds_total{tenant=\"web\\\"\\n\"}";
    assert_eq!(value("cellblock_execution_cpu_seconds", cpu), 0.004);
    let start = "cellblock_worker_start_seconds_bucket{le=\"0.005\",kind=\"spare\"}";
    assert_eq!(value("cellblock_worker_start_seconds", start), 1.0);
    assert!(value("process_resident_memory_bytes", "process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds", "process_open_fds") >= 3.0);
    assert!(value("process_start_time_seconds", "process_start_time_seconds") > 1.6e9);
    drop(notebook);
    let families = read(&metrics.text(now));
    assert_eq!(families["cellblock_notebooks"].samples["cellblock_notebooks{state=\"busy\"}"], 0.0);
}

#[test]
fn no_label_is_a_notebook_and_every_metric_stands_in_the_document_with_its_labels() {
    let metrics = all();
    let _there = metrics.notebook();
    let families = read(&metrics.text(Moment::default()));
    let document = include_str!("../../../docs/monitoring.md");
    let written: BTreeSet<String> = document
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .filter(|name| name.starts_with("cellblock_") || name.starts_with("process_"))
        .collect();
    let mut told = BTreeSet::new();
    for (name, family) in &families {
        let total = if family.kind == "counter" { "_total" } else { "" };
        let info = if family.kind == "info" { "_info" } else { "" };
        let mut labels = BTreeSet::new();
        for series in family.samples.keys() {
            let list = series.split_once('{').map_or("", |(_, list)| list);
            labels.extend(list.split("=\"").filter_map(|part| {
                part.rsplit(['{', ',', '"']).next().filter(|name| !name.is_empty() && !name.contains('}'))
            }));
        }
        labels.remove("le");
        assert!(!labels.contains("notebook") && !labels.contains("execution"), "{name}");
        let labels: Vec<_> = labels.into_iter().collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        told.insert(format!("{name}{total}{info}{labels}"));
    }
    assert_eq!(written, told, "docs/monitoring.md and supervisor/src/metrics.rs differ");
}

#[test]
fn an_execution_that_never_began_has_waited_and_has_not_run() {
    let metrics = Metrics::new();
    let never = Outcome { wall_us: 0, ..outcome(End::Interrupted) };
    metrics.execution(&"web".into(), &"default".into(), &never);
    let families = read(&metrics.text(Moment::default()));
    let count = |name: &str| {
        let family = families.get(name)?;
        family.samples.get(&format!("{name}_count{{profile=\"default\"}}")).copied()
    };
    assert_eq!(count("cellblock_execution_queue_seconds"), Some(1.0));
    assert_eq!(count("cellblock_execution_wall_seconds"), None);
}

#[test]
fn what_an_execution_counts_costs_little() {
    let metrics = Metrics::new();
    let (tenant, profile) = ("web".into(), "default".into());
    let outcome = outcome(End::Ok);
    let mut notebook = metrics.notebook();
    let began = Instant::now();
    const TIMES: u32 = 2_000;
    for _ in 0..TIMES {
        metrics.request(&Request::Notebooks);
        notebook.set(WorkerState::Busy);
        metrics.execution(&tenant, &profile, &outcome);
        notebook.set(WorkerState::Idle);
    }
    let each = began.elapsed() / TIMES;
    println!("{each:?} for all that one Execution counts");
    // Some microseconds where nothing is optimised; a round trip takes a hundred.
    assert!(each < Duration::from_micros(200), "{each:?}");
}
