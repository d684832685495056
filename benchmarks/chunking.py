"""Which passages find best: targets, overlaps, and the chunker's rules against plain windows.

`python benchmarks/chunking.py run --cells product:200:0 windows:200:0 --on contractnli covid_qa`
indexes each collection once for each cell and asks every query as `longleaf eval` does; a result
is one JSON file with each query's values, so a run that is interrupted goes on where it stopped.
`... report --base product:200:0` compares cells by query: means and paired bootstrap intervals,
spans at equal returned characters. A cell is kind:target:overlap in tokens; the kinds are those of
`chunker_of`. `--part N` keeps each N-th document and the queries that only need those: quicker, and
with fewer documents to confuse; never compare a part with a whole.

It measures retrieval only: what a language model makes of the passages is another question.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from tokenizers import Tokenizer

from longleaf.api import wire
from longleaf.api.evaluate.beir import BeirCollection, load_beir
from longleaf.api.evaluate.engine import COLLECTION, EngineUnderTest
from longleaf.api.evaluate.metrics import paired_intervals
from longleaf.api.evaluate.run import EvalOptions, StagedResult, evaluate
from longleaf.api.evaluate.spans import RankedSpan, span_measures
from longleaf.core.config import Settings
from longleaf.core.protocols import Chunker, Embedder
from longleaf.core.types import Document, Passage, Scope
from longleaf.indexer.chunk import PassageChunker
from longleaf.indexer.sentences import trim

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDERS = {
    "contractnli": "legalbench_rag/contractnli",
    "privacy_qa": "legalbench_rag/privacy_qa",
    "chunking_eval": "chunking_eval",
    "covid_qa": "covid_qa",
    "scifact": "scifact",
    "cranfield": "cranfield",
}
KINDS = ("product", "no-clauses", "no-sections", "windows")


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of making passages: `kind` is one of `KINDS`, sizes are tokens."""

    kind: str
    target_tokens: int
    overlap_tokens: int

    @classmethod
    def of(cls, name: str) -> Cell:
        kind, target, overlap = name.split(":")
        if kind not in KINDS:
            raise SystemExit(f"No kind {kind!r}. Kinds: {', '.join(KINDS)}")
        return cls(kind, int(target), int(overlap))

    def __str__(self) -> str:
        return f"{self.kind}:{self.target_tokens}:{self.overlap_tokens}"


