"""How much memory a process may still take."""

from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that can be taken without swapping; None if the system does not say (not Linux).

    Limits of containers and of batch systems (cgroups, version 2) count.
    """
    found = []
    with suppress(OSError, ValueError, KeyError):
        found.append(_table(Path("/proc/meminfo"))["MemAvailable:"] * 1024)
    for group in _own_groups():
        # A group without a limit says "max"; the topmost has no such file.
        with suppress(OSError, ValueError, KeyError):
            limit = int((group / "memory.max").read_text(encoding="ascii"))
            used = int((group / "memory.current").read_text(encoding="ascii"))
            # The page cache counts as used but is freed on demand.
            found.append(limit - used + _table(group / "memory.stat")["inactive_file"])
    return max(0, min(found)) if found else None


def _own_groups() -> list[Path]:
    """The cgroup of this process and those around it, innermost first."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                own = _CGROUPS / line.removeprefix("0::/")
                return [each for each in (own, *own.parents) if each.is_relative_to(_CGROUPS)]
    return []


def _table(file: Path) -> dict[str, int]:
    """The first number of each line by the line's first word."""
    lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) > 1}
