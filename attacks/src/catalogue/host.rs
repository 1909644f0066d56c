//! Files: a neighbour's, the daemon's, those that somebody else will clear up or load.

use super::{Attack, OVERLAY, READ_ONLY, ROOT, ROW, probe};
use crate::{Before, Kind};

pub(super) static ROWS: [Attack; 10] = [
    Attack {
        number: 54,
        title: "a neighbour's files and process",
        probe: probe!("54_neighbours_files.py"),
        contained: &["workspace=ENOENT|EACCES", "process=ENOENT|EACCES", "left_open=ENOENT|EACCES"],
        open: &["workspace=done", "process=done", "left_open=done"],
        let_through: &[&[ROOT]],
        stopped_by: "a root built from an allow-list, the pid namespace, folders that are another user's",
        ..ROW
    },
    Attack {
        number: 55,
        title: "links that lead the daemon out of the workspace",
        probe: probe!("55_link_out.py"),
        kind: Kind::Deletion,
        ends_worker: true,
        contained: &["laid=links", "deleted=yes", "canary=untouched"],
        open: &["canary=reached"],
        stopped_by: "the daemon goes through worker-controlled folders by descriptor and follows no link",
        ..ROW
    },
    Attack {
        number: 56,
        title: "hard links to what is not its own",
        probe: probe!("56_hard_link.py"),
        contained: &["link0=EXDEV|EPERM|EACCES", "link1=EXDEV|EPERM|EACCES", "link2=EXDEV|EPERM|EACCES"],
        open: &["link0=done"],
        stopped_by: "each tree is a mount of its own, and hard links do not cross mounts",
        ..ROW
    },
    Attack {
        number: 57,
        title: "pipes, deep folders, many names, names that are no text",
        probe: probe!("57_hostile_names.py"),
        kind: Kind::Deletion,
        ends_worker: true,
        contained: &["laid=names", "deleted=yes", "prompt=yes"],
        open: &["pipe=blocks"],
        stopped_by: "the daemon opens nothing that could block, and counts in folders, names and bytes",
        ..ROW
    },
    Attack {
        number: 58,
        title: "notebook names that lead elsewhere",
        probe: probe!("58_names.py"),
        kind: Kind::Names,
        contained: &["refused=all", "plain=taken"],
        open: &["joined=outside"],
        stopped_by: "an allow-list of 64 letters, digits, - and _, before any use as a path",
        ..ROW
    },
    Attack {
        number: 59,
        title: "the store, to swap something between check and use",
        probe: probe!("59_store.py"),
        contained: &["store=none"],
        open: &["store=/*"],
        stopped_by: "nothing but its workspace is shown to a worker",
        ..ROW
    },
    Attack {
        number: 60,
        title: "pickles that run code when somebody loads them",
        probe: probe!("60_pickle.py"),
        kind: Kind::Deletion,
        ends_worker: true,
        contained: &["laid=pickles", "deleted=yes", "loaded=no"],
        open: &["loaded=yes"],
        stopped_by: "nothing outside of a sandbox unpickles",
        ..ROW
    },
    Attack {
        number: 74,
        title: "what the worker before has left",
        probe: probe!("74_previous_tenant.py"),
        before: Some((Before::PreviousWorker, probe!("74_previous_tenant.before.py"))),
        contained: &["traces=none"],
        open: &["traces=*/tmp*"],
        stopped_by: "sandboxes are destroyed, never used again",
        ..ROW
    },
    Attack {
        number: 76,
        title: "chmod of the program it runs",
        probe: probe!("76_own_program.py"),
        contained: &["chmod=EROFS|EPERM"],
        open: &["chmod=done"],
        stopped_by: "read-only mounts; as root, also owners that are nobody in the sandbox",
        ..ROW
    },
    Attack {
        number: 77,
        title: "fchmod and utime of what it was given to read",
        probe: probe!("77_given_files.py"),
        contained: &[
            "payload=EROFS|EPERM",
            "payload_times=EROFS|EPERM",
            "cache=EROFS|EPERM|ENOENT",
            "cache_times=EROFS|EPERM|ENOENT",
            "interpreter=EROFS|EPERM",
            "interpreter_times=EROFS|EPERM",
            "library=EROFS|EPERM",
            "library_times=EROFS|EPERM",
            "stdin=EROFS|EPERM|EACCES",
        ],
        open: &["payload=done", "payload_times=done", "cache=done", "cache_times=done", "stdin=done"],
        let_through: &[],
        let_through_rootless: Some(&[&[READ_ONLY, OVERLAY]]),
        stopped_by: "read-only mounts; as root, also owners that are nobody in the sandbox",
        ..ROW
    },
];
