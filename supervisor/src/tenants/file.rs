//! The file of tenants, checked: TOML to what it says. Every fault is told with its place and the cure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use cellblock_proto::id::TenantId;
use cellblock_proto::operations::TenantLimits;
use sandbox_profiles::document::{Document, Key, Value};
use sandbox_profiles::{Fault, is_profile_name, quoted};
use toml::de::{DeTable, DeValue};

/// Keys of the file.
const KEYS: [&str; 4] = ["version", "total", "defaults", "tenant"];

/// What may be capped, in all, of each tenant, or of one.
const LIMIT_KEYS: [&str; 6] =
    ["max_running", "max_workers", "max_notebooks", "max_queued", "max_connections", "max_buffered_bytes"];

/// What else can be said of tenants that are not named…
const DEFAULT_KEYS: [&str; 1] = ["profiles"];

/// …and of one that is.
const TENANT_KEYS: [&str; 3] = ["uids", "operator", "profiles"];

/// More of anything than there can be.
const COUNTS: RangeInclusive<u64> = 1..=1_000_000;

/// With less no request with its answer has room; and more than a machine has.
const BYTES: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// The last id stands for none.
const UIDS: RangeInclusive<u64> = 0..=(u32::MAX - 1) as u64;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Caps over all tenants.
    pub(super) total: Limits,
    /// Of those that are not named, and of those that are where they say nothing.
    pub(super) defaults: Limits,
    pub(super) default_profiles: Option<Vec<String>>,
    pub(super) tenants: BTreeMap<TenantId, Named>,
}

/// A tenant that is named.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) uids: BTreeSet<u32>,
    pub(super) operator: bool,
    pub(super) limits: Limits,
    pub(super) profiles: Option<Vec<String>>,
}

/// Caps, those that are said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits([Option<u64>; LIMIT_KEYS.len()]);

impl Limits {
    /// These, where nothing is said the others.
    pub(super) fn over(self, others: TenantLimits) -> TenantLimits {
        let [running, workers, notebooks, queued, connections, bytes] = self.0;
        let count = |said: Option<u64>, other: u32| {
            said.map_or(other, |said| u32::try_from(said).unwrap_or(u32::MAX))
        };
        TenantLimits {
            running: count(running, others.running),
            workers: count(workers, others.workers),
            notebooks: count(notebooks, others.notebooks),
            queued: count(queued, others.queued),
            connections: count(connections, others.connections),
            buffered_bytes: bytes.unwrap_or(others.buffered_bytes),
        }
    }
}

/// Reads a file. `own` is the daemon's user id: like root's it is an operator's whatever is said.
pub(super) fn read(text: &str, own: u32) -> Result<Said, Vec<Fault>> {
    Document::read(text, |document, table| Reader { document, own, taken: BTreeMap::new() }.file(table))
}

struct Reader<'d, 't> {
    document: &'d mut Document<'t>,
    own: u32,
    /// Whose each user id is so far.
    taken: BTreeMap<u32, TenantId>,
}

