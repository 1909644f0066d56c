//! One file's own words, checked: TOML to [`Layer`]. What it inherits is not looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::checkpoints::{CHECKPOINT_KEYS, CheckpointLayer};
use crate::document::{Document, Value};
use crate::error::{Fault, quoted};
use crate::lifecycle::{LIFECYCLE_KEYS, LifecycleLayer};
use crate::limits::{LIMITS, LimitKey};
use crate::profile::{KEYS, MOUNT_KEYS, Mount, Network, Preload, WarmStart, is_profile_name};
use crate::step::{Barrier, Need};
use crate::words;

/// Each costs a sandbox and some megabytes, used or not.
const MOST_SPARES: u32 = 64;

/// A day.
const MOST_SECONDS: u64 = 86_400;

/// A year: longer is for ever.
const MOST_IDLE_SECONDS: u64 = 365 * 24 * 3600;

/// Each is a file that is read at every checkpoint.
const MOST_KEPT: u64 = 10_000;

/// What an empty notebook's checkpoints take, many times over; and more than a disk has.
const LEAST_BYTES: u64 = 1 << 20;
const MOST_BYTES: u64 = 1 << 50;

/// More cells than a machine has workers.
const MOST_RUNNING: usize = 65_536;

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// The profile it stands on, and where it says so.
    pub(crate) base: Option<(String, Range<usize>)>,
    pub(crate) description: Option<String>,
    pub(crate) interpreter: Option<PathBuf>,
    pub(crate) network: Option<Network>,
    pub(crate) max_running: Option<usize>,
    pub(crate) limits: Vec<(&'static LimitKey, u64)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) pass_environment: BTreeSet<String>,
    pub(crate) barriers: BTreeMap<Barrier, Need>,
    pub(crate) warm_start: Option<WarmStart>,
    pub(crate) checkpoints: CheckpointLayer,
    pub(crate) lifecycle: LifecycleLayer,
    pub(crate) preload: Option<Vec<Preload>>,
    pub(crate) spares: Option<u32>,
}

/// Reads one file.
pub(crate) fn read(text: &str) -> Result<Layer, Vec<Fault>> {
    Document::read(text, |document, table| document.profile(table))
}

