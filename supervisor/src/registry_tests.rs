use super::*;
use crate::server::lonely_daemon;

fn key(tenant: &str, notebook: &str) -> Key {
    Key { tenant: tenant.parse().unwrap(), notebook: notebook.parse().unwrap() }
}

fn asleep(daemon: &Daemon, key: Key) {
    let open = Arc::new(Held::claim(&daemon.tenants.named(&key.tenant), Counted::Notebooks, 1));
    let settings = Settings { profile: "default".to_owned(), pinned: false, evicted: true };
    let sleeper = Sleeper { settings, executions: 0, open };
    daemon.notebooks.lock().asleep.insert(key, sleeper);
}

#[tokio::test]
async fn each_tenant_has_its_own_listed_whether_they_sleep_or_not() {
    let (_temp, daemon) = lonely_daemon();
    for tenant in ["uid-1", "uid-2"] {
        asleep(&daemon, key(tenant, &format!("sleeps-{tenant}")));
        let wakes = key(tenant, &format!("wakes-{tenant}"));
        open(&daemon, wakes.clone(), None).await.unwrap();
        assert!(find(&daemon, &wakes).is_some());
    }
    for tenant in ["uid-1", "uid-2"] {
        let (listed, more) = list(&daemon, &tenant.parse().unwrap(), None).await;
        let names: Vec<_> = listed.iter().map(|info| info.notebook.to_string()).collect();
        assert_eq!((names, more), (vec![format!("sleeps-{tenant}"), format!("wakes-{tenant}")], false));
    }
    let metrics = crate::overview::metrics(&daemon);
    assert!(metrics.contains("cellblock_notebooks{state=\"asleep\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn long_list_comes_in_parts_each_behind_the_last_name_of_the_one_before() {
    let (_temp, daemon) = lonely_daemon();
    const ALL: usize = 2 * MOST_LISTED + 7;
    for number in 0..ALL {
        asleep(&daemon, key("operator", &format!("n{number:05}")));
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let (listed, more) = list(&daemon, &TenantId::operator(), after.as_ref()).await;
        assert!(listed.len() <= MOST_LISTED, "{}", listed.len());
        names.extend(listed.into_iter().map(|info| info.notebook));
        after = names.last().cloned();
        if !more {
            break;
        }
    }
    assert!(names.len() == ALL && names.is_sorted(), "{}", names.len());
}

#[tokio::test]
async fn notebook_that_was_open_before_a_restart_is_found_and_counted_until_it_is_closed() {
    let (_temp, daemon) = lonely_daemon();
    let notebook = key("uid-1", "a");
    let tenant = daemon.tenants.named(&notebook.tenant);
    let settings = Settings { profile: "default".to_owned(), pinned: true, evicted: true };
    assert!(find(&daemon, &notebook).is_none());
    workspace::open(&daemon.state, &notebook, None).unwrap();
    workspace::remember(&daemon.state, &notebook, &settings).unwrap();
    let entry = find(&daemon, &notebook).unwrap();
    assert_eq!(tenant.uses(Counted::Notebooks), 1);
    assert!(info(&entry).await.unwrap().pinned);
    let responder = crate::outbox::Responder::to_nobody();
    entry.inbox.send(Message::Close { delete: false, responder }).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(10), entry.inbox.closed()).await.unwrap();
    drop(entry);
    assert_eq!(tenant.uses(Counted::Notebooks), 0);
    assert!(find(&daemon, &notebook).is_none());
}

/// More than a notebook waits for a wish.
async fn a_while_passes() {
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}

#[tokio::test]
async fn notebook_sleeps_when_nobody_is_about_to_ask_it_and_is_known_as_it_was() {
    let (_temp, daemon) = lonely_daemon();
    let notebook = key("uid-1", "a");
    workspace::open(&daemon.state, &notebook, None).unwrap();
    let settings = Settings { profile: "default".to_owned(), pinned: true, evicted: true };
    workspace::remember(&daemon.state, &notebook, &settings).unwrap();
    let found = find(&daemon, &notebook).unwrap();
    assert!(info(&found).await.unwrap().evicted, "it was open before we came");
    a_while_passes().await;
    assert!(daemon.notebooks.get(&notebook).is_some(), "who has found it would speak to nobody");
    drop(found);
    a_while_passes().await;
    {
        let known = daemon.notebooks.lock();
        let sleeper = known.asleep.get(&notebook).unwrap();
        assert!(sleeper.settings.evicted && sleeper.settings.pinned && known.awake.is_empty());
    }
    let woken = find(&daemon, &notebook).unwrap();
    let info = info(&woken).await.unwrap();
    assert!(info.evicted && info.pinned, "{info:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_open_the_same_at_the_same_moment_all_have_it_and_it_is_told_once() {
    let (_temp, daemon) = lonely_daemon();
    look_for_sleepers(&daemon);
    let mut events = daemon.events.subscribe();
    for round in 0..50 {
        let notebook = key("uid-1", &format!("n{round}"));
        let opens: Vec<_> = (0..4)
            .map(|_| {
                let (daemon, notebook) = (Arc::clone(&daemon), notebook.clone());
                tokio::spawn(async move { open(&daemon, notebook, None).await.map(|_| ()) })
            })
            .collect();
        for opened in opens {
            assert_eq!(opened.await.unwrap(), Ok(()));
        }
        let told = events.try_recv();
        assert!(matches!(told, Ok(NotebookEvent::Opened { .. })), "{told:?}");
        events.try_recv().unwrap_err();
    }
}
