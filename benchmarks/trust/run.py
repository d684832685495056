"""All reliability goals, one after another: a line for each, OK, RED or NOT MEASURED HERE.

Each goal is a command of its own, here with the counts of its long form, with --short with those of
a few minutes. What a goal demands is said at the top of its script; docs/reliability.md has the
figures. The exit status is 1 when one is red.

    python -m benchmarks.trust.run            # all of them: hours
    python -m benchmarks.trust.run 3 4 --short
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
NOT_HERE = 2
"""The exit status of a command that cannot measure on this machine."""
_PYTEST, _NO_TESTS = ("-m", "pytest"), 5


@dataclass(frozen=True, slots=True)
class Goal:
    """`command` (behind `python`) shows it; `needs` are programs and folders it cannot do without.

    Our own modules print an Outcome; of other commands the last line is the figure.
    """

    number: int
    name: str
    command: tuple[str, ...]
    long: tuple[str, ...]
    short: tuple[str, ...]
    needs: tuple[str, ...] = ()


def _own(module: str) -> tuple[str, ...]:
    return ("-m", f"benchmarks.trust.{module}")


def _tests(*which: str) -> tuple[str, ...]:
    """A goal that tests reach in full: the same in both forms."""
    return (*_PYTEST, "-q", "-p", "no:cacheprovider", *which)


GOALS = (
    Goal(1, "kill loop", ("benchmarks/kill.py",), ("--kills", "1000"), ("--kills", "10")),
    Goal(2, "failpoint sweep", _own("failpoints"), (), ("--every", "60"), ("strace",)),
    Goal(3, "acknowledged after fsync", _own("ack_order"), (), ("--files", "10", "--uploads", "5"),
         ("strace",)),
    Goal(4, "lost tail of the index", _own("lost_tail"), (), ("--every", "20")),
    Goal(5, "bit rot", _own("bitrot"), ("--trials", "500"), ("--trials", "8")),
    Goal(6, "disk full", _own("disk_full"), (), ("--rooms", "2", "--limits", "2"), ("unshare",)),
    Goal(7, "backups under load, killed upgrades", _own("backups"), (),
         ("--queries", "50", "--kills", "4")),
    Goal(8, "cluster of Qdrant", _tests("-k", "qdrant-server", "tests/contracts"), (), ()),
    Goal(9, "malformed files", ("benchmarks/outcomes.py",), (),
         (str(DATA / "malformed"), "--no-ocr"), (str(DATA),)),
    Goal(10, "bombs", ("benchmarks/sandbox.py", "--only", "bombs"), (), ()),
    Goal(11, "long documents", _own("long_documents"), (), ("--most-pages", "1000")),
    Goal(12, "idempotence", _own("idempotence"), (), ("--times", "20")),
    Goal(13, "dead and stopped workers", _own("dead_workers"), (), ("--strikes", "10")),
    Goal(14, "fingerprint", _own("fingerprint"), (), ()),
    Goal(14, "swap under queries", ("benchmarks/swap.py",), (), ("--documents", "40"),
         (str(DATA),)),
    Goal(17, "readiness, out of memory",
         _tests("tests/api/test_readiness.py", "tests/reranker/test_out_of_memory.py"), (), ()),
    Goal(18, "token budget", _tests("tests/reranker/qwen3/test_plan.py"), (), ()),
    Goal(22, "nothing in the log", _tests("tests/api/test_logs.py"), (), ()),
    Goal(23, "routes and identities", _tests("tests/api/test_access.py", "tests/oidc"), (), ()),
    Goal(24, "addresses to fetch", _tests("tests/api/test_no_fetching.py"), (), ()),
    Goal(25, "scripts in texts", _tests("tests/ui/test_hostile.py"), (), (), (str(DATA),)),
    Goal(28, "control tokens", _tests("tests/trust/test_control_tokens.py"), (), ()),
    Goal(29, "parser sandbox",
         _tests("tests/indexer/test_confine.py", "tests/indexer/test_sandbox.py",
                "tests/indexer/test_sandbox_programs.py"), (), ()),
    Goal(22, "hostile input", _own("input"), ("--passes", "2", "--examples", "10"),
         ("--passes", "2", "--examples", "2", "--every", "12", "--strings", "2",
          "--least", "1000")),
    Goal(26, "paths", _own("paths"), (), ("--every", "6")),
    Goal(27, "deserialisation", _own("deserialise"), (), ()),
    Goal(27, "what no module may use", _tests("-k", "banned", "tests/test_layout.py"), (), ()),
    Goal(29, "dependencies", _own("dependencies"), (), ()),
    Goal(15, "overload, and clients that leave (19)", _own("overload"), (), ("--seconds", "8")),
    Goal(16, "stages slow, failing or still", _own("stages"), (), ("--searches", "5")),
    Goal(20, "slow clients", _own("slow_clients"), (), ("--connections", "50")),
    Goal(21, "soak", _own("soak"), ("--hours", "24"), ("--minutes", "2")),
    Goal(28, "reranker injection", _own("injection"), ("--full",), (), (str(DATA),)),
    Goal(28, "honest documents marked", _own("marks"), (), (), (str(DATA),)),
)  # fmt: skip


def measure(goal: Goal, *, short: bool) -> tuple[str, str, list[str]]:
    """(OK, RED or NOT MEASURED HERE; the figure or the reason; what was not as it should be)."""
    for need in goal.needs:
        if not (Path(need).exists() if "/" in need else shutil.which(need)):
            return "NOT MEASURED HERE", f"{need} is not here", []
    is_tests = goal.command[:2] == _PYTEST
    own = goal.command[0] == "-m" and not is_tests
    arguments = [*goal.command, *(goal.short if short else goal.long), *(["--json"] if own else [])]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.splitlines() or ["it said nothing"]
    if is_tests and done.returncode in (0, _NO_TESTS) and " passed" not in lines[-1]:
        return "NOT MEASURED HERE", f"every test was skipped: {lines[-1]}", []
    if done.returncode == NOT_HERE and not is_tests:  # of pytest it is a file that cannot be read
        return "NOT MEASURED HERE", lines[-1], []
    mark = "OK" if done.returncode == 0 else "RED"
    if not own:
        return mark, lines[-1], lines[-20:] if mark == "RED" else []
    try:
        told = json.loads(lines[-1])
    except ValueError:
        return "RED", f"it ended with {done.returncode}", lines[-20:]
    return mark, told["figure"], told["details"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goals", type=int, nargs="*", help="numbers; all without any")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    numbers = {goal.number for goal in GOALS}
    if unknown := set(chosen.goals) - numbers:
        parser.error(f"no such goals: {sorted(unknown)}; there are {sorted(numbers)}")
    red = False
    rows = []
    for goal in GOALS:
        if chosen.goals and goal.number not in chosen.goals:
            continue
        started = time.monotonic()
        mark, figure, details = measure(goal, short=chosen.short)
        seconds = round(time.monotonic() - started)
        red = red or mark == "RED"
        rows.append(
            {"goal": goal.number, "name": goal.name, "mark": mark, "figure": figure,
             "details": details, "seconds": seconds}
        )  # fmt: skip
        if not chosen.json:
            for line in details[:20]:
                print(f"    {line}")
            print(f"{mark}: goal {goal.number}, {goal.name}: {figure} ({seconds} s)", flush=True)
    if chosen.json:
        print(json.dumps(rows, indent=1))
    return 1 if red else 0


if __name__ == "__main__":
    raise SystemExit(main())
