//! The zygote and the spares of one profile: kept up, refilled, and told about.

use std::collections::VecDeque;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::client::{WarmInfo, ZygoteState};
use cellblock_proto::shim::{EventBody, StartFailure};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::spare::{self, Held, Spare};
use super::{Ask, Taken};
use crate::daemon::Daemon;
use crate::launch::{self, Launched, Order, Program};
use crate::link::LinkReader;
use crate::log::chain;

/// How long imports may take: over a cold disk, minutes would be too long to wait in any case.
const IMPORT_PATIENCE: Duration = Duration::from_secs(120);

/// Spares are made when nobody has asked for so long: making one takes a core from those who wait for
/// theirs, and from the first cell of who has just got one, …
const QUIET: Duration = Duration::from_millis(250);

/// …but while somebody always asks, not more seldom than this.
const LONGEST_QUIET: Duration = Duration::from_secs(2);

/// After a failure, doubled each time until…
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// …this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Workspace images that are ready where there are no spares: making one takes a tenth of a forked start.
const IMAGES: u32 = 2;

#[derive(Debug)]
enum Zygote {
    Starting { launched: Launched, socket: PathBuf, until: Instant },
    Up { launched: Launched, socket: PathBuf },
    Failed { why: String, again: Instant },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stock {
    daemon: Arc<Daemon>,
    order: Order,
    inbox: mpsc::Receiver<Ask>,
    info: watch::Sender<WarmInfo>,
    zygote: Zygote,
    /// What the next failure costs.
    pause: Duration,
    spares: VecDeque<Held>,
    making: Option<JoinHandle<Made>>,
    /// One may have been taken. Of a profile without spares: who makes a spare makes its image too.
    image_is_due: bool,
    /// When the next spare or image may be made.
    refill: Instant,
    last_made: Instant,
    died: Arc<Notify>,
}

/// What a task has made meanwhile; `None`: images.
type Made = Option<Result<Spare, String>>;

enum Woken {
    Asked(Option<Ask>),
    Zygote(Result<EventBody, String>),
    Made(Made),
    SpareDied,
    Time,
    Ending,
}

impl Stock {
    /// One that has nothing yet. `order` is for a notebook of which nothing is used but what all share.
    pub(super) fn new(
        daemon: Arc<Daemon>,
        order: Order,
        inbox: mpsc::Receiver<Ask>,
    ) -> (Self, watch::Receiver<WarmInfo>) {
        let now = Instant::now();
        let info = WarmInfo {
            profile: order.profile_name.clone(),
            zygote: ZygoteState::Starting,
            detail: String::new(),
            spares_ready: 0,
            spares_wanted: order.profile.spares,
        };
        let (info, told) = watch::channel(info);
        let stock = Stock {
            daemon,
            order,
            inbox,
            info,
            zygote: Zygote::Failed { why: "the zygote is starting".to_owned(), again: now },
            pause: FIRST_PAUSE,
            spares: VecDeque::new(),
            making: None,
            image_is_due: true,
            refill: now,
            last_made: now,
            died: Arc::new(Notify::new()),
        };
        (stock, told)
    }

    /// Serves until nobody can ask any more, or the daemon ends.
    pub(super) async fn run(mut self) {
        let mut ending = self.daemon.ending.subscribe();
        loop {
            self.spares.retain(Held::lives);
            self.begin_zygote().await;
            self.begin_refill();
            self.tell();
            let deadline = self.deadline();
            let woken = tokio::select! {
                ask = self.inbox.recv() => Woken::Asked(ask),
                event = heard(&mut self.zygote) => Woken::Zygote(event),
                made = joined(&mut self.making) => Woken::Made(made),
                () = self.died.notified() => Woken::SpareDied,
                () = until(deadline) => Woken::Time,
                _ = ending.wait_for(|ending| *ending) => Woken::Ending,
            };
            match woken {
                Woken::Asked(Some(Ask::Worker(reply))) => self.give(reply).await,
                Woken::Asked(Some(Ask::Suspect(zygote, why))) => self.suspect(&zygote, why).await,
                Woken::Asked(None) | Woken::Ending => break,
                Woken::Zygote(event) => self.heard(event).await,
                Woken::Made(made) => {
                    self.making = None;
                    if let Some(spare) = made {
                        self.made(spare);
                    }
                }
                Woken::SpareDied => {}
                Woken::Time => self.timed().await,
            }
        }
        self.end().await;
    }

