"""Do the sentences that are marked lie where the answer is?

The passages of a search that overlap a gold span of their question are marked; told is how often
the marks touch the span, how much of it they hold (recall), how much of what is marked is in it
(precision: gold spans are often shorter than a sentence), and how much of the passage is marked.
Against three others: the sentence with the most different words of the question, a random one, all.
Of one collection or several; nothing is tuned on them here.

    python benchmarks/sentences.py ../shared/data/covid_qa ../shared/data/chunking_eval …
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from longleaf.api.evaluate.beir import BeirCollection, load_beir
from longleaf.api.evaluate.engine import COLLECTION, open_scratch
from longleaf.api.highlight import Highlighter
from longleaf.api.search import SearchRequest
from longleaf.api.sentences import SentenceMarker
from longleaf.core.config import load_settings
from longleaf.core.types import PassageText
from longleaf.indexer.sentences import sentence_spans

Span = tuple[int, int]
_HITS = 10


def overlap_chars(one: Sequence[Span], other: Sequence[Span]) -> int:
    return sum(
        max(0, min(end, other_end) - max(start, other_start))
        for start, end in one
        for other_start, other_end in other
    )


def most_words(passage: PassageText, spans: Sequence[Span], highlighter: Highlighter) -> Span:
    """The sentence with the most different words of the question; the first of several."""
    words: dict[Span, set[str]] = {span: set() for span in spans}
    for start, end in highlighter.spans(passage):
        for span in spans:
            if span[0] <= start < span[1]:
                inside = slice(start - passage.start_char, end - passage.start_char)
                words[span].add(passage.text[inside].casefold())
    return max(spans, key=lambda span: len(words[span]))


def measure(collection: BeirCollection, most: int) -> tuple[int, int, Mapping[str, list[float]]]:
    """(questions, passages, way -> [touched, recall, precision, share marked]), and prints a row
    of times."""
    runtime = open_scratch(load_settings({}).settings, collection, "english")
    rows: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    questions, seconds, marked_passages = 0, 0.0, 0
    rng = random.Random(20)
    try:
        engine = runtime.engine
        for query_id, text in collection.queries.items():
            gold = collection.gold.get(query_id, ())
            if not gold or questions >= most:
                continue
            request = SearchRequest(text, collections=(COLLECTION,), limit=_HITS, plain=True)
            hits = engine.search(request).hits
            vectors = engine.embed(text, None)
            marker = SentenceMarker(engine.catalog, engine.generation, engine.embedder, vectors)
            passages = [each.passage for hit in hits for each in hit.passages]
            started = time.perf_counter()
            found = marker.mark(passages)
            seconds += time.perf_counter() - started
            marked_passages += len(passages)
            highlighter = Highlighter(text)
            used = False
            for hit in hits:
                spans = [(g.start_char, g.end_char) for g in gold if g.document_key == hit.key]
                for passage in (each.passage for each in hit.passages):
                    whole = (passage.start_char, passage.end_char)
                    right = [
                        (max(start, whole[0]), min(end, whole[1]))
                        for start, end in spans
                        if start < whole[1] and end > whole[0]
                    ]
                    if not right or passage.point_id not in found:
                        continue
                    used = True
                    begin = passage.start_char
                    sentences = [
                        (begin + start, begin + end)
                        for start, end in sentence_spans(passage.text, 0, len(passage.text))
                    ]
                    ways: dict[str, list[Span]] = {
                        "marked": [(s.start_char, s.end_char) for s in found[passage.point_id]],
                        "most words": [most_words(passage, sentences, highlighter)],
                        "random": [rng.choice(sentences)],
                        "all": sentences,
                    }
                    for way, chosen in ways.items():
                        common = overlap_chars(chosen, right)
                        size = sum(end - start for start, end in chosen)
                        gold_size = sum(end - start for start, end in right)
                        share = size / len(passage.text)
                        rows[way].append(
                            (float(common > 0), common / gold_size, common / size, share)
                        )
            questions += used
    finally:
        runtime.close()
    passages_seen = len(rows["all"])
    means = {
        way: [sum(column) / len(column) for column in zip(*values, strict=True)]
        for way, values in rows.items()
    }
    print(f"  marking: {1000 * seconds / max(1, marked_passages):.2f} ms a passage")
    return questions, passages_seen, means


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--questions", type=int, default=400, help="of each collection, at most")
    chosen = parser.parse_args()
    print("collection | questions | passages | way | touched | recall | precision | share marked")
    for folder in chosen.folders:
        questions, passages, means = measure(load_beir(folder), chosen.questions)
        for way, values in means.items():
            told = " | ".join(f"{value:.3f}" for value in values)
            print(f"{folder.name} | {questions} | {passages} | {way} | {told}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
