//! Workers that are forked from a zygote: in the same place, with the same ends, as those that are executed;
//! and what becomes of them when zygote or daemon ends.

use std::fs;

use cellblock_proto::client::{NotebookStatus, Reply, Request, ZygoteState};
use cellblock_proto::execution::{Death, End, Limit};
use cellblock_tests::client::Answer;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::leftovers::Process;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::{Setup, Who};
use cellblock_tests::{as_root_and_user, in_every_mode, in_one_mode, wait};
use rustix::process::{Pid, Signal, kill_process};
use sandbox_profiles::Start;

in_every_mode!(
    forked_worker_sees_what_an_executed_one_sees,
    what_a_fork_shares_by_accident_is_drawn_anew,
    join_holds_before_and_after_a_restart_of_the_daemon,
);
as_root_and_user!(
    join_holds_without_cgroups,
    death_of_the_zygote_harms_no_worker_and_is_healed,
    death_of_the_zygote_in_the_middle_of_openings_fails_none,
    zygote_that_does_not_answer_is_replaced_and_python_is_executed,
    preload_that_fails_is_named_and_python_is_executed,
    spares_that_die_are_replaced_and_none_is_used_twice,
    spare_that_ends_or_hangs_as_it_is_claimed_fails_no_notebook,
    an_edit_of_the_profile_holds_from_the_next_worker_on,
);
in_one_mode!(
    join_holds_where_the_outer_proc_is_masked,
    limits_hold_in_a_forked_worker,
    what_a_zygote_has_reserved_is_not_its_workers_to_have_used,
    workspace_images_are_ready_where_there_are_no_spares,
);

/// Not pandas: a zygote that imports little is up in a third of a second.
const FORKS: &str = "version = 1\nwarm_start = 'zygote'\npreload = ['decimal', 'no_such_module?']\n";

fn warm(setup: Setup, spares: u32) -> Setup {
    let profile = |spares| format!("{FORKS}spares = {spares}\n");
    // The default is warmed at the start; the other begins when it is first asked for.
    setup.warm().profile("default", &profile(spares)).profile("exec", "version = 1\n")
}

fn start_of(status: &NotebookStatus) -> Start {
    status.report.clone().expect("a worker has a report").start
}

/// A notebook whose worker is up, and was forked.
fn forked(daemon: &Daemon, name: &str) -> Notebook {
    let mut notebook = daemon.notebook(name);
    notebook.run("pass").ok();
    assert_eq!(start_of(&notebook.status()), Start::Zygote, "{}", daemon.log());
    notebook
}

fn worker(notebook: &mut Notebook) -> i32 {
    notebook.status().worker_pid.expect("a worker is up").cast_signed()
}

fn field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} of {pid}")).trim().to_owned()
}

fn namespace(pid: i32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.display().to_string()
}

/// The process that forks: a Python of the daemon's in our own pid namespace.
fn zygote(daemon: &Daemon) -> Option<Process> {
    let own = namespace(std::process::id().cast_signed(), "pid");
    let is_here = |pid| {
        fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link.display().to_string() == own)
    };
    daemon.processes().into_iter().find(|process| process.name.starts_with("python") && is_here(process.pid))
}