    /// A worker could not be forked. Whether it was the zygote's fault or not: another one is soon there.
    async fn suspect(&mut self, zygote: &Path, why: String) {
        // It may have been replaced meanwhile.
        if matches!(&self.zygote, Zygote::Up { socket, .. } if socket == zygote) {
            self.lose(format!("a worker could not be forked: {why}")).await;
        }
    }

    async fn give(&mut self, ask: oneshot::Sender<Taken>) {
        let now = Instant::now();
        self.image_is_due = true;
        self.refill = (now + QUIET).min(self.last_made + LONGEST_QUIET).max(now);
        while let Some(held) = self.spares.pop_front() {
            if let Some(spare) = held.take().await {
                if let Err(Taken::Spare(spare)) = ask.send(Taken::Spare(Box::new(spare))) {
                    spare::end(&self.daemon, spare.launched).await;
                }
                return;
            }
        }
        let _ = ask.send(match &self.zygote {
            Zygote::Up { socket, .. } => Taken::Zygote(socket.clone()),
            Zygote::Starting { .. } => Taken::Nothing(Some("the zygote is still starting".to_owned())),
            Zygote::Failed { why, .. } => Taken::Nothing(Some(why.clone())),
        });
    }

    async fn begin_zygote(&mut self) {
        let Zygote::Failed { again, .. } = &self.zygote else { return };
        if *again > Instant::now() {
            return;
        }
        let order = Order { program: Program::Zygote, ..self.order.clone() };
        match launch::zygote(&self.daemon, order).await {
            Ok((launched, socket)) => {
                self.zygote = Zygote::Starting { launched, socket, until: Instant::now() + IMPORT_PATIENCE };
            }
            Err(error) => self.failed(chain(&error)),
        }
    }

    async fn heard(&mut self, event: Result<EventBody, String>) {
        match event {
            Ok(EventBody::ZygoteUp { python, preloaded, took_ms }) => {
                tracing::info!(python, preloaded = preloaded.join(" "), took_ms, "zygote is up");
                self.pause = FIRST_PAUSE;
                let ended = || Zygote::Failed { why: String::new(), again: Instant::now() };
                self.zygote = match std::mem::replace(&mut self.zygote, ended()) {
                    Zygote::Starting { launched, socket, .. } => Zygote::Up { launched, socket },
                    other => other,
                };
            }
            Ok(EventBody::StartFailed { failure }) => {
                let why = match failure {
                    StartFailure::Interpreter { detail } => detail,
                    StartFailure::Step { step, error, .. } => format!("failed to {step}: {error}"),
                    StartFailure::Warm { why } => why,
                };
                self.lose(format!("the zygote did not start: {why}")).await;
            }
            Ok(other) => self.lose(format!("the zygote's shim said {other:?}")).await,
            Err(why) => self.lose(format!("the zygote has ended: {why}")).await,
        }
    }

    /// The zygote is no more; its workers and spares are.
    async fn lose(&mut self, why: String) {
        self.end_zygote().await;
        self.failed(why);
    }

    async fn end_zygote(&mut self) {
        let gone = Zygote::Failed { why: String::new(), again: Instant::now() };
        match std::mem::replace(&mut self.zygote, gone) {
            Zygote::Starting { launched, .. } | Zygote::Up { launched, .. } => {
                spare::end(&self.daemon, launched).await;
            }
            Zygote::Failed { .. } => {}
        }
    }

