"""Runs the commands of quality.yaml and says OK or FAIL for each figure; exits 1 on any FAIL.

Knows nothing of search: a command prints JSON, a figure in it is compared. Commands run one after
another, from the repository's root, without a shell, and the environment's own `longleaf` and
`python` are found first. `--update` does not write the file; it prints the measured
values, so that a person decides which figure becomes the expected one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
_BOUNDS = ("expected", "at_least", "at_most")


class BadFile(Exception):
    """quality.yaml says something that cannot be checked."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure: where it is in the JSON, and what it must be. `bound` is one of `_BOUNDS`."""

    path: str
    bound: str
    figure: float
    tolerance: float = 0.0

    def holds(self, measured: float) -> bool:
        """Whether `measured` is as it should be; the edge of a bound or tolerance belongs to it."""
        if self.bound == "at_least":
            return measured >= self.figure
        if self.bound == "at_most":
            return measured <= self.figure
        # A hair of slack: 0.741 - 0.740 is more than 0.001 in binary floating point.
        return abs(measured - self.figure) <= self.tolerance + 1e-9

    def __str__(self) -> str:
        if self.bound == "expected":
            return f"{self.figure:g} ± {self.tolerance:g}"
        return f"{self.bound.replace('_', ' ')} {self.figure:g}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command and the figures that it must give."""

    name: str
    command: str
    checks: tuple[Check, ...]


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Raises `BadFile` for an entry without a figure, name or command, or a name used twice."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(tree, dict) or not isinstance(tree.get("collections"), list):
        raise BadFile(f"{path}: expected a list under 'collections'")
    entries = []
    for item in tree["collections"]:
        if not isinstance(item, dict) or not item.get("name") or not item.get("command"):
            raise BadFile(f"{path}: an entry needs a name and a command: {item!r}")
        name = str(item["name"])
        checks = tuple(_check(name, check) for check in item.get("checks") or ())
        if not checks:
            raise BadFile(f"{path}: {name} checks nothing")
        entries.append(Entry(name, str(item["command"]), checks))
    if len({entry.name for entry in entries}) != len(entries):
        raise BadFile(f"{path}: two entries have the same name")
    return tuple(entries)


def _check(name: str, item: Any) -> Check:
    known = {"value", "tolerance", *_BOUNDS}
    if not isinstance(item, dict) or not isinstance(item.get("value"), str) or set(item) - known:
        raise BadFile(f"{name}: a check has a value and one of {', '.join(_BOUNDS)}: {item!r}")
    bounds = [bound for bound in _BOUNDS if bound in item]
    if len(bounds) != 1 or not _is_number(item[bounds[0]]):
        raise BadFile(f"{name}: {item['value']} needs one of {', '.join(_BOUNDS)} with a number")
    if (bounds[0] == "expected") != _is_number(item.get("tolerance")):
        raise BadFile(f"{name}: {item['value']}: a tolerance belongs to expected, and only there")
    return Check(item["value"], bounds[0], item[bounds[0]], item.get("tolerance", 0.0))


def run_command(command: str, data: Path, timeout_s: float) -> Any:
    """The JSON that the command prints. Raises `RuntimeError` that says why there is none."""
    argv = [word.replace("{data}", str(data)) for word in shlex.split(command)]
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(argv[0], path=search)
    if program is None:
        raise RuntimeError(f"there is no program {argv[0]!r}")
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it ran longer than {timeout_s:g} s") from None
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise RuntimeError(f"exit code {done.returncode}\n{last}".strip())
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(f"its output is no JSON: {error}") from None


def look_up(tree: Any, path: str) -> float | None:
    """The number at `path` ("stages/final/ndcg@10"), or None."""
    for name in path.split("/"):
        if not isinstance(tree, Mapping) or name not in tree:
            return None
        tree = tree[name]
    return tree if _is_number(tree) else None


def judge(entry: Entry, tree: Any) -> Iterator[tuple[bool, str]]:
    """(holds, line to print) for each check."""
    for check in entry.checks:
        measured = look_up(tree, check.path)
        if measured is None:
            yield False, f"FAIL {entry.name} {check.path}: not in the output (expected {check})"
        else:
            holds = check.holds(measured)
            word = "OK  " if holds else "FAIL"
            yield holds, f"{word} {entry.name} {check.path}: {measured:.4f} ({check})"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every figure holds, 1 when one does not, 2 when there was nothing to judge by."""
    parser = argparse.ArgumentParser(description="Check the published quality figures.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this entry; repeatable")
    parser.add_argument("--update", action="store_true", help="print measured values, judge none")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--file", type=Path, default=ROOT / "benchmarks" / "quality.yaml")
    parser.add_argument("--timeout-s", type=float, default=3600.0, help="for one command")
    options = parser.parse_args(arguments)
    try:
        entries = read_entries(options.file)
    except (BadFile, OSError, yaml.YAMLError) as error:
        print(error, file=sys.stderr)
        return 2
    unknown = set(options.only or ()) - {entry.name for entry in entries}
    if unknown:
        names = ", ".join(entry.name for entry in entries)
        print(f"No entry {', '.join(sorted(unknown))}. Entries: {names}", file=sys.stderr)
        return 2
    failed = 0
    for entry in entries:
        if options.only and entry.name not in options.only:
            continue
        started = time.perf_counter()
        print(f"# {entry.name}: {entry.command}", flush=True)
        try:
            tree = run_command(entry.command, options.data.resolve(), options.timeout_s)
        except (RuntimeError, OSError) as error:
            failed += 1
            print(f"FAIL {entry.name}: {error}", flush=True)
            continue
        if options.update:
            for check in entry.checks:
                print(f"  {check.path}: {look_up(tree, check.path)}  # now {check}")
        else:
            for holds, line in judge(entry, tree):
                failed += not holds
                print(line)
        print(f"# {time.perf_counter() - started:.1f} s", flush=True)
    print(f"{failed} FAIL" if failed else "all OK" if not options.update else "nothing judged")
    return 1 if failed else 0


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


if __name__ == "__main__":
    sys.exit(main())
