#!/usr/bin/env python3
"""cellblock from its archive, as a service of a machine with systemd and cgroups of version 2.

    installed.py --archive FILE --python PATH [--next FILE] [--seconds N] [--without PART | --only PART]...

Needs root, on a machine that is thrown away afterwards: it installs into /usr/local, and makes users.
Installs from the archive (`cargo xtask dist`) and goes through these parts:

    activate   an ordinary user of the group starts the daemon by its socket and runs cells; a stranger cannot
    journal    the log's fields in the journal
    restart    systemctl restart while a cell runs
    kill       SIGKILL of the daemon while a cell runs
    watchdog   a daemon that hangs while a cell runs
    anchor     SIGKILL of the workers' unit's main process
    limits     memory, processes, processor time: held by the delegated cgroup's controllers
    drain      cellctl drain, and SIGTERM whose time is too short for what runs
    shortage   the machine's memory, then that of the workers' unit, runs short: idle workers are evicted
    stop       systemctl stop while a cell runs: nothing is left but the notebooks
    quota      notebooks on a disk with project quotas
    upgrade    the archive of --next, which is another build, is installed over this one while a cell runs
    own        a daemon of one user's own, by units of systemd --user
    uninstall  install.sh --uninstall, then install.sh again

Prints a line for each thing; exits with 1 when one of them is not as it must be. `clients/python/src` must
be on PYTHONPATH. A cell that must outlive the daemon takes `--seconds`. Some parts need loop devices.
"""

from __future__ import annotations

import sys
import time
import traceback
from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Callable
from pathlib import Path

import own
import quota
import service
import shortage
from host import UNITS, Machine, run

PARTS: dict[str, Callable[[Machine], None]] = {
    "activate": service.activate,
    "journal": service.journal_fields,
    "restart": service.restart,
    "kill": service.kill,
    "watchdog": service.watchdog,
    "anchor": service.anchor,
    "limits": service.limits_hold,
    "drain": service.drain,
    "shortage": shortage.check,
    "stop": service.stop,
    "quota": quota.check,
    "upgrade": service.upgrade,
    "own": own.check,
    "uninstall": service.uninstall,
}


def main() -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--next", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--without", choices=PARTS, action="append", default=[])
    parser.add_argument("--only", choices=PARTS, action="append", default=[])
    machine = Machine(parser.parse_args())
    options = machine.options
    chosen = [part for part in PARTS if part not in options.without]
    if options.next is None and "upgrade" in chosen:
        chosen.remove("upgrade")
    service.install(machine)
    for part in chosen:
        if not options.only or part in options.only:
            began = time.monotonic()
            try:
                PARTS[part](machine)
            except Exception as error:
                traceback.print_exc()
                machine.tell(f"{part} went on to its end", False, repr(error))
            print(f"       ({part}: {time.monotonic() - began:.0f} s)", flush=True)
    if machine.wrong:
        journal = ["journalctl", "--no-pager", "--output=short-precise", "--lines=200"]
        print(run(*journal, *(f"--unit={unit}" for unit in UNITS)).stdout, file=sys.stderr)
    return min(1, machine.wrong)


if __name__ == "__main__":
    sys.exit(main())
