use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::support::{Home, State, load, save_on};
use crate::offer::CHUNK_BYTES;
use crate::store::{Retention, Store};

/// What a notebook's life is made of.
#[derive(Clone, Debug)]
enum Act {
    /// One byte of one buffer changes.
    Change {
        buffer: usize,
        at: usize,
    },
    /// A buffer comes, with bytes that another may have.
    Add {
        seed: u8,
        length: usize,
    },
    Delete {
        buffer: usize,
    },
    Save {
        later_days: u64,
    },
    GoBack {
        to: usize,
    },
    Keep {
        last: usize,
        daily: usize,
        max_bytes: Option<u64>,
    },
    Collect,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (any::<usize>(), any::<usize>()).prop_map(|(buffer, at)| Act::Change { buffer, at }),
        2 => (0u8..4, prop_oneof![Just(0), 1usize..9000, Just(CHUNK_BYTES), Just(CHUNK_BYTES + 3)])
            .prop_map(|(seed, length)| Act::Add { seed, length }),
        1 => any::<usize>().prop_map(|buffer| Act::Delete { buffer }),
        5 => (0u64..3).prop_map(|later_days| Act::Save { later_days }),
        1 => any::<usize>().prop_map(|to| Act::GoBack { to }),
        2 => (0usize..4, 0usize..3, proptest::option::of(0u64..2_000_000))
            .prop_map(|(last, daily, max_bytes)| Act::Keep { last, daily, max_bytes }),
        2 => Just(Act::Collect),
        1 => Just(Act::Reopen),
    ]
}

/// What should be in the store.
struct Model {
    now: State,
    day: u64,
    kept: BTreeMap<u64, State>,
    head: Option<u64>,
    last: u64,
}

impl Model {
    fn apply(&mut self, act: &Act, home: &Home, store: &mut Option<Store>) -> Result<(), TestCaseError> {
        let open = store.as_mut().unwrap();
        let buffers = &mut self.now.buffers;
        match *act {
            Act::Change { buffer, at } => {
                let count = buffers.len().max(1);
                if let Some(buffer) = buffers.get_mut(buffer % count).filter(|buffer| !buffer.is_empty()) {
                    let at = at % buffer.len();
                    buffer[at] ^= 1;
                }
            }
            Act::Add { seed, length } => buffers.extend(State::new(seed, &[length]).buffers),
            Act::Delete { buffer } if !buffers.is_empty() => drop(buffers.remove(buffer % buffers.len())),
            Act::Delete { .. } => {}
            Act::Save { later_days } => {
                self.day += later_days;
                self.now.stream = format!("{} buffers ", buffers.len()).repeat(300).into_bytes();
                let id = save_on(open, &self.now, self.day).unwrap().id;
                prop_assert!(id > self.last, "{} was given before", id);
                prop_assert_eq!(open.reader().manifest(id).unwrap().parent, self.head);
                self.last = id;
                self.head = Some(id);
                self.kept.insert(id, self.now.clone());
            }
            Act::GoBack { to } => {
                if let Some(id) = self.kept.keys().nth(to % self.kept.len().max(1)) {
                    open.set_head(*id).unwrap();
                    self.head = Some(*id);
                    self.now = self.kept[id].clone();
                }
            }
            Act::Keep { last, daily, max_bytes } => {
                let rule = Retention { keep_last: last, keep_daily: daily, max_bytes };
                let removed = open.retain(&rule).unwrap();
                prop_assert!(self.head.is_none_or(|head| !removed.contains(&head)));
                self.kept.retain(|id, _| !removed.contains(id));
                let bytes: u64 =
                    open.reader.candidates().unwrap().iter().map(|candidate| candidate.bytes).sum();
                prop_assert!(max_bytes.is_none_or(|max| bytes <= max) || self.kept.len() <= 2);
            }
            Act::Collect => {
                open.collect().unwrap();
                let again = open.collect().unwrap();
                prop_assert_eq!(again.packs, 0, "a collection leaves nothing for the next");
                let needed: u64 =
                    open.reader.candidates().unwrap().iter().map(|candidate| candidate.bytes).sum();
                let packs: u64 = home
                    .files()
                    .iter()
                    .filter(|f| f.starts_with("packs/"))
                    .map(|f| home.path(f).metadata().unwrap().len())
                    .sum();
                let count = home.files().len() as u64;
                prop_assert!(packs <= 2 * needed + count * 40_000, "{} bytes for {}", packs, needed);
            }
            Act::Reopen => {
                *store = None;
                *store = Some(home.store());
            }
        }
        Ok(())
    }

    fn compare(&self, store: &Store) -> Result<(), TestCaseError> {
        prop_assert_eq!(store.head(), self.head);
        let listed = store.reader().ids().unwrap();
        prop_assert_eq!(&listed, &self.kept.keys().copied().collect::<Vec<_>>());
        for (id, state) in &self.kept {
            prop_assert!(&load(store.reader(), *id).unwrap() == state, "checkpoint {} is another", id);
        }
        prop_assert!(store.reader().head().unwrap().passed_over.is_empty());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_kept_checkpoint_is_what_was_saved_whatever_happened_since(acts in vec(act(), 1..40)) {
        let home = Home::new();
        let mut store = Some(home.store());
        let now = State { buffers: Vec::new(), stream: Vec::new() };
        let mut model = Model { now, day: 1, kept: BTreeMap::new(), head: None, last: 0 };
        for act in &acts {
            model.apply(act, &home, &mut store)?;
            if !matches!(act, Act::Change { .. } | Act::Add { .. } | Act::Delete { .. }) {
                model.compare(store.as_ref().unwrap())?;
            }
        }
        drop(store);
        model.compare(&home.store())?;
    }
}