    fn failed(&mut self, why: String) {
        tracing::warn!(why, again_s = self.pause.as_secs(), "no zygote: workers are executed meanwhile");
        self.zygote = Zygote::Failed { why, again: Instant::now() + self.pause };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Whether something is to be made: spares, or images for a profile that has none.
    fn is_short(&self) -> bool {
        let wanted = usize::try_from(self.order.profile.spares).unwrap_or(usize::MAX);
        let is_short = if wanted == 0 { self.image_is_due } else { self.spares.len() < wanted };
        is_short && self.making.is_none() && matches!(self.zygote, Zygote::Up { .. })
    }

    fn begin_refill(&mut self) {
        let Zygote::Up { socket, .. } = &self.zygote else { return };
        if !self.is_short() || self.refill > Instant::now() {
            return;
        }
        let (daemon, order, socket) = (Arc::clone(&self.daemon), self.order.clone(), socket.clone());
        self.image_is_due = false;
        self.last_made = Instant::now();
        let making = async move {
            if order.profile.spares > 0 {
                return Some(Spare::make(&daemon, order, socket).await);
            }
            spare::make_images(&daemon, &order, IMAGES).await;
            None
        };
        self.making = Some(tokio::spawn(making.in_current_span()));
    }

    fn made(&mut self, made: Result<Spare, String>) {
        match made {
            Ok(spare) => {
                self.spares.push_back(Held::new(Arc::clone(&self.daemon), spare, Arc::clone(&self.died)))
            }
            Err(why) => {
                tracing::warn!(why, "no spare");
                self.refill = Instant::now() + self.pause;
            }
        }
    }

    async fn timed(&mut self) {
        if let Zygote::Starting { until, .. } = &self.zygote
            && *until <= Instant::now()
        {
            self.lose(format!("the zygote was not ready after {} s", IMPORT_PATIENCE.as_secs())).await;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let zygote = match &self.zygote {
            Zygote::Starting { until, .. } => Some(*until),
            Zygote::Failed { again, .. } => Some(*again),
            Zygote::Up { .. } => None,
        };
        zygote.into_iter().chain(Some(self.refill).filter(|_| self.is_short())).min()
    }

    fn tell(&self) {
        let (zygote, detail) = match &self.zygote {
            Zygote::Starting { .. } => (ZygoteState::Starting, String::new()),
            Zygote::Up { .. } => (ZygoteState::Up, String::new()),
            Zygote::Failed { why, .. } => (ZygoteState::Failed, why.clone()),
        };
        let spares_ready = u32::try_from(self.spares.len()).unwrap_or(u32::MAX);
        self.info.send_modify(|info| {
            (info.zygote, info.detail, info.spares_ready) = (zygote, detail, spares_ready);
        });
    }

    async fn end(mut self) {
        self.end_zygote().await;
        if let Some(making) = self.making.take()
            && let Ok(Some(Ok(spare))) = making.await
        {
            spare::end(&self.daemon, spare.launched).await;
        }
        for held in std::mem::take(&mut self.spares) {
            if let Some(spare) = held.take().await {
                spare::end(&self.daemon, spare.launched).await;
            }
        }
    }
}

/// What the zygote's shim says next.
async fn heard(zygote: &mut Zygote) -> Result<EventBody, String> {
    let reader: &mut LinkReader = match zygote {
        Zygote::Starting { launched, .. } | Zygote::Up { launched, .. } => &mut launched.reader,
        Zygote::Failed { .. } => return pending().await,
    };
    match reader.arrival().await {
        Ok(arrival) => Ok(arrival.event.body),
        Err(error) => Err(chain(&error)),
    }
}

async fn joined(making: &mut Option<JoinHandle<Made>>) -> Made {
    match making {
        Some(handle) => handle.await.unwrap_or_else(|error| Some(Err(error.to_string()))),
        None => pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
