"""The same judged collection through each kind of index: nDCG@10 must not depend on where it lies.

    python benchmarks/stores.py ../shared/data/scifact --home /tmp/evals

Runs `longleaf eval` with index.kind edge, faiss and qdrant, over one catalog, so that only the
index differs; each is filled from the catalog. In place of a Qdrant server stands qdrant-client's
engine in memory, behind Qdrant's REST routes (tests/contracts/qdrant_rest.py), scanning exactly:
quantization and graph of a server are not in this comparison. Exit status 1 when two kinds lie
further apart than `--apart`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

KINDS = ("edge", "faiss", "qdrant")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("collection", type=Path)
    options.add_argument("--home", type=Path, required=True)
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options.add_argument("--measure", default="ndcg@10")
    options.add_argument("--queries", type=int, default=0, help="only the first so many judged")
    options.add_argument("--apart", type=float, default=0.002)
    chosen = options.parse_args()

    from tests.contracts.qdrant_rest import serving

    found: dict[str, dict[str, float]] = {}
    with serving() as url, tempfile.TemporaryDirectory() as scratch:
        qrels = first_of(chosen.collection / "qrels/test.tsv", chosen.queries, Path(scratch))
        for kind in chosen.kinds:
            started = time.perf_counter()
            report = evaluated(chosen.collection, qrels, chosen.home, kind, url)
            found[kind] = {stage: told[chosen.measure] for stage, told in report["stages"].items()}
            told = ", ".join(f"{stage} {value:.4f}" for stage, value in found[kind].items())
            print(f"{kind:8} {told}  ({time.perf_counter() - started:.0f} s)", flush=True)
    apart = max(
        max(found[kind][stage] for kind in found) - min(found[kind][stage] for kind in found)
        for stage in next(iter(found.values()))
    )
    print(f"furthest apart: {apart:.4f} (at most {chosen.apart})")
    return int(apart > chosen.apart)


def first_of(qrels: Path, queries: int, folder: Path) -> Path:
    """The judgements of the first so many queries (0: all)."""
    if not queries:
        return qrels
    head, *lines = qrels.read_text("utf-8").splitlines(keepends=True)
    wanted = list(dict.fromkeys(line.split("\t")[0] for line in lines))[:queries]
    kept = [line for line in lines if line.split("\t")[0] in set(wanted)]
    (folder / "some.tsv").write_text(head + "".join(kept), "utf-8")
    return folder / "some.tsv"


def evaluated(collection: Path, qrels: Path, home: Path, kind: str, url: str) -> Any:
    """What `longleaf eval --json` tells with this kind of index."""
    settings = {
        "LONGLEAF_INDEX__KIND": kind,
        "LONGLEAF_QDRANT__URL": url,
        "LONGLEAF_QDRANT__HNSW_M": "0",
        "LONGLEAF_QDRANT__HOLDBACK_SECONDS": "0",
        "LONGLEAF_FAISS__DEVICES": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "longleaf.api.cli", "eval", str(collection),
         "--qrels", str(qrels), "--json", "--home", str(home)],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
