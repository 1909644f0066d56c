//! Who waits for something of which there is not enough for all, and who is next. Fair between tenants and
//! first come, first served within one: of the tenants that wait, the one that holds least is next, and of those that hold
//! the same, the one that has not had anything for longest. So a tenant with a thousand notebooks in the line
//! holds up another's first by one cell at most, and one that waits and holds nothing has its turn after each other tenant has
//! had one.
//!
//! What waits has a class besides (the profile, for cells), which may have no room while others have: who is of
//! that class is overtaken by those of other classes, and keeps his place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A place in the line.
pub(crate) type Ticket = u64;

/// Whoever waits, and what each tenant holds.
#[derive(Debug)]
pub(crate) struct Line<T> {
    /// Only those of which somebody waits; by class, each in order of arrival.
    waiting: BTreeMap<Arc<str>, Classes<T>>,
    /// Stays when a tenant has gone: who comes back is not the first for that.
    stands: BTreeMap<Arc<str>, Stand>,
    count: usize,
    last_ticket: Ticket,
    served: u64,
}

/// Of one tenant.
type Classes<T> = BTreeMap<Arc<str>, VecDeque<(Ticket, T)>>;

#[derive(Clone, Copy, Debug, Default)]
struct Stand {
    holds: usize,
    served: u64,
}

/// Who is next.
#[derive(Debug)]
pub(crate) struct Next<T> {
    /// Whose.
    pub(crate) tenant: Arc<str>,
    /// Of which class.
    pub(crate) class: Arc<str>,
    /// What was put in.
    pub(crate) item: T,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { waiting: BTreeMap::new(), stands: BTreeMap::new(), count: 0, last_ticket: 0, served: 0 }
    }
}

impl<T> Line<T> {
    /// Gets in line.
    pub(crate) fn join(&mut self, tenant: &Arc<str>, class: &Arc<str>, item: T) -> Ticket {
        self.last_ticket += 1;
        let classes = self.waiting.entry(Arc::clone(tenant)).or_default();
        classes.entry(Arc::clone(class)).or_default().push_back((self.last_ticket, item));
        self.count += 1;
        self.last_ticket
    }

