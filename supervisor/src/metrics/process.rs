//! The daemon's own process, by the names that Prometheus' clients have for it; read when somebody looks.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::stat::{RESIDENT_PAGES, START_TICKS, SYSTEM_TICKS, Stat, THREADS, USER_TICKS, VIRTUAL_BYTES};

/// Reads `/proc/self`.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = Stat::read("self");
        let number = |field| stat.as_ref().and_then(|stat| stat.number(field)).unwrap_or(0);
        let ticks = clock_ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
        let seconds = |count: u64| count as f64 / ticks as f64;
        let cpu = ConstCounter::new(seconds(number(USER_TICKS) + number(SYSTEM_TICKS)));
        let help = "Processor time of this daemon";
        let to = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        cpu.encode(to)?;
        let boot = boot_seconds();
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let to = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(to)
        };
        let start = boot + seconds(number(START_TICKS));
        gauge("process_start_time", "When this daemon began, since 1970", Some(&Unit::Seconds), start)?;
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
        let real = |count: u64| count as f64;
        let pages = number(RESIDENT_PAGES) * page_size() as u64;
        gauge("process_resident_memory", "Memory of this daemon", Some(&Unit::Bytes), real(pages))?;
        let virtual_bytes = real(number(VIRTUAL_BYTES));
        gauge("process_virtual_memory", "Address space in use", Some(&Unit::Bytes), virtual_bytes)?;
        gauge("process_threads", "Threads", None, real(number(THREADS)))?;
        let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
        gauge("process_open_fds", "Open descriptors", None, real(open as u64))?;
        let most = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, real);
        gauge("process_max_fds", "Descriptors that may be open", None, most)
    }
}

fn boot_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}