class WindowChunker:
    """The baseline: `target` tokens, then the next; words stay whole, nothing else is looked at."""

    def __init__(self, tokenizer: Tokenizer, target_tokens: int, overlap_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = tokenizer.encode_special_tokens
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._target_tokens, self._overlap_tokens = target_tokens, overlap_tokens
        self.fingerprint = f"windows-1-{target_tokens}-{overlap_tokens}"

    def chunk(self, document: Document) -> tuple[Passage, ...]:
        text = document.text
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        starts = [start for start, _ in offsets]
        # Where a window may begin: tokens that stand behind white space.
        words = [n for n, at in enumerate(starts) if at == 0 or text[at - 1].isspace()]
        passages: list[Passage] = []
        begin = body = 0
        while body < len(starts):
            stop = self._word_at_or_before(words, begin + self._target_tokens, body, len(starts))
            start_char = starts[begin] if passages else 0
            end_char = starts[stop] if stop < len(starts) else len(text)
            start_char, end_char = trim(text, start_char, end_char)
            overlap = max(0, starts[body] - start_char) if passages else 0
            if start_char + overlap < end_char:
                passages.append(
                    Passage(
                        ordinal=len(passages),
                        start_char=start_char,
                        end_char=end_char,
                        token_count=stop - begin,
                        overlap_chars=overlap,
                    )
                )
            body = stop
            begin = self._word_at_or_before(words, stop - self._overlap_tokens, begin, stop)
            begin = body if self._overlap_tokens == 0 else begin
        return tuple(passages)

    @staticmethod
    def _word_at_or_before(words: Sequence[int], token: int, after: int, end: int) -> int:
        """The last word's first token at or before `token` but behind `after`; else `token`."""
        if token >= end:
            return end
        place = bisect_left(words, token + 1) - 1
        return words[place] if place >= 0 and words[place] > after else max(token, after + 1)


class _Flat:
    """The product's sentences and limits without its sections."""

    def __init__(self, inner: Chunker) -> None:
        self._inner = inner
        self.fingerprint = f"flat-{inner.fingerprint}"

    def chunk(self, document: Document) -> tuple[Passage, ...]:
        return self._inner.chunk(replace(document, sections=()))


def chunker_of(cell: Cell, tokenizer: Tokenizer, tokenizer_id: str) -> Chunker:
    """`product` as shipped; `no-clauses` cuts numbered clauses like any text; `no-sections` does
    not see headings; `windows` sees neither sentences nor headings."""
    if cell.kind == "windows":
        return WindowChunker(tokenizer, cell.target_tokens, cell.overlap_tokens)
    sizes = (cell.target_tokens, cell.overlap_tokens)
    if cell.kind == "no-clauses":
        return PassageChunker(tokenizer, tokenizer_id, *sizes, keep_clauses=False)
    product = PassageChunker(tokenizer, tokenizer_id, *sizes)
    return _Flat(product) if cell.kind == "no-sections" else product


# --- one cell on one collection ----------------------------------------------------------------


class _Recorder:
    """Passes searches on and keeps the passages, which a report has only as means."""

    def __init__(self, engine: EngineUnderTest) -> None:
        self._engine = engine
        self.passages: dict[str, dict[str, Sequence[RankedSpan]]] = {}

    def search(self, query_text: str) -> StagedResult:
        result = self._engine.search(query_text)
        for stage, spans in result.passages.items():
            self.passages.setdefault(stage, {})[query_text] = spans
        return result

    def rerank_given(self, query_text: str, given: Sequence[tuple[str, float]]) -> StagedResult:
        raise AssertionError("no given runs here")


def indexed(corpus: Path, chunker: Chunker, embedder: Embedder, home: Path) -> wire.Runtime:
    """A runtime over a data folder that holds `corpus`, cut by `chunker`; made where needed."""
    with (
        patch.object(wire, "open_models", lambda settings, reasons: (embedder, chunker)),
        patch.object(wire, "open_chunker", lambda settings, embedder: chunker),
    ):
        runtime = wire.open_runtime(Settings(home=home), follow=False)
    if COLLECTION not in runtime.catalog.collection_languages(Scope.all(), None):
        runtime.catalog.create_collection(COLLECTION, "english")
    runtime.indexer.index_paths(COLLECTION, "english", [corpus.resolve()])
    runtime.side.followed.follower.catch_up()
    return runtime


def measure(collection: BeirCollection, runtime: wire.Runtime) -> dict[str, object]:
    """Ask every query; stage to measure to query id to value, and how much there is."""
    asked = _Recorder(EngineUnderTest(runtime, spans=bool(collection.gold)))
    report = evaluate(collection, asked, EvalOptions(resamples=1))
    values = {stage: dict(by_measure) for stage, by_measure in report.values.items()}
    gold = {
        query_id: [(span.document_key, span.start_char, span.end_char) for span in spans]
        for query_id, spans in collection.gold.items()
    }
    for stage, by_text in asked.passages.items():
        by_id = {query_id: by_text[collection.queries[query_id]] for query_id in gold}
        values[stage] |= span_measures(gold, by_id)
    return {
        "queries": len(collection.queries),
        "documents": len(collection.document_keys),
        "passages": runtime.catalog.count(Scope.all()).passages,
        "values": values,
    }


def write_part(folder: Path, target: Path, split: str, part: int) -> Path:
    """A folder with each `part`-th document and the queries whose judged documents are all in."""
    target.mkdir(parents=True, exist_ok=True)
    lines = (folder / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.strip()][::part]
    (target / "corpus.jsonl").write_text("".join(kept), "utf-8")
    keys = {str(json.loads(line)["_id"]) for line in kept}
    whole = load_beir(folder, split)
    chosen = {
        query_id: grades
        for query_id, grades in whole.qrels.items()
        if all(key in keys for key, grade in grades.items() if grade > 0)
    }
    (target / "queries.jsonl").write_text(
        "".join(
            json.dumps({"_id": query_id, "text": whole.queries[query_id]}) + "\n"
            for query_id in chosen
        )
    )
    rows = [
        f"{query_id}\t{key}\t{grade}\n"
        for query_id, grades in chosen.items()
        for key, grade in grades.items()
        if key in keys
    ]
    (target / "qrels").mkdir(exist_ok=True)
    (target / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    spans = [
        json.dumps(
            {
                "query-id": span.query_id,
                "corpus-id": span.document_key,
                "start": span.start_char,
                "end": span.end_char,
                "answer": span.answer,
            }
        )
        for query_id in chosen
        for span in whole.gold.get(query_id, ())
    ]
    if spans:
        (target / "snippets.jsonl").write_text("\n".join(spans) + "\n")
    return target


def run(cells: Sequence[Cell], names: Sequence[str], out: Path, split: str, part: int) -> None:
    """Every cell on every collection that has no result yet."""
    from longleaf.indexer.embed import MiniLMEmbedder

    embedder = MiniLMEmbedder()
    for cell in cells:
        for name in names:
            result = _result_path(out, cell, name, split, part)
            if result.exists():
                continue
            with tempfile.TemporaryDirectory(prefix="chunking-") as scratch:
                folder = DATA / FOLDERS[name]
                if part > 1:
                    folder = write_part(folder, Path(scratch) / "part", split, part)
                chunker = chunker_of(cell, embedder.tokenizer, embedder.tokenizer_id)
                started = time.perf_counter()
                collection = load_beir(folder, split)
                runtime = indexed(collection.corpus_path, chunker, embedder, Path(scratch) / "home")
                measured = measure(collection, runtime)
                runtime.close()
            result.parent.mkdir(parents=True, exist_ok=True)
            written = result.with_suffix(".partial")
            written.write_text(json.dumps(measured))
            shutil.move(written, result)
            print(
                f"{cell} {name}: {measured['passages']:,} passages, "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )


def _result_path(out: Path, cell: Cell, name: str, split: str, part: int) -> Path:
    where = f"{name}-{split}" + (f"-part{part}" if part > 1 else "")
    return out / where / f"{str(cell).replace(':', '-')}.json"


# --- report ------------------------------------------------------------------------------------

MEASURES = (
    *(f"span_{what}@{budget}" for budget in (500, 2000, 5000) for what in ("recall", "precision")),
    "ndcg@10",
)


def report(
    cells: Sequence[Cell],
    names: Sequence[str],
    base: Cell,
    out: Path,
    split: str,
    part: int,
    stage: str,
) -> None:
    """A Markdown table for each collection: means, and the difference to `base` with interval."""
    for name in names:
        found = {
            str(cell): json.loads(path.read_text())
            for cell in dict.fromkeys((base, *cells))
            if (path := _result_path(out, cell, name, split, part)).exists()
        }
        if str(base) not in found:
            print(f"{name}: no result for {base}")
            continue
        values = {cell: one["values"][stage] for cell, one in found.items()}
        pairs = [(cell, str(base)) for cell in found if cell != str(base)]
        means, gaps = paired_intervals(values, pairs)
        about = found[str(base)]
        print(f"\n{name}, {stage}, {about['queries']} queries, {about['documents']} documents\n")
        print("\n".join(_rows(found, means, gaps, str(base))))


def _rows(
    found: Mapping[str, Mapping[str, object]],
    means: Mapping[tuple[str, str], object],
    gaps: Mapping[tuple[str, str, str], object],
    base: str,
) -> Iterator[str]:
    shown = [name for name in MEASURES if (base, name) in means]
    yield "| cell | passages | " + " | ".join(name.removeprefix("span_") for name in shown) + " |"
    yield "|---" * (len(shown) + 2) + "|"
    for cell, one in found.items():
        row = []
        for name in shown:
            text = f"{means[cell, name].mean:.3f}"
            gap = gaps.get((cell, base, name))
            if gap is not None:
                mark = "" if gap.holds_zero else "*"
                text += f" ({gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]){mark}"
            row.append(text)
        yield f"| {cell} | {one['passages']:,} | " + " | ".join(row) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--cells", nargs="+", type=Cell.of, required=True)
    parser.add_argument("--on", nargs="+", choices=FOLDERS, default=list(FOLDERS)[:4])
    parser.add_argument("--out", type=Path, default=Path("/tmp/chunking"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--base", type=Cell.of, default=Cell("product", 200, 0))
    parser.add_argument("--stage", default="final", choices=["bm25", "dense", "fused", "final"])
    chosen = parser.parse_args()
    if chosen.what == "run":
        run(chosen.cells, chosen.on, chosen.out, chosen.split, chosen.part)
    else:
        report(
            chosen.cells,
            chosen.on,
            chosen.base,
            chosen.out,
            chosen.split,
            chosen.part,
            chosen.stage,
        )
