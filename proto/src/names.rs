//! The names a notebook is known to have, as far as they fit into one frame.
//!
//! They are for telling people what there is and what was lost. A notebook can have millions, and a
//! message that does not fit would lose what it was to tell; so names beyond the bound are not kept.

use std::collections::BTreeMap;

use crate::execution::{NameChanges, NameInfo};

/// Names and types kept, in bytes: less than half of a frame's meta, as JSON too.
const KEPT_BYTES: usize = 384 << 10;

/// What a name costs in a frame besides its own bytes, about.
const OVERHEAD_BYTES: usize = 64;

/// Names by name.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    names: BTreeMap<String, NameInfo>,
    bytes: usize,
}

impl KnownNames {
    /// Takes what an Execution did to the names.
    pub fn apply(&mut self, changes: &NameChanges) {
        changes.removed.iter().for_each(|name| self.remove(name));
        changes.added.iter().chain(&changes.changed).for_each(|info| self.insert(info));
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &NameInfo> {
        self.names.values()
    }

    fn insert(&mut self, info: &NameInfo) {
        self.remove(&info.name);
        if self.bytes + cost(info) <= KEPT_BYTES {
            self.bytes += cost(info);
            self.names.insert(info.name.clone(), info.clone());
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(known) = self.names.remove(name) {
            self.bytes -= cost(&known);
        }
    }
}

impl<'a> FromIterator<&'a NameInfo> for KnownNames {
    fn from_iter<I: IntoIterator<Item = &'a NameInfo>>(infos: I) -> Self {
        let mut names = KnownNames::default();
        infos.into_iter().for_each(|info| names.insert(info));
        names
    }
}

fn cost(info: &NameInfo) -> usize {
    info.name.len() + info.kind.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: String) -> NameInfo {
        NameInfo { name, kind: "int".to_owned(), bytes: Some(28) }
    }

    #[test]
    fn any_number_of_names_fits_into_a_frame() {
        let mut known = KnownNames::default();
        for length in [1, 200] {
            let added = (0..20_000).map(|n| info(format!("{n}{}", "x".repeat(length)))).collect();
            known.apply(&NameChanges { added, ..NameChanges::default() });
        }
        let all: Vec<_> = known.iter().cloned().collect();
        let json = crate::codec::Codec::Json.encode(&all).expect("names have a JSON form");
        assert!(all.len() > 1_000 && json.len() < crate::frame::Limits::DEFAULT.meta_bytes as usize * 3 / 4);
    }

    #[test]
    fn name_that_goes_makes_room() {
        let mut known: KnownNames = [&info("a".to_owned())].into_iter().collect();
        let removed = vec!["a".to_owned(), "never".to_owned()];
        known.apply(&NameChanges { removed, ..NameChanges::default() });
        assert_eq!((known.iter().count(), known.bytes), (0, 0));
    }
}
