use super::*;
use crate::server::lonely_daemon;
use crate::vitals::Signs;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

type Answer = oneshot::Sender<Result<(), String>>;

fn key(number: usize) -> Key {
    Key::own(format!("n{number}").parse().unwrap())
}

fn answer(message: Message) -> Answer {
    let Message::Replace { answer } = message else { panic!("{message:?}") };
    answer
}

/// The next time that it is asked; `None` when nobody can ask it any more.
async fn next(told: &mut Receiver<Message>) -> Option<Answer> {
    let told = tokio::time::timeout(2 * AGAIN, told.recv()).await;
    told.expect("it is asked in time").map(answer)
}

/// Those of them that are asked by now.
async fn asked(told: &mut [Receiver<Message>]) -> Vec<Answer> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    told.iter_mut().filter_map(|told| told.try_recv().ok().map(answer)).collect()
}

#[tokio::test(start_paused = true)]
async fn idle_ones_are_asked_a_few_at_a_time_and_those_at_work_at_once() {
    let (_temp, daemon) = lonely_daemon();
    let idle = Signs { idle_since: Some(Instant::now()), ..Signs::default() };
    let signs = |number: usize| if number < 5 { idle } else { Signs::default() };
    let mut told: Vec<_> = (0..8).map(|number| daemon.pretend(&key(number), signs(number)).0).collect();
    drain(&daemon, (0..8).map(key).collect());
    let mut waits = asked(&mut told[..5]).await;
    assert_eq!((waits.len(), asked(&mut told[5..]).await.len()), (AT_ONCE, 3));
    waits.pop().unwrap().send(Ok(())).unwrap();
    waits.extend(asked(&mut told[..5]).await);
    assert_eq!(waits.len(), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_is_asked_again_after_a_while_unless_it_is_closed() {
    let (_temp, daemon) = lonely_daemon();
    let (mut told, _) = daemon.pretend(&key(0), Signs::default());
    drain(&daemon, vec![key(0)]);
    for _ in 0..3 {
        let begun = Instant::now();
        next(&mut told).await.unwrap().send(Err("it would lose something".to_owned())).unwrap();
        tokio::task::yield_now().await;
        assert!(told.try_recv().is_err());
        tokio::time::sleep(AGAIN + Duration::from_millis(1)).await;
        assert!(!told.is_empty(), "after {:?}", begun.elapsed());
    }
    daemon.notebooks.lock().awake.remove(&key(0));
    next(&mut told).await.unwrap().send(Err("it would still".to_owned())).unwrap();
    assert!(next(&mut told).await.is_none(), "nobody has it any more");
}
