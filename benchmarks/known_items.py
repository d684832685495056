"""A known-item collection from full papers: a sentence of an abstract asks for its paper.

`python benchmarks/known_items.py OUT` writes OUT in BEIR layout from the papers of
`../shared/data/documents/plos`: each without its abstract, up to `--each` sentences of the abstract
as queries, the paper as the one right answer. What makes it a test of reading and not of finding
the same words: a sentence is left out when the paper's body has six of its words in a row, and so
are those of fewer than eight words. Papers without an abstract stay in the corpus; nothing asks for
them.

`longleaf eval OUT --depth all` then says which depth of the second stage finds more of them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from longleaf.indexer.sentences import sentence_spans

PAPERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "documents" / "plos"
MIN_WORDS, RUN_WORDS = 8, 6
_ABSTRACT = re.compile(r"\AAbstract\n(.*?)(?=\n\n#|\Z)", re.DOTALL)
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of `RUN_WORDS` words."""
    found = words(text)
    return {tuple(found[n : n + RUN_WORDS]) for n in range(len(found) - RUN_WORDS + 1)}


def questions(abstract: str, body: str) -> Iterator[str]:
    """Sentences of an abstract that its body does not repeat."""
    said = runs(body)
    for start, end in sentence_spans(abstract, 0, len(abstract)):
        sentence = " ".join(abstract[start:end].split())
        if len(words(sentence)) >= MIN_WORDS and not runs(sentence) & said:
            yield sentence


def spread(found: Sequence[str], most: int) -> list[str]:
    """At most so many, from the whole length."""
    if len(found) <= most:
        return list(found)
    return [found[n * (len(found) - 1) // max(most - 1, 1)] for n in range(most)]


def build(papers: Path, out: Path, each: int) -> tuple[int, int]:
    """(papers, queries) written."""
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    corpus, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for line in (papers / "corpus.jsonl").read_text("utf-8").splitlines():
        paper = json.loads(line)
        found = _ABSTRACT.match(paper["text"])
        body = paper["text"][found.end() :].lstrip() if found else paper["text"]
        if not body:
            continue
        corpus.append(json.dumps({"_id": paper["_id"], "title": paper["title"], "text": body}))
        chosen = (
            spread(list(questions(found[1], f"{paper['title']}. {body}")), each) if found else []
        )
        for number, sentence in enumerate(chosen):
            name = f"{paper['_id']}-{number}"
            queries.append(json.dumps({"_id": name, "text": sentence}))
            qrels.append(f"{name}\t{paper['_id']}\t1")
    (out / "corpus.jsonl").write_text("\n".join(corpus) + "\n", "utf-8")
    (out / "queries.jsonl").write_text("\n".join(queries) + "\n", "utf-8")
    (out / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n", "utf-8")
    return len(corpus), len(queries)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--papers", type=Path, default=PAPERS)
    parser.add_argument("--each", type=int, default=4, help="queries for each paper at most")
    given = parser.parse_args(arguments)
    papers, queries = build(given.papers, given.out, given.each)
    print(f"{papers} papers, {queries} queries in {given.out}")


if __name__ == "__main__":
    main()
