//! How the daemon ends. Drained (SIGTERM, SIGINT, `cellctl drain`): no new Execution begins, cells that run have time, what
//! is being saved is finished; a second signal hurries. Or handed over (SIGHUP, a shutdown): at once, and everything that
//! runs goes on in its shim until the next daemon takes it back. In both cases a private daemon leaves nothing.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cellblock_proto::client::Reply;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::daemon::Daemon;
use crate::log::chain;
use crate::notebook::Message;
use crate::outbox::Responder;
use crate::systemd;
use crate::workspace;

/// How long a private daemon's workers have to save what they have.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at who still runs something.
const GLANCE: Duration = Duration::from_millis(20);

/// How long clients have to read the ends of what ran.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

/// How long what is being saved has when cells have no time left.
const SAVE_PATIENCE: Duration = Duration::from_secs(10);

/// What goes on without the daemon when it has ended, for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Executions that run.
    pub(crate) running: u32,
    /// Executions that wait.
    pub(crate) waiting: u32,
    /// Notebooks that are being saved.
    pub(crate) unsaved: u32,
}

impl Drained {
    /// Whether nothing that was begun is left.
    pub(crate) fn is_clean(self) -> bool {
        self.running == 0 && self.unsaved == 0
    }
}

#[derive(Debug, Default)]
struct Asked {
    /// Who is told what is left.
    clients: Vec<Responder>,
    /// How many seconds the last of them who has spoken of time has given, and when.
    seconds: Option<(u32, Instant)>,
}

/// Whether the daemon is being drained, and for whom.
#[derive(Debug, Default)]
pub(crate) struct Draining {
    on: AtomicBool,
    asked: Mutex<Asked>,
    wanted: Notify,
}

impl Draining {
    /// Whether new Executions are refused.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// A client asks for it.
    pub(crate) fn ask(&self, seconds: Option<u32>, responder: Responder) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clients.push(responder);
        asked.seconds = seconds.map(|seconds| (seconds, Instant::now())).or(asked.seconds);
        drop(asked);
        self.wanted.notify_one();
    }

    fn seconds(&self) -> Option<(u32, Instant)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).seconds
    }

    fn answer(&self, left: Drained) {
        let asked = std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner).clients);
        let Drained { running, waiting, unsaved } = left;
        for responder in asked {
            responder.answer(&Reply::Drained { running, waiting, unsaved }, None);
        }
    }
}

/// The signals that end the daemon, from the first moment on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

enum Told {
    Drain(&'static str),
    HandOver(&'static str),
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// # Cancel safety
    /// Safe: a signal that has come is told again.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Drain("SIGTERM"),
            _ = self.interrupt.recv() => Told::Drain("SIGINT"),
            _ = self.hang_up.recv() => Told::HandOver("SIGHUP"),
        }
    }
}

/// Returns when the daemon is to go down, with what it leaves. Clients are served meanwhile.
pub(crate) async fn until_the_end(daemon: &Arc<Daemon>, signals: &mut Signals, seconds: u32) -> Drained {
    let mut ending = daemon.ending.subscribe();
    let told = tokio::select! {
        told = signals.next() => told,
        () = daemon.draining.wanted.notified() => Told::Drain("a client asked for it"),
        () = stdin_ended(), if daemon.private => Told::HandOver("standard input ended"),
        _ = ending.wait_for(|ending| *ending) => Told::HandOver("a client asked for it"),
    };
    let left = match told {
        Told::HandOver(reason) => {
            let Drained { running, waiting, .. } = look(daemon);
            tracing::info!(reason, running, waiting, "ending");
            systemd::stopping(reason);
            return Drained::default();
        }
        Told::Drain(reason) => {
            let asked = daemon.draining.seconds().unwrap_or((seconds, Instant::now()));
            tracing::info!(reason, seconds = asked.0, "draining: what runs has time, nothing new begins");
            let left = tokio::select! {
                left = drain(daemon, asked) => left,
                _ = signals.next() => {
                    tracing::warn!("told again: hurrying");
                    look(daemon)
                }
                _ = ending.wait_for(|ending| *ending) => look(daemon),
            };
            // Not before: from then on systemd waits for no longer than for one that hangs.
            systemd::stopping(reason);
            left
        }
    };
    let Drained { running, waiting, unsaved } = left;
    match left.is_clean() {
        true => tracing::info!(waiting, "nothing runs"),
        false => {
            tracing::warn!(running, waiting, unsaved, "this goes on without cellblockd, for the next one")
        }
    }
    daemon.draining.answer(left);
    left
}

async fn drain(daemon: &Daemon, asked: (u32, Instant)) -> Drained {
    daemon.draining.on.store(true, Ordering::Relaxed);
    // What waits does not begin any more.
    let _hold = daemon.runners.hold();
    let mut clean_since = None;
    loop {
        // Whoever asks again may change it.
        let (seconds, since) = daemon.draining.seconds().unwrap_or(asked);
        let until = since + Duration::from_secs(seconds.into());
        let left = look(daemon);
        let is_late = match left.running {
            0 => Instant::now() >= until + SAVE_PATIENCE,
            _ => Instant::now() >= until,
        };
        if is_late {
            return left;
        }
        if left.is_clean() {
            // Who does not read it does not keep us.
            let told = *clean_since.get_or_insert_with(Instant::now) + TELL_PATIENCE;
            if Instant::now() >= told || !is_telling(daemon) {
                return left;
            }
        }
        sleep(GLANCE).await;
    }
}