/// Everything that a cell could tell one start from the other by, and should not.
const LOOK: &str = r"
import gc, json, locale, os, resource, signal, sys, threading, warnings, logging
link = lambda fd: os.readlink(f'/proc/self/fd/{fd}').split(':')[0]
seen = {
    'names': sorted(name for name in globals() if name not in ('link', 'seen')),
    'environment': dict(os.environ), 'argv': sys.argv, 'path': sys.path, 'flags': str(sys.flags),
    'cwd': os.getcwd(), 'umask': os.umask(0o22), 'ids': os.getresuid() + os.getresgid(), 'groups': os.getgroups(),
    'parent': os.getppid(),
    'signals': {str(name): str(signal.getsignal(name)).split(' at ')[0] for name in signal.valid_signals()},
    'mask': sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    'files': sorted(link(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')),
    'threads': [thread.name for thread in threading.enumerate()],
    # A fork's limit of private memory is on what comes on top of its zygote's.
    'limits': {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
        if name[:7] == 'RLIMIT_' and name != 'RLIMIT_DATA'},
    'gc': [gc.isenabled(), gc.get_threshold()], 'locale': locale.setlocale(locale.LC_ALL),
    'filters': [str(one) for one in warnings.filters], 'hooks': [str(type(one)) for one in sys.meta_path],
    'maps': open('/proc/self/uid_map').read() + open('/proc/self/gid_map').read(),
    'cgroup': open('/proc/self/cgroup').read(), 'dumpable': os.stat('/proc/self/environ').st_uid == os.getuid(),
    'nice': [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))],
    'mounts': sorted(line.split(' ')[4] for line in open('/proc/self/mountinfo')),
    'tmp': sorted(os.path.join(folder, name) for folder, _, names in os.walk('/tmp') for name in names),
    'count': get_ipython().execution_count, 'history': len(In), 'out': len(Out),
    'loggers': [logging.root.level, len(logging.root.handlers)],
    'status': [line for line in open('/proc/self/status') if line[:3] in ('Cap', 'NoN', 'Sec')],
}
print(json.dumps(seen, indent=0, sort_keys=True))
";

fn forked_worker_sees_what_an_executed_one_sees(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 1));
    daemon.warmed("default");
    let spare = forked(&daemon, "spare").run(LOOK).ok().stdout();
    let direct = forked(&daemon, "direct").run(LOOK).ok().stdout();
    let mut executed = daemon.notebook_under("executed", "exec");
    let wanted = executed.run("pass").ok().stdout() + &executed.run(LOOK).ok().stdout();
    assert_eq!(start_of(&executed.status()), Start::Exec);
    let plain = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    for (name, seen) in [("spare", spare), ("direct", direct)] {
        let (seen, wanted) = (plain(&seen), plain(&wanted));
        let differs: Vec<_> = seen.iter().filter(|line| !wanted.contains(line)).collect();
        let lacks: Vec<_> = wanted.iter().filter(|line| !seen.contains(line)).collect();
        assert!(differs.is_empty() && lacks.is_empty(), "{name} has {differs:#?} and lacks {lacks:#?}");
    }
}

fn what_a_fork_shares_by_accident_is_drawn_anew(setup: Setup) {
    let profile =
        format!("{}spares = 2\n", FORKS.replace("'decimal'", "'numpy?', 'uuid', 'multiprocessing', 'ssl'"));
    let daemon = Daemon::start(setup.warm().profile("default", &profile));
    daemon.warmed("default");
    let draw = "import random, uuid, tempfile, secrets, ssl, multiprocessing as mp\n\
                print(random.random(), secrets.token_hex(8), ssl.RAND_bytes(8).hex(), uuid.uuid4(), sep='\\n')\n\
                print(uuid.getnode(), uuid.uuid1().clock_seq, next(tempfile._get_candidate_names()), sep='\\n')\n\
                print(mp.current_process().authkey.hex())\n\
                try: import numpy\nexcept ImportError: print(random.random())\n\
                else: print(numpy.random.random())";
    let drawn: Vec<Vec<String>> = ["a", "b", "c"]
        .map(|name| forked(&daemon, name).run(draw).ok().stdout().lines().map(str::to_owned).collect())
        .to_vec();
    for (at, one) in drawn.iter().enumerate() {
        assert_eq!(one.len(), 9, "{one:?}");
        for other in &drawn[at + 1..] {
            // A clock sequence has 14 bits, so that two may be equal by chance; not all else.
            let equal: Vec<_> = one.iter().zip(other).filter(|(a, b)| a == b && a.len() > 5).collect();
            assert!(equal.is_empty(), "{equal:?}");
        }
    }
    // What is asked for by a seed is the same everywhere.
    let seeded = "import random\nrandom.seed(7)\nprint(random.random())";
    assert_eq!(
        daemon.notebook("a").run(seeded).ok().stdout(),
        daemon.notebook("b").run(seeded).ok().stdout()
    );
}