impl Document<'_> {
    fn profile(&mut self, table: &DeTable) -> Layer {
        let mut layer = Layer::default();
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "version" => {}
                "base" => layer.base = self.base(value),
                "description" => layer.description = self.checked("description", value, words::description),
                "interpreter" => layer.interpreter = self.checked("interpreter", value, words::program),
                "network" => layer.network = self.checked("network", value, words::network),
                "max_running" => layer.max_running = self.max_running(value),
                "limits" => self.limits(value, &mut layer),
                "mounts" => layer.mounts = self.mounts(value),
                "environment" => self.environment(value, &mut layer),
                "pass_environment" => self.pass_environment(value, &mut layer),
                "barriers" => self.barriers(value, &mut layer),
                "warm_start" => layer.warm_start = self.checked("warm_start", value, words::warm_start),
                "checkpoints" => layer.checkpoints = self.checkpoints(value),
                "lifecycle" => layer.lifecycle = self.lifecycle(value),
                "preload" => layer.preload = self.preload(value),
                "spares" => layer.spares = self.spares(value),
                _ => self.unknown(key, "a profile", &KEYS),
            }
        }
        layer
    }

    fn base(&mut self, value: &Value) -> Option<(String, Range<usize>)> {
        let name = self.string("base", value)?;
        if !is_profile_name(name) {
            let message = format!(
                "base {} is no name of a profile: use 1 to 64 of the characters A-Z a-z 0-9 _ -",
                quoted(name)
            );
            self.fault(value.span(), message);
            return None;
        }
        Some((name.to_owned(), value.span()))
    }

    fn max_running(&mut self, value: &Value) -> Option<usize> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type("max_running", "a whole number", value.get_ref(), value.span());
        };
        let found = usize::from_str_radix(number.as_str(), number.radix());
        let bound = match found {
            Ok(found @ 1..=MOST_RUNNING) => return Some(found),
            // With none a notebook would wait for ever.
            Ok(0) => "the least is 1".to_owned(),
            _ if number.as_str().starts_with('-') => "the least is 1".to_owned(),
            _ => format!("the most is {MOST_RUNNING}"),
        };
        let message = format!("max_running is {}, {bound}", quoted(number.as_str()).trim_matches('"'));
        self.fault(value.span(), message);
        None
    }

    fn limits(&mut self, value: &Value, layer: &mut Layer) {
        let Some(table) = self.table("limits", value) else { return };
        for (key, value) in table.iter() {
            match LIMITS.iter().find(|limit| limit.key == key.get_ref()) {
                Some(limit) => layer.limits.extend(self.limit(limit, value).map(|value| (limit, value))),
                None => self.unknown(key, "[limits]", &LIMITS.map(|limit| limit.key)),
            }
        }
    }

    fn limit(&mut self, limit: &LimitKey, value: &Value) -> Option<u64> {
        let LimitKey { key, least, most, .. } = limit;
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(
                &format!("limits.{key}"),
                "a whole number",
                value.get_ref(),
                value.span(),
            );
        };
        let found = u64::from_str_radix(number.as_str(), number.radix());
        let message = match found {
            Ok(found) if found < *least => {
                format!("limits.{key} is {found}, a worker needs at least {least}")
            }
            Err(_) if number.as_str().starts_with('-') => {
                format!("limits.{key} is negative, a worker needs at least {least}")
            }
            Ok(found) if found <= *most => return Some(found),
            _ => format!("limits.{key} is {}, the most is {most}", quoted(number.as_str()).trim_matches('"')),
        };
        self.fault(value.span(), message);
        None
    }

    fn mounts(&mut self, value: &Value) -> Vec<Mount> {
        let Some(entries) = self.array("mounts", value) else { return Vec::new() };
        let mut mounts: Vec<Mount> = Vec::new();
        for entry in entries.iter() {
            let Some(mount) = self.mount(entry) else { continue };
            if mounts.iter().any(|other| other.target() == mount.target()) {
                let message = format!("two mounts have the target {}", mount.target().display());
                self.fault(entry.span(), message);
            }
            mounts.push(mount);
        }
        mounts
    }

    fn mount(&mut self, entry: &Value) -> Option<Mount> {
        let table = self.table("an entry of mounts", entry)?;
        for (key, _) in table.iter() {
            if !MOUNT_KEYS.contains(&key.get_ref().as_ref()) {
                self.unknown(key, "[[mounts]]", &MOUNT_KEYS);
            }
        }
        let Some(value) = table.get("source") else {
            self.fault(entry.span(), "a mount needs a source, a folder of the host".to_owned());
            return None;
        };
        let Some(target) = table.get("target") else {
            // Shown at its own path, which must do as a target too.
            let both = |path: &str| words::mount_source(path).and_then(|_| words::mount_target(path));
            return Some(Mount { source: self.checked("source", value, both)?, target: None });
        };
        let source = self.checked("source", value, words::mount_source);
        let target = self.checked("target", target, words::mount_target)?;
        Some(Mount { source: source?, target: Some(target) })
    }

    fn environment(&mut self, value: &Value, layer: &mut Layer) {
        let Some(table) = self.table("environment", value) else { return };
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            if let Err(message) = words::variable(name) {
                self.fault(key.span(), message);
                continue;
            }
            if let Some(text) = self.checked(&format!("environment.{name}"), value, words::variable_value) {
                layer.environment.insert(name.to_owned(), text);
            }
        }
    }

    fn pass_environment(&mut self, value: &Value, layer: &mut Layer) {
        let Some(names) = self.array("pass_environment", value) else { return };
        for name in names.iter() {
            let variable = |name: &str| words::variable(name).map(|()| name.to_owned());
            layer.pass_environment.extend(self.checked("pass_environment", name, variable));
        }
    }

    fn barriers(&mut self, value: &Value, layer: &mut Layer) {
        let Some(table) = self.table("barriers", value) else { return };
        for (key, value) in table.iter() {
            let Some(barrier) = Barrier::from_key(key.get_ref()) else {
                self.unknown(key, "[barriers]", &Barrier::ALL.map(Barrier::key));
                continue;
            };
            let name = format!("barriers.{}", barrier.key());
            let Some(need) = self.checked(&name, value, words::need) else { continue };
            if need == Need::BestEffort && barrier.is_load_bearing() {
                let message = format!(
                    "{name} cannot be best effort: the other barriers stand on it, and what is left is no sandbox"
                );
                self.fault(key.span(), message);
                continue;
            }
            layer.barriers.insert(barrier, need);
        }
    }

    fn checkpoints(&mut self, value: &Value) -> CheckpointLayer {
        let mut layer = CheckpointLayer::default();
        let Some(table) = self.table("checkpoints", value) else { return layer };
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "when" => layer.when = self.checked("checkpoints.when", value, words::checkpoints),
                "serializer" => {
                    layer.serializer = self.checked("checkpoints.serializer", value, words::serializer);
                }
                "seconds" => layer.seconds = self.whole("checkpoints.seconds", value, 1..=MOST_SECONDS),
                "keep_last" => layer.keep_last = self.whole("checkpoints.keep_last", value, 1..=MOST_KEPT),
                "keep_daily" => layer.keep_daily = self.whole("checkpoints.keep_daily", value, 0..=MOST_KEPT),
                "max_bytes" => {
                    layer.max_bytes = self.whole("checkpoints.max_bytes", value, LEAST_BYTES..=MOST_BYTES);
                }
                _ => self.unknown(key, "[checkpoints]", &CHECKPOINT_KEYS),
            }
        }
        layer
    }

    fn lifecycle(&mut self, value: &Value) -> LifecycleLayer {
        let mut layer = LifecycleLayer::default();
        let Some(table) = self.table("lifecycle", value) else { return layer };
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "idle_seconds" => {
                    layer.idle_seconds = self.whole("lifecycle.idle_seconds", value, 0..=MOST_IDLE_SECONDS);
                }
                "evict" => layer.evict = self.checked("lifecycle.evict", value, words::evict),
                _ => self.unknown(key, "[lifecycle]", &LIFECYCLE_KEYS),
            }
        }
        layer
    }

    fn preload(&mut self, value: &Value) -> Option<Vec<Preload>> {
        let names = self.array("preload", value)?;
        Some(names.iter().filter_map(|name| self.checked("preload", name, words::preload)).collect())
    }

    fn spares(&mut self, value: &Value) -> Option<u32> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type("spares", "a whole number", value.get_ref(), value.span());
        };
        let found = u32::from_str_radix(number.as_str(), number.radix()).ok();
        if found.is_none_or(|found| found > MOST_SPARES) {
            let message = format!("spares is {}, the most is {MOST_SPARES}", number.as_str());
            self.fault(value.span(), message);
        }
        found
    }
}
