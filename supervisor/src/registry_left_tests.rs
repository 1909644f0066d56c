//! Which notebooks are open, when nobody has opened them since the daemon came up.

use std::fs;
use std::sync::Arc;

use super::{find, look_for_sleepers};
use crate::daemon::{Daemon, Key};
use crate::notebook_tests::daemon;
use crate::workspace::{self, Settings};

/// Leaves an open notebook behind, as a daemon before us would.
fn left(daemon: &Daemon, name: &str, evicted: bool) -> Key {
    let key = Key::own(name.parse().unwrap());
    workspace::open(&daemon.state, &key, None).unwrap();
    let settings = Settings { profile: "default".to_owned(), pinned: false, evicted };
    workspace::remember(&daemon.state, &key, &settings).unwrap();
    key
}

fn is_open(daemon: &Arc<Daemon>, key: &Key) -> bool {
    find(daemon, key).is_some()
}

#[tokio::test]
async fn disk_is_asked_about_a_name_only_until_all_that_were_left_have_been_found() {
    let (_temp, daemon, _shims) = daemon().await;
    let [early, late] = ["early", "late"].map(|name| left(&daemon, name, false));
    assert!(is_open(&daemon, &early), "it is found before it has been looked for");
    look_for_sleepers(&daemon);
    assert!(daemon.notebooks.lock().asleep.contains_key(&late));
    assert!(is_open(&daemon, &late));
    // What stands for a look at the disk: one that appears behind our back is not seen.
    let unseen = left(&daemon, "unseen", false);
    assert!(!is_open(&daemon, &unseen));
}

#[tokio::test]
async fn where_not_all_could_be_looked_for_each_is_when_it_is_asked_for() {
    let (_temp, daemon, _shims) = daemon().await;
    fs::create_dir_all(&daemon.state).unwrap();
    fs::write(daemon.state.join("tenants"), "no folder").unwrap();
    let key = left(&daemon, "left", false);
    look_for_sleepers(&daemon);
    assert!(is_open(&daemon, &key));
}

#[tokio::test]
async fn whether_its_worker_was_evicted_is_known_of_one_that_was_left() {
    let (_temp, daemon, _shims) = daemon().await;
    left(&daemon, "evicted", true);
    left(&daemon, "never-ran", false);
    // As a build before this one wrote it.
    let old = Key::own("old".parse().unwrap());
    let folder = workspace::open(&daemon.state, &old, None).unwrap();
    fs::write(folder.parent().unwrap().join("notebook.json"), r#"{"profile":"default","pinned":true}"#)
        .unwrap();
    look_for_sleepers(&daemon);
    let told: Vec<_> = super::asleep(&daemon, None)
        .into_iter()
        .map(|info| (info.notebook.to_string(), info.evicted, info.pinned))
        .collect();
    let expected = [("evicted", true, false), ("never-ran", false, false), ("old", false, true)];
    assert_eq!(told, expected.map(|(name, evicted, pinned)| (name.to_owned(), evicted, pinned)));
}
