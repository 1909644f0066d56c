use proptest::prelude::*;

use super::*;

impl Runners {
    /// How many have leave, and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.line.len())
    }
}

fn turns<const N: usize>(runners: &Runners, profiles: [&str; N]) -> [Turn; N] {
    profiles.map(|profile| runners.turn("t", profile, Arc::new(Notify::new())))
}

#[test]
fn leave_goes_to_who_has_waited_longest() {
    let runners = Runners::new(1);
    let [mut first, mut second, mut third] = turns(&runners, ["p"; 3]);
    assert!(first.ask() && !second.ask() && !third.ask());
    first.give_back();
    assert!(!first.ask(), "it overtook who waits");
    assert!(!third.ask() && second.ask());
    second.give_back();
    assert!(third.ask() && !first.ask());
}

#[test]
fn profile_at_its_own_cap_is_overtaken_and_keeps_its_place() {
    let runners = Runners::new(3);
    runners.set_most("narrow", Some(1));
    let [mut a, mut b, mut c] = turns(&runners, ["narrow"; 3]);
    let [mut wide] = turns(&runners, ["wide"]);
    assert!(a.ask() && !b.ask() && !c.ask() && wide.ask());
    a.give_back();
    assert!(b.ask() && !c.ask());
    runners.set_most("narrow", None);
    assert!(c.ask(), "the cap was lifted");
}

#[tokio::test]
async fn who_waits_is_woken_when_another_is_dropped() {
    let runners = Runners::new(1);
    let wake = Arc::new(Notify::new());
    let mut first = runners.turn("t", "p", Arc::new(Notify::new()));
    let mut second = runners.turn("t", "p", Arc::clone(&wake));
    assert!(first.ask() && !second.ask());
    drop(first);
    tokio::time::timeout(std::time::Duration::from_secs(10), wake.notified()).await.unwrap();
    assert!(second.ask());
    // Given and not known yet, it goes back as well.
    let mut third = runners.turn("t", "p", Arc::new(Notify::new()));
    assert!(!third.ask());
    drop(second);
    drop(third);
    assert_eq!(runners.counts(), (0, 0));
}

#[test]
fn nothing_is_given_while_it_is_not_known_who_has_leave_already() {
    let runners = Runners::new(1);
    let [mut newcomer, mut adopted] = turns(&runners, ["p"; 2]);
    let hold = runners.hold();
    assert!(!newcomer.ask());
    adopted.claim();
    drop(hold);
    assert!(!newcomer.ask() && adopted.ask());
    adopted.give_back();
    assert!(newcomer.ask());
}

proptest! {
    /// Against a model of a few lines: whoever gets leave is the first in line whose profile has room.
    #[test]
    fn caps_hold_order_holds_and_nobody_is_forgotten(
        steps in proptest::collection::vec((0usize..6, 0u8..4), 0..200),
        most in 1usize..4,
        narrow in 1usize..3,
    ) {
        let runners = Runners::new(most);
        runners.set_most("narrow", Some(narrow));
        let profiles = ["narrow", "narrow", "narrow", "wide", "wide", "wide"];
        let mut turns = turns(&runners, profiles);
        let (mut running, mut line): (Vec<usize>, Vec<usize>) = Default::default();
        let settle = |running: &mut Vec<usize>, line: &mut Vec<usize>| {
            let mut at = 0;
            while at < line.len() && running.len() < most {
                let own = running.iter().filter(|one| profiles[**one] == profiles[line[at]]).count();
                if profiles[line[at]] == "narrow" && own >= narrow {
                    at += 1;
                } else {
                    running.push(line.remove(at));
                }
            }
        };
        for (who, what) in steps {
            if what == 0 {
                running.retain(|one| *one != who);
                line.retain(|one| *one != who);
                turns[who].give_back();
            } else {
                if !running.contains(&who) && !line.contains(&who) {
                    line.push(who);
                }
                turns[who].ask();
            }
            settle(&mut running, &mut line);
            for (one, turn) in turns.iter_mut().enumerate() {
                if running.contains(&one) || line.contains(&one) {
                    prop_assert_eq!(turn.ask(), running.contains(&one), "{} of {:?}, {:?}", one, running, line);
                }
            }
            prop_assert_eq!(runners.counts(), (running.len(), line.len()));
        }
        drop(turns);
        prop_assert_eq!(runners.counts(), (0, 0));
    }
}

#[test]
fn tenants_take_turns_and_a_tenants_own_cap_holds() {
    let runners = Runners::new(1);
    let turn = |tenant: &str| runners.turn(tenant, "p", Arc::new(Notify::new()));
    let mut first = turn("many");
    assert!(first.ask());
    let mut many: Vec<Turn> = (0..1000).map(|_| turn("many")).collect();
    assert!(!many.iter_mut().any(Turn::ask));
    let mut other = turn("other");
    assert!(!other.ask());
    first.give_back();
    assert!(other.ask() && !many[0].ask(), "a thousand of one held another's first up");
    other.give_back();
    assert!(many[0].ask() && !many[1].ask());
    drop(many);
    assert_eq!(runners.counts(), (0, 0));

    let runners = Runners::new(8);
    runners.set_most_of("small", 2);
    let turn = |tenant: &str| runners.turn(tenant, "p", Arc::new(Notify::new()));
    let mut small: Vec<Turn> = (0..4).map(|_| turn("small")).collect();
    let has_leave: Vec<bool> = small.iter_mut().map(Turn::ask).collect();
    assert_eq!((has_leave, runners.running_of("small")), (vec![true, true, false, false], 2));
    assert!(turn("other").ask(), "who waits for his own cap holds nobody up");
    small.remove(0);
    assert!(small[1].ask() && !small[2].ask());
}

#[tokio::test(start_paused = true)]
async fn how_long_it_will_take_is_told_by_what_cells_took() {
    let runners = Runners::new(2);
    let [mut one, mut other] = turns(&runners, ["p"; 2]);
    for _ in 0..20 {
        assert!(one.ask());
        tokio::time::advance(Duration::from_secs(4)).await;
        one.give_back();
    }
    assert_eq!(one.until_next(), Duration::from_secs(4));
    assert!(one.ask() && other.ask());
    assert_eq!(runners.until_next(None), Duration::from_secs(2), "two end in four seconds");
    assert_eq!(runners.until_next(Some("t")), Duration::from_secs(2));
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(one.until_next(), Duration::from_secs(1));
}