/// What must hold of each worker that was forked: whose child it is, where it is, how it ends.
fn check_join(daemon: &Daemon, name: &str) {
    let mut notebook = forked(daemon, name);
    let pid = worker(&mut notebook);
    let init: i32 = field(pid, "PPid").parse().unwrap();
    assert!(field(init, "NSpid").ends_with("\t1"), "the worker's parent is init: {}", field(init, "NSpid"));
    assert_eq!(notebook.run("import os; print(os.getppid())").ok().stdout(), "1\n");
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(namespace(pid, kind), namespace(init, kind), "{kind}");
    }
    assert_ne!(namespace(pid, "user"), namespace(init, "user"), "its user namespace is nested");
    let groups = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(pid), groups(init), "it is in the sandbox's cgroups");
    // As the worker sees it: one id, which is nobody's on the host as root, and the daemon's own user's else.
    let map = notebook.run("print(open('/proc/self/uid_map').read().split())").ok().stdout();
    let outside = if daemon.setup().who == Who::Root { "1000" } else { "0" };
    assert_eq!(map, format!("['1000', '{outside}', '1']\n"));
    let host_uid: u32 = field(pid, "Uid").split('\t').next().unwrap().parse().unwrap();
    match daemon.setup().who {
        Who::Root => assert!(host_uid > 1 << 30, "{host_uid}"),
        Who::User => assert_eq!(host_uid, daemon.setup().who.uid()),
    }
    for barrier in notebook.status().report.unwrap().barriers {
        use sandbox_profiles::Barrier::{
            Capabilities, Keyring, Landlock, NestedUserNamespace, NoNewPrivileges,
        };
        if [Capabilities, Keyring, Landlock, NestedUserNamespace, NoNewPrivileges].contains(&barrier.barrier)
        {
            assert_eq!(barrier.state, sandbox_profiles::BarrierState::Enforced, "{barrier:?}");
        }
    }
    // The cause of its end reaches the client exactly.
    for (code, death) in [
        ("import os; os._exit(7)", Death::Exited { code: 7 }),
        ("import ctypes; ctypes.string_at(0)", Death::Signalled { signal: 11 }),
    ] {
        let ran = notebook.run(code);
        assert_eq!(ran.outcome.end, End::WorkerDied(death), "{code}");
    }
    notebook.run("1").ok();
}

fn join_holds_before_and_after_a_restart_of_the_daemon(setup: Setup) {
    let mut daemon = Daemon::start(warm(setup, 1).lasting());
    daemon.warmed("default");
    check_join(&daemon, "before");
    let mut kept = forked(&daemon, "kept");
    kept.run("x = 42").ok();
    let (kept_pid, spares) = (worker(&mut kept), {
        daemon.warmed("default");
        let known = [worker(&mut kept)];
        daemon
            .processes()
            .into_iter()
            .filter(move |process| process.name.starts_with("python") && !known.contains(&process.pid))
            .collect::<Vec<_>>()
    });
    assert!(spares.len() >= 2, "a zygote and a spare at least: {spares:?}");
    daemon.kill_hard();
    daemon.restart();
    // Those of the daemon before are no more, but for what had become a notebook's.
    let gone = wait::within(wait::PATIENCE, || {
        let mine = ["before", "kept"].map(|name| worker(&mut daemon.notebook(name)));
        spares.iter().all(|process| !process.lives() || mine.contains(&process.pid)).then_some(())
    });
    assert!(gone.is_some(), "{spares:?}");
    let mut kept = daemon.notebook("kept");
    assert_eq!((worker(&mut kept), kept.run("print(x)").ok().stdout().as_str()), (kept_pid, "42\n"));
    daemon.warmed("default");
    check_join(&daemon, "after");
}

