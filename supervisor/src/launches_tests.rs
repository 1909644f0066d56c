use proptest::prelude::*;

use super::*;

async fn comes(place: &mut Option<Place>) -> Option<(Launch, Lease)> {
    tokio::time::timeout(Duration::ZERO, turn(place)).await.ok().and_then(Result::ok)
}

#[tokio::test]
async fn starts_beyond_the_bound_wait_in_their_order_and_one_given_up_is_passed_over() {
    let launches = Launches::of(1, usize::MAX);
    let mut places: Vec<_> = (0..4).map(|_| Some(launches.place("t"))).collect();
    let mut held = Vec::new();
    for place in &mut places {
        held.push(comes(place).await);
    }
    assert_eq!(held.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false]);
    drop(places.remove(1));
    drop(held);
    assert!(comes(&mut places[2]).await.is_none(), "it came before one that waited longer");
    let second = comes(&mut places[1]).await;
    assert!(second.is_some());
    drop(second);
    assert!(comes(&mut places[2]).await.is_some());
    drop(places);
    assert_eq!((launches.figures().0, launches.lock().starting), (0, 0));
}

#[tokio::test]
async fn place_that_is_given_up_with_what_it_came_for_gives_that_back() {
    let launches = Launches::of(1, 1);
    let came = launches.place("t");
    assert_eq!((launches.figures().0, launches.lock().starting), (1, 1));
    let mut next = Some(launches.place("t"));
    assert!(comes(&mut next).await.is_none());
    drop(came);
    assert!(comes(&mut next).await.is_some());
    assert_eq!((launches.figures().0, launches.lock().starting), (0, 0));
}

#[tokio::test]
async fn tenant_with_a_thousand_starts_in_the_line_holds_another_up_by_one() {
    let launches = Launches::of(1, usize::MAX);
    let mut first = Some(launches.place("many"));
    let held = comes(&mut first).await;
    let mut many: Vec<_> = (0..1000).map(|_| Some(launches.place("many"))).collect();
    let mut other = Some(launches.place("other"));
    assert!(comes(&mut other).await.is_none());
    drop(held);
    let held = comes(&mut other).await;
    assert!(held.is_some());
    assert!(comes(&mut many[0]).await.is_none());
    drop(held);
    assert!(comes(&mut many[0]).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn when_all_workers_live_the_shortage_is_told_and_an_end_makes_room() {
    let launches = Launches::of(8, 2);
    launches.set_most_of("small", 1);
    let mut leases = Vec::new();
    for tenant in ["small", "large"] {
        let mut place = Some(launches.place(tenant));
        leases.push(comes(&mut place).await.unwrap().1);
    }
    assert_eq!(launches.short(), [], "nobody waits");
    let mut second = Some(launches.place("small"));
    assert_eq!(launches.short(), [Short::Tenant("small".into())]);
    let mut other = Some(launches.place("large"));
    assert_eq!(launches.short(), [Short::All, Short::Tenant("small".into())]);
    tokio::time::timeout(Duration::from_secs(1), launches.shortage()).await.unwrap();
    // Who waits in vain is told so, with the cap and who is before it.
    let waited = Instant::now();
    let full = turn(&mut other).await.unwrap_err();
    assert_eq!(full, Full { short: Short::All, most: 2, position: 0 });
    assert_eq!(waited.elapsed(), PATIENCE);
    assert_eq!(turn(&mut second).await.unwrap_err().short, Short::Tenant("small".into()));
    drop(leases.remove(0));
    let served = turn(&mut second).await.unwrap();
    assert_eq!((launches.workers_of("small"), launches.figures()), (1, (2, Some(2))));
    drop(served);
    drop(turn(&mut other).await.unwrap());
    drop(leases);
    assert_eq!((launches.workers_of("small"), launches.figures().0), (0, 0));
}

#[tokio::test]
async fn worker_that_was_there_before_counts_whatever_the_caps_say() {
    let launches = Launches::of(8, 1);
    let [first, second] = [launches.claim("t"), launches.claim("t")];
    let mut place = Some(launches.place("t"));
    drop(first);
    assert!(comes(&mut place).await.is_none(), "one still lives, and one may");
    drop(second);
    assert!(comes(&mut place).await.is_some());
}

proptest! {
    /// Starts, workers and tenants' workers stay below their caps, and all comes back.
    #[test]
    fn caps_hold_and_nothing_is_lost(
        steps in proptest::collection::vec((0usize..12, 0u8..4), 0..200),
        most_starting in 1usize..4,
        most_workers in 1usize..6,
        own in 1usize..3,
    ) {
        let launches = Launches::of(most_starting, most_workers);
        launches.set_most_of("t0", own);
        let mut places: Vec<Option<Place>> = (0..12).map(|_| None).collect();
        let mut starting: Vec<Option<Launch>> = (0..12).map(|_| None).collect();
        let mut live: Vec<Option<Lease>> = (0..12).map(|_| None).collect();
        for (who, what) in steps {
            match what {
                0 if places[who].is_none() && starting[who].is_none() && live[who].is_none() => {
                    places[who] = Some(launches.place(&format!("t{}", who % 3)));
                }
                1 => starting[who] = None,
                2 => live[who] = None,
                3 => places[who] = None,
                _ => {}
            }
            for (who, place) in places.iter_mut().enumerate() {
                if let Some((launch, lease)) = place.as_mut().and_then(Place::take) {
                    *place = None;
                    (starting[who], live[who]) = (Some(launch), Some(lease));
                }
            }
            let count = |of: &mut dyn Iterator<Item = bool>| of.filter(|is| *is).count();
            let started = count(&mut starting.iter().map(Option::is_some));
            let lives = count(&mut live.iter().map(Option::is_some));
            let own_live = count(&mut live.iter().step_by(3).map(Option::is_some));
            let waits = count(&mut places.iter().map(Option::is_some));
            prop_assert_eq!((launches.figures().0, launches.lock().starting), (lives, started));
            prop_assert_eq!(launches.workers_of("t0"), own_live);
            prop_assert!(started <= most_starting && lives <= most_workers && own_live <= own);
            // Nobody waits for nothing.
            if started < most_starting && lives < most_workers && waits > 0 {
                prop_assert_eq!(launches.short(), [Short::Tenant("t0".into())]);
            }
        }
        drop((places, starting, live));
        prop_assert_eq!((launches.figures().0, launches.lock().starting), (0, 0));
    }
}
