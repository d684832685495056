"""What a reranker's score must be for a document to have something to do with the question.

Asks each collection its own judged queries and those of another field (law, science), which nothing
in it answers: a question of the same field is no foreign one (some of COVID-QA's come near to
SciFact's abstracts, and a minimum that kept them out would keep six of ten right documents out).
`--rate 0.01`: the score that the best document of one in a hundred foreign queries reaches. Beside
it stands what such a minimum costs: right documents that score lower, and how often the best wrong
document of an own query passes, which no score of this kind can tell (it is about the same matter).

    python benchmarks/min_score.py --on scifact covid_qa contractnli
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmarks.chunking import DATA, FOLDERS

from longleaf.api.evaluate.beir import BeirCollection, load_beir
from longleaf.api.evaluate.engine import COLLECTION, open_scratch
from longleaf.api.search import SearchRequest, StageRun
from longleaf.api.wire import Runtime
from longleaf.core.config import load_settings

FIELDS = {
    "scifact": "science",
    "covid_qa": "science",
    "cranfield": "engineering",
    "contractnli": "law",
    "privacy_qa": "law",
}


def best(run: StageRun, among: set[str], *, outside: bool) -> float:
    """The best score of documents in `among` (or outside of it); -inf where there is none."""
    scores = [
        reading.score
        for candidate, reading in zip(run.retrieval.candidates, run.reading.readings, strict=True)
        if reading and (run.heads[candidate.revision_id].key in among) != outside
    ]
    return max(scores, default=-np.inf)


def ask(runtime: Runtime, query: str) -> StageRun:
    return runtime.engine.run(SearchRequest(query, collections=(COLLECTION,), plain=True))


def measure(
    name: str, collections: dict[str, BeirCollection], runtime: Runtime, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best scores: of right documents, of wrong ones to own queries, of any to foreign queries."""
    own = collections[name]
    right, wrong, foreign = [], [], []
    for query_id, text in spread(own, most):
        run = ask(runtime, text)
        good = {key for key, grade in own.qrels[query_id].items() if grade > 0}
        right.append(best(run, good, outside=False))
        wrong.append(best(run, good, outside=True))
    for other in collections:
        if FIELDS[other] != FIELDS[name]:
            foreign += [
                best(ask(runtime, text), set(), outside=True)
                for _, text in spread(collections[other], most)
            ]
    return np.array(right), np.array(wrong), np.array(foreign)


def spread(collection: BeirCollection, most: int) -> list[tuple[str, str]]:
    """At most so many queries, from the whole list."""
    queries = list(collection.queries.items())
    return queries[:: max(1, len(queries) // most)][:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--on", nargs="+", default=["scifact", "covid_qa", "contractnli"])
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--home", type=Path, default=None)
    given = parser.parse_args()
    settings = load_settings({"home": given.home}).settings
    collections = {name: load_beir(DATA / FOLDERS[name], "test", None) for name in given.on}
    rows = {}
    for name in given.on:
        runtime = open_scratch(settings, collections[name], "english")
        try:
            rows[name] = measure(name, collections, runtime, given.queries)
        finally:
            runtime.close()
    share = 1 - given.rate
    least = max(float(np.quantile(foreign, share)) for _, _, foreign in rows.values())
    print(f"min_score {least:.3f}: the highest {share:.0%} quantile of foreign queries")
    print("| collection | foreign queries pass | right documents kept | best wrong one passes |")
    print("|---|---|---|---|")
    for name, (right, wrong, foreign) in rows.items():
        shares = ((foreign >= least).mean(), (right >= least).mean(), (wrong >= least).mean())
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
