//! Warm starts: for each profile a zygote, and as many spares as it asks for.
//!
//! One task, a [`Stock`], owns the zygote and the spares of one profile as it was when it was read; another
//! edit of the profile, another Python or other packages mean another stock, and the end of this one. A
//! notebook that wants a worker asks the stock and waits for nothing: it gets a spare, or where the zygote
//! listens, or the reason why there is neither, and executes Python then.

mod spare;
mod stock;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cellblock_proto::client::WarmInfo;
use sandbox_profiles::WarmStart;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

pub(crate) use self::spare::Spare;
use self::stock::Stock;
use crate::args::Switch;
use crate::daemon::Daemon;
use crate::launch::Order;
use crate::log::chain;
use crate::{launch, profiles};

/// What a stock gives.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A worker that waits for its notebook.
    Spare(Box<Spare>),
    /// A zygote listens there.
    Zygote(PathBuf),
    /// Neither; why, where the profile asks for it.
    Nothing(Option<String>),
}

/// How long zygote and spares of a profile may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// What a stock is asked, or told.
#[derive(Debug)]
enum Ask {
    /// What there is for a worker.
    Worker(oneshot::Sender<Taken>),
    /// The zygote that listens there failed; how.
    Suspect(PathBuf, String),
}

/// A stock, as others reach it. It ends when this is dropped.
#[derive(Debug)]
struct Entry {
    key: u64,
    asks: mpsc::Sender<Ask>,
    info: watch::Receiver<WarmInfo>,
    task: JoinHandle<()>,
}

/// All stocks, by profile.
#[derive(Debug)]
pub(crate) struct Warm {
    is_on: bool,
    stocks: Mutex<BTreeMap<String, Entry>>,
}

impl Warm {
    /// None yet.
    pub(crate) fn new(switch: Switch) -> Self {
        Warm { is_on: switch == Switch::On, stocks: Mutex::default() }
    }

    /// How things stand, by profile.
    pub(crate) fn info(&self) -> Vec<WarmInfo> {
        self.lock().values().map(|entry| entry.info.borrow().clone()).collect()
    }

    /// Ends all, and waits for it.
    pub(crate) async fn end(&self) {
        let stocks = std::mem::take(&mut *self.lock());
        for Entry { asks, task, .. } in stocks.into_values() {
            drop(asks);
            // What is left is ended by the end of our sockets.
            let _ = tokio::time::timeout(END_PATIENCE, task).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.stocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warms the profile that notebooks get when nobody names one, before there is any.
pub(crate) fn begin(daemon: &Arc<Daemon>) {
    if !daemon.warm.is_on {
        return;
    }
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        let name = profiles::DEFAULT.to_owned();
        let order = match launch::nobodys(&daemon, name).await {
            Ok(order) => order,
            Err(error) => return tracing::warn!(error = chain(&error), "no zygote at the start"),
        };
        let _ = ask(&daemon, &order);
    });
}

/// Says that a worker of a profile's zygote could not be started.
pub(crate) fn suspect(daemon: &Daemon, profile: &str, zygote: PathBuf, why: &str) {
    if let Some(entry) = daemon.warm.lock().get(profile) {
        // A stock that is too busy to be told will be told by the next.
        let _ = entry.asks.try_send(Ask::Suspect(zygote, why.to_owned()));
    }
}

/// Ends what a profile has that is no more, or executes its workers now.
pub(crate) fn forget(daemon: &Daemon, profile: &str) {
    daemon.warm.lock().remove(profile);
}

/// What there is for a worker like this. The first to ask begins a stock.
pub(crate) async fn take(daemon: &Arc<Daemon>, order: &Order) -> Taken {
    let Some(asks) = ask(daemon, order) else { return Taken::Nothing(None) };
    let (reply, answer) = oneshot::channel();
    let gone = || Taken::Nothing(Some("the zygote's keeper has ended".to_owned()));
    if asks.send(Ask::Worker(reply)).await.is_err() {
        return gone();
    }
    answer.await.unwrap_or_else(|_| gone())
}

/// The stock that this order belongs to; `None` when it asks for none.
fn ask(daemon: &Arc<Daemon>, order: &Order) -> Option<mpsc::Sender<Ask>> {
    if order.profile.warm_start == WarmStart::Exec {
        forget(daemon, &order.profile_name);
        return None;
    }
    if !daemon.warm.is_on || *daemon.ending.borrow() {
        return None;
    }
    let key = key(order);
    let mut stocks = daemon.warm.lock();
    if let Some(entry) = stocks.get(&order.profile_name).filter(|entry| entry.key == key) {
        return Some(entry.asks.clone());
    }
    let (asks, inbox) = mpsc::channel(64);
    let profile = order.profile_name.clone();
    let nobodys = launch::of_nobody(daemon, order)?;
    let (stock, info) = Stock::new(Arc::clone(daemon), nobodys, inbox);
    let span = tracing::info_span!(parent: None, "warm", profile);
    let task = tokio::spawn(stock.run().instrument(span));
    stocks.insert(profile, Entry { key, asks: asks.clone(), info, task });
    Some(asks)
}

/// Changes with all that a worker is made of but its notebook.
fn key(order: &Order) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?} {:?}", order.profile, order.python).hash(&mut hasher);
    // Its name changes with the packages that are installed.
    order.cache.hash(&mut hasher);
    hasher.finish()
}