fn join_holds_without_cgroups(setup: Setup) {
    join_holds_before_and_after_a_restart_of_the_daemon(setup.argument("--cgroup").argument("none"));
}

fn join_holds_where_the_outer_proc_is_masked(setup: Setup) {
    if setup.who != Who::Root {
        return cellblock_tests::setup::skip("only root has a way around a masked /proc");
    }
    for cgroup in ["auto", "none"] {
        let setup = setup.clone().masked_proc().argument("--cgroup").argument(cgroup);
        join_holds_before_and_after_a_restart_of_the_daemon(setup);
    }
}

fn death_of_the_zygote_harms_no_worker_and_is_healed(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 1));
    daemon.warmed("default");
    let mut notebook = forked(&daemon, "a");
    notebook.run("x = 42").ok();
    let old = zygote(&daemon).expect("a zygote");
    let running = notebook.start("import time\nprint('up')\ntime.sleep(0.5)\nprint(x)");
    kill_process(Pid::from_raw(old.pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(notebook.finish(running).ok().stdout(), "up\n42\n");
    let parent: i32 = field(worker(&mut notebook), "PPid").parse().unwrap();
    assert!(field(parent, "NSpid").ends_with("\t1"), "it is still init's");
    let new = wait::within(wait::PATIENCE, || zygote(&daemon).filter(|new| *new != old));
    assert!(new.is_some(), "no new zygote\n{}", daemon.log());
    daemon.warmed("default");
    check_join(&daemon, "b");
    check_join(&daemon, "c");
    // The end of a worker whose zygote is long gone is told as any other.
    let ran = notebook.run("import os; os._exit(7)");
    assert_eq!(ran.outcome.end, End::WorkerDied(Death::Exited { code: 7 }));
}

/// Waits until the default profile's zygote has failed; gives the reason.
fn failed(daemon: &Daemon) -> String {
    let mut client = daemon.client();
    let why = wait::within(wait::PATIENCE, || {
        let Ok(Answer { reply: Reply::Warm { profiles }, .. }) = client.ask_about(&Request::Warm, b"") else {
            panic!("no word on what is warm")
        };
        profiles
            .into_iter()
            .find(|info| info.zygote == ZygoteState::Failed && !info.detail.contains("starting"))
    });
    why.unwrap_or_else(|| panic!("it does not fail\n{}", daemon.log())).detail
}

fn death_of_the_zygote_in_the_middle_of_openings_fails_none(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 1));
    for round in 0..3 {
        daemon.warmed("default");
        let processes = daemon.processes().len();
        std::thread::scope(|scope| {
            for number in 0..6 {
                let daemon = &daemon;
                scope.spawn(move || {
                    let mut notebook = daemon.notebook(&format!("n{round}-{number}"));
                    assert_eq!(notebook.run("print(6 * 7)").ok().stdout(), "42\n");
                });
            }
            // At another moment each time: with none, one and a few of the new sandboxes under way.
            let begun = |count: usize| (daemon.processes().len() >= processes + count).then_some(());
            wait::within(wait::PATIENCE, || begun(3 * round)).expect("they begin");
            // The one of the round before may just be on its way out, and the next on its way in.
            let zygote = wait::within(wait::PATIENCE, || zygote(&daemon)).expect("a zygote");
            let _ = kill_process(Pid::from_raw(zygote.pid).unwrap(), Signal::KILL);
        });
    }
}

fn zygote_that_does_not_answer_is_replaced_and_python_is_executed(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 0));
    daemon.warmed("default");
    let old = zygote(&daemon).expect("a zygote");
    kill_process(Pid::from_raw(old.pid).unwrap(), Signal::STOP).unwrap();
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("print(6 * 7)").ok().stdout(), "42\n");
    let Start::Fallback { why } = start_of(&notebook.status()) else { panic!("it was forked") };
    assert!(why.contains("did not answer"), "{why}");
    wait::within(wait::PATIENCE, || (!old.lives()).then_some(())).expect("the old one is ended");
    daemon.warmed("default");
    check_join(&daemon, "b");
}

