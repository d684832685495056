"""What bibliographies do to results, and what weighing them down does.

`python benchmarks/asides.py` makes a collection of PLOS papers from their XML (the parser's text
with its reference lists, without the abstracts), indexes it once and asks two kinds of question
with several penalties for passages that are aside:

- topic: a sentence of a paper's abstract asks for that paper, whose abstract is not there. Other
  papers cite work on the same subject, and their reference lists look much like the answer.
- lookup: the title of a cited work asks for the papers that cite it. Only a reference list knows.

It prints nDCG@10 of documents; how early the right passage comes when passages are ranked (MRR@10
of text of that paper, or of the entry asked for); and how many of the ten best are aside.
`--part N` takes each N-th paper. `--home` keeps the index for a second run.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from chunking import DATA, indexed

from longleaf.api.evaluate.engine import COLLECTION
from longleaf.api.evaluate.metrics import paired_intervals, score_rankings
from longleaf.api.search import SearchRequest
from longleaf.api.wire import Runtime
from longleaf.core.ids import is_aside
from longleaf.core.types import Document, Role
from longleaf.indexer.chunk import PassageChunker
from longleaf.indexer.parsers.xml import XmlParser
from longleaf.indexer.sentences import sentence_spans

SEED = 3
_CITED = re.compile(r"\(\d{4}\)\s+([A-Z][^.?!]{40,160})[.?!]\s")

PENALTIES = (0.0, 1.0, 2.0, 3.0, 1000.0)
"""What is taken off an aside passage's sum of z-scores; the last one puts it behind everything."""


def papers(part: int) -> list[tuple[str, str, str, list[str]]]:
    """(key, text without abstract, abstract, titles cited) of the papers that have both."""
    found = []
    for path in sorted((DATA / "documents" / "plos" / "xml").glob("*.xml"))[::part]:
        for document in XmlParser().parse(path.read_bytes(), path.name):
            if not isinstance(document, Document):
                continue
            named = [s for s in document.sections if s.title.lower().startswith("abstract")]
            lists = [r for r in document.regions if r.role is Role.REFERENCES]
            if not named or not lists or named[0].end_char - named[0].start_char > 6_000:
                continue
            begin, end = named[0].start_char, named[0].end_char
            cited = [
                match[1]
                for region in lists
                for match in _CITED.finditer(document.text, region.start_char, region.end_char)
            ]
            text = document.text[:begin] + document.text[end:]
            found.append((path.stem, text, document.text[begin:end], cited))
    return found


def topics(found: Sequence[tuple[str, str, str, list[str]]]) -> Iterator[tuple[str, str]]:
    """(sentence, key of its paper): three of each abstract."""
    draw = random.Random(SEED)
    for key, _, abstract, _ in found:
        sentences = [abstract[a:b] for a, b in sentence_spans(abstract, 0, len(abstract))]
        usable = [each for each in sentences if 60 <= len(each) <= 400]
        for sentence in draw.sample(usable, min(3, len(usable))):
            yield sentence, key


def lookups(
    found: Sequence[tuple[str, str, str, list[str]]],
) -> Iterator[tuple[str, frozenset[str]]]:
    """(title of a cited work, keys of the papers that cite it): two of each list."""
    draw = random.Random(SEED)
    for _, _, _, cited in found:
        for title in draw.sample(cited, min(2, len(cited))):
            yield title, frozenset(key for key, text, _, _ in found if title in text)


@dataclass(frozen=True, slots=True)
class Query:
    """A question, the papers that answer it, and what the right passage must hold.

    `entry`: the words of a reference list that are asked for; empty: any text that is not aside.
    """

    text: str
    keys: frozenset[str]
    entry: str = ""


def ask(
    runtime: Runtime, queries: Sequence[Query], texts: Mapping[str, str]
) -> tuple[dict[str, dict[str, float]], float]:
    """Measure to query to value, and the share of passages that are aside among the ten best."""
    rankings: dict[str, list[tuple[str, float]]] = {}
    first_right: dict[str, float] = {}
    asides = shown = 0
    for number, query in enumerate(queries):
        request = SearchRequest(query.text, collections=(COLLECTION,), plain=True)
        run = runtime.engine.run(request)
        order = [run.retrieval.candidates[index].revision_id for index in run.reading.order]
        rankings[str(number)] = [(run.heads[each].key, -place) for place, each in enumerate(order)]
        run = runtime.engine.run(replace(request, group="none"))
        first_right[str(number)] = 0.0
        for rank, index in enumerate(run.reading.order[:10], start=1):
            candidate = run.retrieval.candidates[index]
            passage = run.passages[candidate.passages[0].point_id]
            aside = is_aside(passage.point_id)
            asides += aside
            shown += 1
            key = run.heads[candidate.revision_id].key
            said = texts[key][passage.start_char : passage.end_char]
            right = query.entry in said if query.entry else not aside
            if right and key in query.keys and not first_right[str(number)]:
                first_right[str(number)] = 1.0 / rank
    qrels = {str(n): dict.fromkeys(sorted(query.keys), 1) for n, query in enumerate(queries)}
    ndcg = score_rankings(qrels, rankings)["ndcg@10"]
    return {"documents": ndcg, "passages": first_right}, asides / shown


def main(part: int, home: Path) -> None:
    """Index once, ask everything in every way, print Markdown tables."""
    from longleaf.indexer.embed import MiniLMEmbedder

    found = papers(part)
    home.mkdir(parents=True, exist_ok=True)
    corpus = home / "corpus.jsonl"
    lines = [json.dumps({"_id": key, "title": "", "text": text}) for key, text, *_ in found]
    if not corpus.exists():
        corpus.write_text("\n".join(lines) + "\n")
    embedder = MiniLMEmbedder()
    chunker = PassageChunker(embedder.tokenizer, embedder.tokenizer_id)
    runtime = indexed(corpus, chunker, embedder, home / "data")
    plain = runtime.engine.settings
    texts = {key: text for key, text, _, _ in found}
    kinds = {
        "topic": [Query(text, frozenset({key})) for text, key in topics(found)],
        "lookup": [Query(title, keys, title) for title, keys in lookups(found)],
    }
    for kind, queries in kinds.items():
        values: dict[str, dict[str, dict[str, float]]] = {}
        shares: dict[str, float] = {}
        for penalty in PENALTIES:
            runtime.engine.settings = replace(plain, aside_penalty=penalty)
            values[f"{penalty:g}"], shares[f"{penalty:g}"] = ask(runtime, queries, texts)
        means, gaps = paired_intervals(values, [(way, "0") for way in values if way != "0"])
        print(f"\n{kind}: {len(queries)} queries, {len(found)} papers\n")
        print(
            "| penalty | documents, nDCG@10 | passages, MRR@10 | aside of ten |\n|---|---|---|---|"
        )
        for way in values:
            row = [way]
            for name in ("documents", "passages"):
                gap = gaps.get((way, "0", name))
                told = f" ({gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}])" if gap else ""
                row.append(f"{means[way, name].mean:.3f}{told}")
            print(f"| {' | '.join(row)} | {shares[way]:.1%} |", flush=True)
    runtime.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    if chosen.home is not None:
        main(chosen.part, chosen.home)
    else:
        with tempfile.TemporaryDirectory(prefix="asides-") as scratch:
            main(chosen.part, Path(scratch))
