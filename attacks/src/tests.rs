use std::collections::BTreeSet;

use sandbox_profiles::Profile;

use super::*;

#[test]
fn every_number_from_1_to_77_is_there_once() {
    for (at, attack) in ATTACKS.iter().enumerate() {
        assert_eq!(usize::from(attack.number), at + 1, "{}", attack.title);
    }
    let rows: BTreeSet<&str> = ATTACKS.iter().map(|attack| attack.title).collect();
    assert_eq!(rows.len(), ATTACKS.len(), "two rows of one title");
}

#[test]
fn every_row_says_what_is_seen_inside_what_outside_and_what_stops_it() {
    for attack in ATTACKS {
        let number = attack.number;
        assert!(!attack.title.is_empty() && !attack.stopped_by.is_empty(), "{number}");
        assert!(!attack.contained.is_empty() && !attack.open.is_empty(), "{number}");
        assert!(
            attack.how().ends_with('.') && attack.how().lines().count() == 1,
            "{number}: {}",
            attack.how()
        );
        for pattern in attack.contained.iter().chain(attack.open) {
            assert!(
                pattern.split_once('=').is_some_and(|(_, value)| !value.is_empty()),
                "{number}: {pattern}"
            );
        }
        for set in attack.let_through(true).iter().chain(attack.let_through(false)) {
            assert!(!set.is_empty(), "{number} would succeed with nothing left out");
        }
    }
}

#[test]
fn profile_of_the_attacks_parses() {
    Profile::parse("attack", PROFILE, &|_| Ok(None)).unwrap();
}

#[test]
fn last_line_of_a_probe_is_taken_apart() {
    let seen = Seen::parse("noise\nsaw: old=1\nsaw: a=EPERM; b=x=y\n");
    assert_eq!((seen.get("a"), seen.get("b"), seen.get("old")), (Some("EPERM"), Some("x=y"), None));
    assert!(seen.matches("a=EROFS|EPERM") && seen.matches("b=x*") && !seen.matches("a=EPER"));
    assert!(matches("*ba*r", "foobazr") && matches("*", "") && !matches("*ba*r", "fobz"));
    assert!(matches("!a|b", "c") && !matches("!a|b", "b"));
    assert_eq!(seen.unmet(&["a=EPERM", "b=z", "c=*"]), ["b=z", "c=*"]);
    assert!(Seen::parse("saw: host network").matches("network=host"));
    assert!(Seen::parse("nothing").unmet(&["a=*"]).len() == 1);
}

#[test]
fn program_is_ascii_and_keeps_every_text_apart() {
    let probe = Probe { file: "a\"b.py", source: "print('é')\n" };
    let text = program(&probe, "{\"k\": \"\\\"\"}");
    assert!(text.is_ascii() && text.contains("\\U000000e9") && text.contains("\"a\\\"b.py\""), "{text}");
}
