//! How many workers are being started at once. A start is mostly processor time (mounts, the imports of
//! Python): with a hundred at once each would be slow, and the first ready as late as the last. So
//! they are started a few at a time, in the order in which they were wanted.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runners::cpus;

/// Starts per processor: while one waits for its disk, another computes.
const PER_CPU: usize = 4;

/// At least so many: a start that hangs until its deadline must not hold everybody up.
const AT_LEAST: usize = 8;

/// The starts there may be.
#[derive(Clone, Debug)]
pub(crate) struct Launches(Arc<Semaphore>);

/// The right to start one worker, kept until it is up, or is known not to come.
pub(crate) type Launch = OwnedSemaphorePermit;

/// A place in the line for it; dropped, it is free for the next.
pub(crate) struct Place(Pin<Box<dyn Future<Output = Option<Launch>> + Send>>);

impl Launches {
    /// As many as this machine bears.
    pub(crate) fn new() -> Self {
        Launches(Arc::new(Semaphore::new(cpus().saturating_mul(PER_CPU).max(AT_LEAST))))
    }

    /// Gets in line.
    pub(crate) fn place(&self) -> Place {
        // The semaphore is fair, from the first time that this is waited for.
        let wait = Arc::clone(&self.0).acquire_owned();
        Place(Box::pin(async { wait.await.ok() }))
    }
}

/// Waits for one's turn, for ever without a place. `None` never comes: nobody closes the semaphore.
///
/// # Cancel safety
/// Safe: the place is kept.
pub(crate) async fn turn(place: &mut Option<Place>) -> Option<Launch> {
    match place {
        Some(Place(wait)) => wait.as_mut().await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn comes(place: &mut Option<Place>) -> Option<Launch> {
        tokio::time::timeout(Duration::ZERO, turn(place)).await.ok().flatten()
    }

    #[tokio::test]
    async fn starts_beyond_the_bound_wait_in_their_order_and_one_given_up_is_passed_over() {
        let launches = Launches(Arc::new(Semaphore::new(1)));
        let mut places: Vec<_> = (0..4).map(|_| Some(launches.place())).collect();
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
    }
}
