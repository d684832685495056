"""`longleaf search --explain`: how each score came about, as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_explanation(answer: dict[str, Any], out: Console) -> None:
    """One row a hit (its best passage's scores), and with what the answer was made."""
    told = answer["explain"]
    table = Table(title="How the scores came about", title_justify="left")
    for column in ("", "document", "dense", "bm25", "first stage", "passages", "whole", "final"):
        table.add_column(column, overflow="fold")
    for hit in answer["hits"]:
        best = hit["passages"][0] if hit["passages"] else None
        first, reading, earlier = hit["first_stage"], hit["reading"], hit["earlier"]
        whole = reading if reading and reading["depth"] == "document" else None
        table.add_row(
            str(hit["rank"]),
            hit["title"],
            _side(best, "dense", 3),
            _side(best, "bm25", 2),
            f"#{first['rank']} {first['score']:.3f}",
            _reading(earlier or (reading if whole is None else None)),
            _reading(whole),
            f"{hit['score']:.3f}",
        )
    out.print(table)
    out.print(
        f"dense, bm25: #rank, score, z-score of the best passage. Fusion {told['fusion']}: "
        f"z(dense) + {told['weight_bm25']:g} z(bm25), bibliographies - {told['aside_penalty']:g}.",
        style="dim",
        markup=False,
    )
    if told["reranker_fingerprint"] is not None:
        out.print(
            f"Final: z(reading) + {told['first_stage_weight']:g} z(first stage); documents read "
            f"whole: z(that) + {told['document_weight']:g} z(reading), among themselves. Depth "
            f"{told['depth']}.",
            style="dim",
            markup=False,
        )
    said = told["instruction"] or "none: no model here takes one"
    mark = f" ({told['instruction_sha256'][:12]})" if told["instruction_sha256"] else ""
    out.print(f"Instruction: {said}{mark}", style="dim", markup=False)
    for name in ("embedder", "reranker"):
        if told[f"{name}_fingerprint"]:
            out.print(f"{name}: {told[f'{name}_fingerprint']}", style="dim", markup=False)


def _side(passage: dict[str, Any] | None, side: str, digits: int) -> str:
    if passage is None or passage["scores"][side] is None:
        return "-"
    rank = passage["scores"][f"{side}_rank"]
    normal = (passage["normalised"] or {}).get(side)
    told = f"#{rank} " if rank else ""
    told += f"{passage['scores'][side]:.{digits}f}"
    return told + (f" z {normal:+.2f}" if normal is not None else "")


def _reading(reading: dict[str, Any] | None) -> str:
    if reading is None:
        return "-"
    cut = f", {reading['truncated_tokens']:,} cut" if reading["truncated_tokens"] else ""
    read = f"{reading['tokens_read']:,} of {reading['tokens_total']:,} tokens"
    return f"{reading['score']:.3f} ({read}{cut})"