    /// Gets out of the line; whether it was still in it.
    pub(crate) fn leave(&mut self, tenant: &str, class: &str, ticket: Ticket) -> bool {
        let Some(classes) = self.waiting.get_mut(tenant) else { return false };
        let Some(queue) = classes.get_mut(class) else { return false };
        // Tickets are in order.
        let Ok(at) = queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return false };
        queue.remove(at);
        self.count -= 1;
        self.tidy(tenant, class);
        true
    }

    /// Whether it is still in the line.
    pub(crate) fn has(&self, tenant: &str, class: &str, ticket: Ticket) -> bool {
        let queue = self.waiting.get(tenant).and_then(|classes| classes.get(class));
        queue.is_some_and(|queue| queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).is_ok())
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many of a tenant wait that came before this one.
    pub(crate) fn before(&self, tenant: &str, ticket: Ticket) -> usize {
        let queues = self.waiting.get(tenant).into_iter().flat_map(BTreeMap::values);
        queues.map(|queue| queue.partition_point(|(other, _)| *other < ticket)).sum()
    }

    /// How many of a tenant wait.
    #[cfg(test)]
    fn waiting_of(&self, tenant: &str) -> usize {
        self.waiting.get(tenant).into_iter().flat_map(BTreeMap::values).map(VecDeque::len).sum()
    }

    /// The tenants of which somebody waits.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Arc<str>> {
        self.waiting.keys()
    }

    /// What a tenant holds.
    pub(crate) fn holds(&self, tenant: &str) -> usize {
        self.stands.get(tenant).map_or(0, |stand| stand.holds)
    }

    /// It holds one more, which it did not wait for.
    pub(crate) fn claim(&mut self, tenant: &Arc<str>) {
        self.stands.entry(Arc::clone(tenant)).or_default().holds += 1;
    }

    /// It has given one back.
    pub(crate) fn give_back(&mut self, tenant: &str) {
        if let Some(stand) = self.stands.get_mut(tenant) {
            stand.holds -= 1;
        }
    }

    /// Takes the next out of the line, who holds one from now on: of a tenant and a class that have room.
    pub(crate) fn next(
        &mut self,
        tenant_has_room: impl Fn(&str, usize) -> bool,
        class_has_room: impl Fn(&str) -> bool,
    ) -> Option<Next<T>> {
        let (tenant, class) = self
            .waiting
            .iter()
            .filter_map(|(tenant, classes)| {
                let stand = self.stands.get(tenant).copied().unwrap_or_default();
                let first = |(class, queue): (&Arc<str>, &VecDeque<(Ticket, T)>)| {
                    queue.front().map(|(ticket, _)| (*ticket, Arc::clone(class)))
                };
                let classes = classes.iter().filter(|(class, _)| class_has_room(class));
                let (ticket, class) = classes.filter_map(first).min()?;
                let has_room = tenant_has_room(tenant, stand.holds);
                has_room.then_some(((stand.holds, stand.served, ticket), (tenant, class)))
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, (tenant, class))| (Arc::clone(tenant), class))?;
        let (_, item) = self.waiting.get_mut(&tenant)?.get_mut(&class)?.pop_front()?;
        self.count -= 1;
        self.tidy(&tenant, &class);
        self.served += 1;
        let stand = self.stands.entry(Arc::clone(&tenant)).or_default();
        stand.holds += 1;
        stand.served = self.served;
        Some(Next { tenant, class, item })
    }

    fn tidy(&mut self, tenant: &str, class: &str) {
        let Some(classes) = self.waiting.get_mut(tenant) else { return };
        if classes.get(class).is_some_and(VecDeque::is_empty) {
            classes.remove(class);
        }
        if classes.is_empty() {
            self.waiting.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anybody(line: &mut Line<u32>) -> Option<(String, u32)> {
        line.next(|_, _| true, |_| true).map(|next| (next.tenant.to_string(), next.item))
    }

    #[test]
    fn tenants_take_turns_and_each_is_served_in_order() {
        let mut line = Line::default();
        let class: Arc<str> = "p".into();
        for item in 0..1000 {
            line.join(&"many".into(), &class, item);
        }
        assert_eq!(anybody(&mut line).unwrap(), ("many".to_owned(), 0));
        line.join(&"few".into(), &class, 7);
        line.give_back("many");
        assert_eq!(anybody(&mut line).unwrap(), ("few".to_owned(), 7), "it waited behind a thousand");
        line.give_back("few");
        line.join(&"few".into(), &class, 8);
        assert_eq!(anybody(&mut line).unwrap(), ("many".to_owned(), 1));
        // Who has gone and come back is not the first for that.
        assert_eq!(anybody(&mut line).unwrap(), ("few".to_owned(), 8));
        assert_eq!(line.len(), 998);
        assert_eq!(line.waiting_of("many"), 998);
    }

    #[test]
    fn who_holds_least_is_next_though_another_has_had_nothing_for_longer() {
        let mut line = Line::default();
        let class: Arc<str> = "p".into();
        for (tenant, count) in [("long", 3), ("brief", 1)] {
            for item in 0..count {
                line.join(&tenant.into(), &class, item);
            }
        }
        assert_eq!(anybody(&mut line).unwrap().0, "long");
        assert_eq!(anybody(&mut line).unwrap().0, "brief");
        line.give_back("brief");
        line.join(&"brief".into(), &class, 9);
        // Its turn would be the other's, who still holds what it had.
        assert_eq!(anybody(&mut line).unwrap(), ("brief".to_owned(), 9));
    }

    #[test]
    fn class_without_room_is_overtaken_and_keeps_its_place() {
        let mut line = Line::default();
        let (narrow, wide): (Arc<str>, Arc<str>) = ("narrow".into(), "wide".into());
        let tenant: Arc<str> = "t".into();
        let first = line.join(&tenant, &narrow, 1);
        let second = line.join(&tenant, &wide, 2);
        assert_eq!((line.before("t", first), line.before("t", second)), (0, 1));
        assert_eq!(line.next(|_, _| true, |class| class == "wide").unwrap().item, 2);
        assert!(line.has("t", "narrow", first) && !line.has("t", "wide", second));
        assert!(line.next(|_, _| true, |class| class == "wide").is_none());
        assert_eq!(anybody(&mut line).unwrap().1, 1);
        assert!(!line.leave("t", "narrow", first));
    }

    proptest! {
        /// Whatever happens: nobody is lost, each tenant's are served in order, no cap is passed, and who
        /// holds nothing waits for one grant of each other tenant at most.
        #[test]
        fn nobody_is_lost_and_nobody_starves(
            steps in proptest::collection::vec((0usize..5, 0u8..4), 1..300),
            cap in 1usize..4,
        ) {
            const TENANTS: usize = 5;
            let names: Vec<Arc<str>> = (0..TENANTS).map(|n| format!("t{n}").into()).collect();
            let class: Arc<str> = "p".into();
            let mut line = Line::default();
            let mut waiting = vec![VecDeque::new(); TENANTS];
            let mut holds = [0usize; TENANTS];
            let mut passed_over = [0usize; TENANTS];
            let mut item = 0u32;
            for (who, what) in steps {
                match what {
                    0 | 1 => {
                        item += 1;
                        let ticket = line.join(&names[who], &class, item);
                        waiting[who].push_back((ticket, item));
                    }
                    2 if holds[who] > 0 => {
                        holds[who] -= 1;
                        line.give_back(&names[who]);
                    }
                    3 if !waiting[who].is_empty() => {
                        let at = waiting[who].len() / 2;
                        let (ticket, _) = waiting[who].remove(at).unwrap();
                        prop_assert!(line.leave(&names[who], &class, ticket));
                    }
                    _ => {}
                }
                let free = (0..TENANTS).any(|t| holds[t] < cap && !waiting[t].is_empty());
                // One grant a step, so that lines grow.
                if what % 2 == 1 {
                    let next = line.next(|_, holds| holds < cap, |_| true);
                    prop_assert_eq!(next.is_some(), free, "there was room and nobody was served, or the reverse");
                    if let Some(next) = next {
                        let tenant: usize = next.tenant[1..].parse().unwrap();
                        let (_, first) = waiting[tenant].pop_front().unwrap();
                        prop_assert_eq!(first, next.item);
                        holds[tenant] += 1;
                        prop_assert!(holds[tenant] <= cap);
                        passed_over[tenant] = 0;
                        for other in (0..TENANTS).filter(|other| *other != tenant) {
                            let waits = !waiting[other].is_empty() && holds[other] == 0;
                            passed_over[other] = if waits { passed_over[other] + 1 } else { 0 };
                            prop_assert!(passed_over[other] < TENANTS, "{} starves", other);
                        }
                    }
                }
                for t in 0..TENANTS {
                    prop_assert_eq!(line.waiting_of(&names[t]), waiting[t].len());
                    prop_assert_eq!(line.holds(&names[t]), holds[t]);
                }
            }
            // All that wait come, once.
            let left: usize = waiting.iter().map(VecDeque::len).sum();
            prop_assert_eq!(line.len(), left);
            for _ in 0..left {
                prop_assert!(anybody(&mut line).is_some());
            }
            prop_assert!(anybody(&mut line).is_none());
        }
    }
}
