//! A notebook whose worker is to be replaced by another: it goes as soon as it has nothing to do. One is of another
//! build; the workspace of another can only be read, until the next mounts it anew.

use std::time::Duration;

use cellblock_proto::execution::{NoticeTopic, Output, OutputFrame};

use super::evicting::Released;
use super::{Notebook, ToGo};
use crate::build::build;
use crate::entry::blocking;
use crate::evict::Answer;
use crate::machine::{Evict, Input};
use crate::{log, outdated, workspace};

/// How long nobody must have wanted a worker of which nothing is ever saved.
const UNWANTED: Duration = Duration::from_secs(600);

impl Notebook {
    /// Whoever drains such workers wants it gone; what comes from now on waits for the next.
    pub(super) fn replace(&mut self, answer: Answer) {
        let why = self.live.as_ref().and_then(|live| live.to_go.clone());
        let Some(why) = why else { return drop(answer.send(Ok(()))) };
        let is_unwanted = self.idle_since.is_some_and(|since| since.elapsed() >= UNWANTED);
        if !self.life.saves && self.machine.names().next().is_some() && !is_unwanted {
            let reason = "its profile has no checkpoints, so that its variables would be lost: restart it, or \
                          leave it alone for ten minutes";
            return drop(answer.send(Err(reason.to_owned())));
        }
        if why == ToGo::WorkspaceClosed && !blocking(|| workspace::has_room(&self.daemon.state)) {
            return drop(answer.send(Err("the disk has no room for the next: make room".to_owned())));
        }
        self.evictions.push(Released::Evictor(answer));
        let (reason, with_losses) = match why {
            ToGo::Build(theirs) => (format!("it was of build {theirs}, cellblockd is of {}", build()), true),
            // What cannot be saved is worth more to some than files.
            ToGo::WorkspaceClosed => ("its workspace could only be read".to_owned(), false),
        };
        let rule = Evict { saves: self.life.saves, with_losses, firmly: true };
        self.decide(Input::Evict { reason, rule });
    }

    /// Its shim tells a client of the machine's disk, which its operator is to know of too.
    pub(super) fn hear_of_disk(&mut self, frame: &OutputFrame) {
        let Output::Notice { topic, text, .. } = &frame.output else { return };
        if !matches!(topic, NoticeTopic::DiskFull | NoticeTopic::WorkspaceClosed) {
            return;
        }
        log::execution(&frame.execution)
            .in_scope(|| tracing::warn!(told = text, "the disk did not take what a cell wrote"));
        if let Some(live) = self.live.as_mut().filter(|live| live.to_go.is_none())
            && *topic == NoticeTopic::WorkspaceClosed
        {
            live.to_go = Some(ToGo::WorkspaceClosed);
            outdated::renew(&self.daemon, self.id.clone());
        }
    }
}