fn is_telling(daemon: &Daemon) -> bool {
    daemon.notebooks.lock().awake.values().any(|entry| entry.vitals.get().is_telling)
}

fn look(daemon: &Daemon) -> Drained {
    let notebooks = daemon.notebooks.lock();
    notebooks.awake.values().map(|entry| entry.vitals.get()).fold(Drained::default(), |left, signs| Drained {
        running: left.running + u32::from(signs.is_running),
        waiting: left.waiting + signs.waiting,
        unsaved: left.unsaved + u32::from(signs.is_saving),
    })
}

/// A thread of its own: tokio's would keep the runtime from ending while it reads.
async fn stdin_ended() {
    let (ended, wait) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut stdin = io::stdin().lock();
        while stdin.read(&mut buffer).is_ok_and(|count| count > 0) {}
        drop(ended);
    });
    // It is dropped, never sent.
    let _ = wait.await;
}

/// A daemon that others use leaves its workers to the next one; a private one leaves nothing.
pub(crate) async fn go_down(daemon: &Arc<Daemon>) {
    daemon.ending.send_replace(true);
    daemon.warm.end().await;
    let ending = tokio::task::spawn_blocking({
        let daemon = Arc::clone(daemon);
        move || daemon.audit.flush()
    });
    // A thread that panics has nothing more to say.
    let _ = ending.await;
    if !daemon.private {
        daemon.runtime.remove_socket();
        return;
    }
    if !daemon.ephemeral {
        close_notebooks(daemon).await;
    }
    if let Err(error) = daemon.anchor.shutdown().await {
        tracing::error!(
            error = chain(&error),
            "the anchor could not be ended; its workers end by themselves soon"
        );
    }
    daemon.runtime.remove(daemon.ephemeral);
}

/// Closes all notebooks, and ends their workers in order: each finishes what is being saved.
pub(crate) async fn close_notebooks(daemon: &Daemon) {
    let (entries, sleepers) = {
        let mut known = daemon.notebooks.lock();
        (known.awake.values().cloned().collect::<Vec<_>>(), std::mem::take(&mut known.asleep))
    };
    // Those have a word on the disk and nothing else.
    sleepers.keys().for_each(|notebook| workspace::forget(&daemon.state, notebook));
    let closing = async {
        for entry in &entries {
            let message = Message::Close { delete: false, responder: Responder::to_nobody() };
            // One that is closed already does not listen.
            let _ = entry.inbox.send(message).await;
        }
        for entry in &entries {
            entry.inbox.closed().await;
        }
    };
    if tokio::time::timeout(CLOSE_PATIENCE, closing).await.is_err() {
        tracing::warn!("not all workers have ended in time; the anchor ends them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Key;
    use crate::server::lonely_daemon;
    use crate::vitals::Signs;

    fn key() -> Key {
        Key::own("a".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_is_waited_for_then_what_is_saved_then_who_is_told() {
        let (_temp, daemon) = lonely_daemon();
        let (_told, vitals) = daemon.pretend(&key(), Signs { is_running: true, ..Signs::default() });
        let begun = Instant::now();
        let draining = tokio::spawn({
            let daemon = Arc::clone(&daemon);
            async move { drain(&daemon, (60, begun)).await }
        });
        for next in [
            Signs { is_saving: true, ..Signs::default() },
            Signs { is_telling: true, ..Signs::default() },
            Signs { waiting: 3, ..Signs::default() },
        ] {
            sleep(Duration::from_secs(1)).await;
            assert!(!draining.is_finished(), "before {next:?}");
            vitals.set(next);
        }
        let left = draining.await.unwrap();
        assert_eq!(left, Drained { waiting: 3, ..Drained::default() });
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_keeps_it_for_longer_than_it_has() {
        for (signs, seconds, is_clean) in [
            (Signs { is_running: true, ..Signs::default() }, 60, false),
            (Signs { is_saving: true, ..Signs::default() }, 70, false),
            (Signs { is_telling: true, ..Signs::default() }, 2, true),
        ] {
            let (_temp, daemon) = lonely_daemon();
            let (_told, _vitals) = daemon.pretend(&key(), signs);
            let begun = Instant::now();
            let left = drain(&daemon, (60, begun)).await;
            assert_eq!((begun.elapsed().as_secs(), left.is_clean()), (seconds, is_clean), "{signs:?}");
        }
    }

    #[tokio::test]
    async fn deeds_that_are_not_in_the_audit_log_yet_are_written_before_the_end() {
        use crate::audit::{Audit, Peer};
        use cellblock_proto::client::Request;
        const DEEDS: u32 = 4000;
        let (temp, mut daemon) = lonely_daemon();
        let path = temp.path().join("audit.jsonl");
        let audit = Audit::to_file(&path, daemon.metrics.audit_lost()).unwrap();
        Arc::get_mut(&mut daemon).unwrap().audit = audit;
        for number in 0..DEEDS {
            daemon.audit.asked(&Peer::default(), number, &Request::Shutdown, b"");
        }
        go_down(&daemon).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), DEEDS as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_may_give_less_time() {
        let (_temp, daemon) = lonely_daemon();
        let (_told, _vitals) = daemon.pretend(&key(), Signs { is_running: true, ..Signs::default() });
        let begun = Instant::now();
        let again = async {
            sleep(Duration::from_secs(5)).await;
            daemon.draining.ask(Some(1), Responder::to_nobody());
        };
        let (left, ()) = tokio::join!(drain(&daemon, (60, begun)), again);
        assert_eq!((begun.elapsed().as_secs(), left.running), (6, 1));
    }
}