fn preload_that_fails_is_named_and_python_is_executed(setup: Setup) {
    let profile = "version = 1\nwarm_start = 'zygote'\npreload = ['no_such_module']\nspares = 1\n";
    let daemon = Daemon::start(setup.warm().profile("default", profile));
    let why = failed(&daemon);
    assert!(why.contains("import no_such_module: ModuleNotFoundError"), "{why}");
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("print(1)").ok().stdout(), "1\n");
    let Start::Fallback { why } = start_of(&notebook.status()) else { panic!("it was forked") };
    assert!(why.contains("import no_such_module: ModuleNotFoundError"), "{why}");
}

fn spares_that_die_are_replaced_and_none_is_used_twice(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 2));
    daemon.warmed("default");
    let zygote = zygote(&daemon).expect("a zygote").pid;
    let spares = || -> Vec<i32> {
        let pythons = daemon.processes().into_iter().filter(|process| process.name.starts_with("python"));
        pythons.map(|process| process.pid).filter(|pid| *pid != zygote).collect()
    };
    let before = spares();
    assert_eq!(before.len(), 2, "{before:?}");
    let shims = || daemon.processes().iter().filter(|process| process.name == "cellblock-shim").count();
    let shims_before = shims();
    kill_process(Pid::from_raw(before[0]).unwrap(), Signal::KILL).unwrap();
    wait::within(wait::PATIENCE, || (!spares().contains(&before[0])).then_some(())).expect("it is gone");
    daemon.warmed("default");
    wait::within(wait::PATIENCE, || (shims() == shims_before).then_some(()))
        .expect("the dead one's shim is gone");
    let mut used = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut notebook = forked(&daemon, name);
        used.push(worker(&mut notebook));
        // A spare's namespace is new.
        assert_eq!(
            notebook.run("print([n for n in dir() if n in ('secret', 'other')])").ok().stdout(),
            "[]\n"
        );
        notebook.run(&format!("secret = {name:?}")).ok();
    }
    let count = used.len();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), count, "a worker was given to two notebooks");
    assert!(!used.contains(&before[0]));
    // What its notebook leaves behind is nobody's: the next worker of it is another.
    let mut notebook = daemon.notebook("a");
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    notebook.run("print('secret' in dir())").ok();
    assert!(!used.contains(&worker(&mut notebook)));
}

fn spare_that_ends_or_hangs_as_it_is_claimed_fails_no_notebook(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 2));
    let spares = || -> Vec<i32> {
        daemon.warmed("default");
        let zygote = zygote(&daemon).expect("a zygote").pid;
        let pythons = daemon.processes().into_iter().filter(|process| process.name.starts_with("python"));
        let unused = |pid: &i32| *pid != zygote && field(*pid, "PPid") != "0";
        pythons.map(|process| process.pid).filter(unused).collect()
    };
    let init_of = |spare: i32| -> i32 { field(spare, "PPid").parse().unwrap() };
    let send = |pid: i32, signal| kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    // Whether it is noticed before the claim or after it: there is another worker.
    spares().into_iter().map(init_of).for_each(|init| send(init, Signal::KILL));
    assert_eq!(daemon.notebook("a").run("print(6 * 7)").ok().stdout(), "42\n");
    let used = worker(&mut daemon.notebook("a"));
    let shims: Vec<i32> = spares()
        .into_iter()
        .filter(|spare| *spare != used)
        .map(|spare| field(init_of(spare), "PPid").parse().unwrap())
        .collect();
    assert_eq!(shims.len(), 2);
    shims.iter().for_each(|shim| send(*shim, Signal::STOP));
    assert_eq!(daemon.notebook("b").run("print(6 * 7)").ok().stdout(), "42\n");
    let Start::Fallback { why } = start_of(&daemon.notebook("b").status()) else { panic!("it was forked") };
    assert_eq!(why, "it was not up after 15 s");
    for shim in shims {
        // The one that was waited for has been killed.
        let _ = kill_process(Pid::from_raw(shim).unwrap(), Signal::CONT);
    }
}