impl Reader<'_, '_> {
    fn file(&mut self, table: &DeTable<'_>) -> Said {
        let mut said = Said::default();
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "version" => {}
                "total" => said.total = self.total(value),
                "defaults" => (said.defaults, said.default_profiles) = self.defaults(value),
                "tenant" => said.tenants = self.tenants(value),
                _ => self.document.unknown(key, "the file of tenants", &KEYS),
            }
        }
        said
    }

    fn total(&mut self, value: &Value<'_>) -> Limits {
        let mut limits = Limits::default();
        let Some(table) = self.document.table("total", value) else { return limits };
        for (key, value) in table.iter() {
            if !self.limit("total", key, value, &mut limits) {
                self.document.unknown(key, "[total]", &LIMIT_KEYS);
            }
        }
        limits
    }

    fn defaults(&mut self, value: &Value<'_>) -> (Limits, Option<Vec<String>>) {
        let (mut limits, mut profiles) = Default::default();
        let Some(table) = self.document.table("defaults", value) else { return (limits, profiles) };
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "profiles" => profiles = self.profiles("defaults.profiles", value),
                _ if self.limit("defaults", key, value, &mut limits) => {}
                _ => self.document.unknown(key, "[defaults]", &[&LIMIT_KEYS[..], &DEFAULT_KEYS].concat()),
            }
        }
        (limits, profiles)
    }

    fn tenants(&mut self, value: &Value<'_>) -> BTreeMap<TenantId, Named> {
        let mut tenants = BTreeMap::new();
        let Some(table) = self.document.table("tenant", value) else { return tenants };
        for (key, value) in table.iter() {
            match key.get_ref().parse::<TenantId>() {
                Ok(tenant) => {
                    let named = self.tenant(&tenant, key, value);
                    tenants.insert(tenant, named);
                }
                Err(error) => self.document.fault(key.span(), error.to_string()),
            }
        }
        tenants
    }

    fn tenant(&mut self, tenant: &TenantId, name: &Key<'_>, value: &Value<'_>) -> Named {
        let mut named = Named { operator: *tenant == TenantId::operator(), ..Named::default() };
        let whose = format!("tenant.{tenant}");
        let Some(table) = self.document.table(&whose, value) else { return named };
        let may_rule = self.operator(tenant, table);
        named.operator |= may_rule;
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "operator" => {}
                "uids" => named.uids = self.uids(tenant, named.operator, value),
                "profiles" => named.profiles = self.profiles(&format!("{whose}.profiles"), value),
                _ if self.limit(&whose, key, value, &mut named.limits) => {}
                _ => {
                    let known = [&TENANT_KEYS[..], &LIMIT_KEYS].concat();
                    self.document.unknown(key, &format!("[{whose}]"), &known);
                }
            }
        }
        // What users get who are not named is called so, and must be theirs alone.
        if let Some(user) = user_of(tenant) {
            let is_his = named.uids.iter().all(|uid| Some(*uid) == user);
            if !is_his || user.is_none() {
                let message = format!(
                    "{whose} is the name of one user's tenant and can have his id alone: choose another name"
                );
                self.document.fault(name.span(), message);
            }
            named.uids.extend(user);
        }
        named
    }

    fn operator(&mut self, tenant: &TenantId, table: &DeTable<'_>) -> bool {
        let Some(value) = table.get("operator") else { return false };
        let key = format!("tenant.{tenant}.operator");
        match value.get_ref() {
            DeValue::Boolean(false) if *tenant == TenantId::operator() => {
                let message = format!("{key} is true whatever is said: it is the daemon's own tenant");
                self.document.fault(value.span(), message);
                true
            }
            DeValue::Boolean(is) => *is,
            other => self.document.wrong_type(&key, "true or false", other, value.span()),
        }
    }

    fn uids(&mut self, tenant: &TenantId, is_operator: bool, value: &Value<'_>) -> BTreeSet<u32> {
        let key = format!("tenant.{tenant}.uids");
        let mut uids = BTreeSet::new();
        let Some(array) = self.document.array(&key, value) else { return uids };
        for entry in array.iter() {
            let Some(uid) = self.document.whole(&key, entry, UIDS) else { continue };
            let uid = u32::try_from(uid).unwrap_or(u32::MAX);
            let message = match self.taken.get(&uid) {
                _ if (uid == 0 || uid == self.own) && !is_operator => {
                    format!("user {uid} is always an operator: leave it out, or add `operator = true`")
                }
                Some(other) if other == tenant => format!("user {uid} is named twice"),
                Some(other) => {
                    format!("user {uid} is tenant {:?} already: one user is one tenant", other.as_str())
                }
                None => {
                    self.taken.insert(uid, tenant.clone());
                    uids.insert(uid);
                    continue;
                }
            };
            self.document.fault(entry.span(), message);
        }
        uids
    }

    fn profiles(&mut self, key: &str, value: &Value<'_>) -> Option<Vec<String>> {
        let array = self.document.array(key, value)?;
        let check = |name: &str| {
            let wrong = || format!("names {}: use 1 to 64 of the characters A-Z a-z 0-9 _ -", quoted(name));
            is_profile_name(name).then(|| name.to_owned()).ok_or_else(wrong)
        };
        let names: Vec<String> =
            array.iter().filter_map(|entry| self.document.checked(key, entry, check)).collect();
        if array.is_empty() {
            let message =
                format!("{key} is empty, so no notebook could be opened: name one, or leave it out");
            self.document.fault(value.span(), message);
        }
        Some(names)
    }

    /// Whether the key is a limit's.
    fn limit(&mut self, table: &str, key: &Key<'_>, value: &Value<'_>, limits: &mut Limits) -> bool {
        let Some(at) = LIMIT_KEYS.iter().position(|limit| limit == key.get_ref()) else { return false };
        let allowed = if LIMIT_KEYS[at].ends_with("_bytes") { BYTES } else { COUNTS };
        limits.0[at] = self.document.whole(&format!("{table}.{}", LIMIT_KEYS[at]), value, allowed);
        true
    }
}

/// Whose own a tenant is by its name; `Some(None)` when it only looks like it.
fn user_of(tenant: &TenantId) -> Option<Option<u32>> {
    let number = tenant.as_str().strip_prefix("uid-")?;
    Some(number.parse().ok().filter(|uid| TenantId::of_user(*uid) == *tenant))
}
