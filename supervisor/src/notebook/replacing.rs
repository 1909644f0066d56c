//! A notebook whose worker is of another build: it goes as soon as it has nothing to do.

use std::time::Duration;

use super::Notebook;
use super::evicting::Released;
use crate::build::build;
use crate::evict::Answer;
use crate::machine::{Evict, Input};

/// How long nobody must have wanted a worker of which nothing is ever saved.
const UNWANTED: Duration = Duration::from_secs(600);

impl Notebook {
    /// Whoever drains such workers wants it gone; what comes from now on waits for the next.
    pub(super) fn replace(&mut self, answer: Answer) {
        let theirs = self.live.as_ref().and_then(|live| live.outdated.clone());
        let Some(theirs) = theirs else { return drop(answer.send(Ok(()))) };
        let is_unwanted = self.idle_since.is_some_and(|since| since.elapsed() >= UNWANTED);
        if !self.life.saves && self.machine.names().next().is_some() && !is_unwanted {
            let reason = "its profile has no checkpoints, so that its variables would be lost: restart it, or \
                          leave it alone for ten minutes";
            return drop(answer.send(Err(reason.to_owned())));
        }
        self.evictions.push(Released::Evictor(answer));
        let reason = format!("it was of build {theirs}, cellblockd is of {}", build());
        let rule = Evict { saves: self.life.saves, with_losses: true, firmly: true };
        self.decide(Input::Evict { reason, rule });
    }
}
