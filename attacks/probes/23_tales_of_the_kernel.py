"""Reads what /proc tells of the whole machine."""

from attack import note, reason, saw


def told(path):
    try:
        with open(path, "rb") as file:
            return "told" if file.read(64) else "empty"
    except OSError as error:
        return reason(error)


for name in (
    "kcore",
    "kallsyms",
    "keys",
    "timer_list",
    "cmdline",
    "config.gz",
    "interrupts",
    "meminfo",
    "version",
):
    note(name, told(f"/proc/{name}"))
saw()
