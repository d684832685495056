"""Goal 4: an index that lost its tail, or is older than its catalog, is mended without a word.

On copies of a stopped data folder, the last 256 KiB of each file of the index are zeroed, one file
after another (what a power loss leaves of writes that were never flushed); and an older copy of the
whole index is put in place of the newer one. `longleaf doctor --repair` must then end well, with
every passage in the index and nothing else, and searches must answer as before. A search opens the
index first, as a user's next command would: it may fail by name, and must not crash.

    python -m benchmarks.trust.lost_tail
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from benchmarks.trust import common

TAIL_BYTES = 256 * 1024
DOCUMENTS = 12
QUERIES = ["marker3x", "who pays the rent?", "interleukin asthma", "sublicense with consent"]


def zero_tail(path: Path) -> None:
    """Zero the last 256 KiB, or all of a smaller file."""
    size = path.stat().st_size
    begin = max(0, size - TAIL_BYTES)
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(size - begin))


def judge(home: Path, expected: object, counts: Counter[str]) -> list[str]:
    """Search, repair, and compare with what the whole folder answers."""
    first, why = common.apart(lambda: common.answers(home, QUERIES[:1]) and None)
    counts[first] += 1
    wrong = [f"the next search {first}: {why}"] if first in ("died", "raised") else []
    how, left = common.apart(lambda: common.problems(home, repair=True))
    if how != "returned":
        return [*wrong, f"the repair {how}: {left}"]
    wrong += left
    if common.surely(lambda: common.answers(home, QUERIES)) != expected:
        wrong.append("other answers after the repair")
    return wrong


def run(every: int = 1) -> common.Outcome:
    """Every file of the index, and the older copies."""
    common.load_models()
    common.read_here()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with common.scratch() as folder:
        home = folder / "template"
        older: list[Path] = []
        for batch in range(3):
            numbers = list(range(batch * 4, batch * 4 + 4))
            common.surely(lambda numbers=numbers: common.put(home, numbers, 30))  # type: ignore[misc]
            older.append(shutil.copytree(home / "index", folder / f"index-{batch}"))
        common.surely(lambda: common.delete(home, 2))
        expected = common.surely(lambda: common.answers(home, QUERIES))
        files = sorted(path for path in (home / "index").rglob("*") if path.stat().st_size)
        files = [path.relative_to(home) for path in files if path.is_file()]
        trials = [*files[::every], *older[:: max(1, every // 20)]]
        for trial in trials:
            copy = shutil.copytree(home, folder / "trial")
            if trial.is_absolute():
                shutil.rmtree(copy / "index")
                shutil.copytree(trial, copy / "index")
            else:
                zero_tail(copy / trial)
            wrong += [f"{trial}: {each}" for each in judge(copy, expected, counts)]
            shutil.rmtree(copy)
            common.log(f"{trial}: {dict(counts)}, {len(wrong)} wrong")
    figure = (
        f"{len(trials)} damaged or older indexes, {len(trials) - len(wrong)} mended; the search "
        f"before the repair: {', '.join(f'{n} {what}' for what, n in counts.most_common())}"
    )
    return common.Outcome(4, "lost tail of the index", figure, not wrong, wrong)


def main() -> int:
    chosen = common.options(__doc__ or "", every=1)
    return common.finish(run(chosen.every), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
