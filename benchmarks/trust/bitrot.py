"""Goal 5: 500 flipped bits and cut files; none may give a wrong answer without a word.

Each trial damages one file of a copy of a data folder: a bit flipped at a random byte that was
written, or the file cut at a random place. Files are drawn by kind (the catalog, originals, token
vectors, the index's files) so that small ones get their share. Then `longleaf doctor --deep` looks.
Found: a FAIL or a named error. Not found is fine only where it is harmless: everything that a user
put in reads as before, and so do the answers to queries that touch every document. Anything else is
silent. What was found in the index must be mended by --repair.

    python -m benchmarks.trust.bitrot --trials 500
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.trust import common

DOCUMENTS = 10
QUERIES = [
    *(f"marker{number}x" for number in range(DOCUMENTS)),
    *common.SENTENCES,
    '"licensee may sublicense"',
    "asthma -vaccine",
]
KINDS = ("catalog.sqlite3", "originals", "token-vectors", "index")


def files_of(home: Path, kind: str) -> list[Path]:
    """The files of a kind that have anything in them."""
    root = home / kind
    found = [root] if root.is_file() else sorted(root.rglob("*"))
    return [path for path in found if path.is_file() and path.stat().st_size]


def written_byte(path: Path, rng: random.Random) -> int:
    """The place of a byte that is not zero, if the file has one: most of an index is holes."""
    data = path.read_bytes()
    for _ in range(200):
        at = rng.randrange(len(data))
        if data[at]:
            return at
    filled = [at for at in range(0, len(data), 7) if data[at]]
    return rng.choice(filled) if filled else rng.randrange(len(data))


def damage(home: Path, kind: str, rng: random.Random) -> str:
    """Damage one file; says which and how."""
    path = rng.choice(files_of(home, kind))
    name = path.relative_to(home).as_posix()
    if rng.random() < 0.25:
        size = rng.randrange(path.stat().st_size)
        os.truncate(path, size)
        return f"{name} cut to {size}"
    at, bit = written_byte(path, rng), 1 << rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bit]))
    return f"{name} byte {at} bit {bit}"


def looked_at(home: Path) -> tuple[str, Any]:
    """("found", what) or ("not found", (contents, answers)); or how the look ended otherwise."""

    def look() -> Any:
        found = common.problems(home)
        return ("found", found[0][:200]) if found else ("not found", _seen(home))

    how, value = common.apart(look)
    return value if how == "returned" else ("found" if how == "named error" else how, value)


def _seen(home: Path) -> Any:
    return common.contents(home), common.answers(home, QUERIES)


def run(trials: int, seed: int, kinds: Sequence[str] = KINDS) -> common.Outcome:
    """`trials` damages, each on a fresh copy."""
    common.load_models()
    common.read_here()
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with common.scratch() as folder:
        template = folder / "template"
        common.surely(lambda: common.put(template, list(range(DOCUMENTS)), 30))
        expected = common.surely(lambda: _seen(template))
        for number in range(trials):
            kind = kinds[number % len(kinds)]
            home = shutil.copytree(template, folder / "trial")
            what = damage(home, kind, rng)
            verdict, seen = looked_at(home)
            if verdict == "not found":
                verdict = "harmless" if seen == expected else "SILENT"
            elif kind == "index":
                how, left = common.apart(partial(common.problems, home, repair=True))
                after = common.apart(partial(_seen, home))
                if how != "returned" or left or after != ("returned", expected):
                    wrong.append(f"{what}: not mended: {how} {left}")
            counts[verdict] += 1
            counts[f"{verdict} in {kind}"] += 1
            if verdict in ("SILENT", "raised"):
                wrong.append(f"{what}: {verdict} {seen if verdict == 'raised' else ''}")
                common.log(wrong[-1])
            shutil.rmtree(home)
            if number % 20 == 19:
                common.log(f"{number + 1}: {dict(counts)}")
    parts = [f"{counts[each]} {each}" for each in ("found", "harmless", "died", "raised", "SILENT")]
    figure = f"{trials} damages: {', '.join(parts)}; {len(wrong)} wrong"
    return common.Outcome(5, "bit rot", figure, not wrong, wrong)


def main() -> int:
    chosen = common.options(__doc__ or "", trials=500)
    return common.finish(run(chosen.trials, chosen.seed), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