fn an_edit_of_the_profile_holds_from_the_next_worker_on(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 1));
    daemon.warmed("default");
    forked(&daemon, "a");
    let edited = format!("{FORKS}spares = 0\nenvironment = {{ EDITED = 'yes' }}\n");
    fs::write(daemon.profiles_dir().join("default.toml"), edited).unwrap();
    let look = "import os; print(os.environ.get('EDITED'))";
    assert_eq!(daemon.notebook("b").run(look).ok().stdout(), "yes\n");
    daemon.warmed("default");
    assert_eq!(forked(&daemon, "c").run(look).ok().stdout(), "yes\n");
}

fn workspace_images_are_ready_where_there_are_no_spares(setup: Setup) {
    let daemon = Daemon::start(warm(setup, 0));
    daemon.warmed("default");
    let ready = || fs::read_dir(daemon.state_dir().join("images")).map_or(0, Iterator::count);
    wait::until("two images", || (ready() == 2).then_some(()));
    forked(&daemon, "a").run("open('x', 'w').close()").ok();
    assert!(daemon.log().contains(" notebook=a}: workspace image made"), "{}", daemon.log());
    assert!(daemon.log().contains("was_ready=true"), "{}", daemon.log());
    wait::until("two images again", || (ready() == 2).then_some(()));
}

fn limits_hold_in_a_forked_worker(setup: Setup) {
    let limits =
        "[limits]\nmemory_bytes = 300_000_000\ncpu_ms = 700\nprocesses = 24\nworkspace_bytes = 20_000_000\n";
    let daemon = Daemon::start(setup.warm().profile("default", &format!("{FORKS}spares = 1\n{limits}")));
    daemon.warmed("default");
    let mut notebook = forked(&daemon, "a");
    let hit = |ran: &cellblock_tests::ran::Ran| match &ran.outcome.end {
        End::LimitHit { limit, .. } => Some(*limit),
        _ => None,
    };
    let ran = notebook.run("while True: pass");
    assert_eq!(hit(&ran), Some(Limit::Cpu), "{:?}", ran.outcome);
    let ran = notebook
        .run("import os\nfor _ in range(100):\n    if os.fork() == 0:\n        import time; time.sleep(60)");
    assert_eq!(hit(&ran), Some(Limit::Processes), "{:?}", ran.outcome);
    let ran = notebook.run("data = []\nwhile True: data.append(bytearray(b'x') * 5_000_000)");
    assert_eq!(hit(&ran), Some(Limit::Memory), "{:?}", ran.outcome);
    let ran = notebook.run("open('big', 'wb').write(b'x' * 60_000_000)");
    assert!(ran.raised().is_some() || hit(&ran) == Some(Limit::Disk), "{:?}", ran.outcome);
}

fn what_a_zygote_has_reserved_is_not_its_workers_to_have_used(setup: Setup) {
    // Importing Arrow reserves a gibibyte of addresses, which is more than the limit that follows from this.
    let profile =
        FORKS.replace("'decimal'", "'pyarrow'") + "spares = 1\n[limits]\nmemory_bytes = 300_000_000\n";
    let daemon = Daemon::start(setup.warm().profile("default", &profile));
    daemon.warmed("default");
    let mut notebook = forked(&daemon, "a");
    // Addresses alone: what is used is another limit's.
    let reserve = |bytes: u64| format!("import mmap; kept = mmap.mmap(-1, {bytes}, flags=mmap.MAP_PRIVATE)");
    notebook.run(&reserve(400_000_000)).ok();
    let ran = notebook.run(&reserve(2_000_000_000));
    assert_eq!(ran.raised(), Some("OSError"), "{:?}", ran.outcome);
}
