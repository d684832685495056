"""What `gpu_rerank.py` has measured as a table, the issue's targets judged, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TARGETS_MS = {("0.6B", 100, 128): 28.0, ("0.6B", 100, 512): 100.0, ("0.6B", 1, 32_768): 350.0}
"""Issue 4's, for an H200: wall time, median."""
TIMES_FASTER = {("0.6B", 100, 128): 4.0, ("0.6B", 100, 512): 2.5, ("0.6B", 100, 8192): 2.0}
"""Than CrossEncoder at its best batch size, texts in, scores out."""
MOST_OF_FLOOR = {(name, 100, tokens): 1.7 for name in ("4B", "8B") for tokens in (128, 512)}


def summary(told: dict[str, Any]) -> str:
    """A table of medians, of ratios to ours with ids and with texts, and of the targets."""
    head = (
        "| part | model | input | arm | p50 ms | items/s | tokens/s | of the floor | times ours |"
    )
    lines = [head, "|" + " --- |" * 9]
    cells = list(told["cells"].values())
    for cell in cells:
        if "p50_ms" not in cell:
            continue
        same = ("part", "model", "documents", "tokens", "spread")
        base = "ours/texts" if "texts" in cell["arm"] else "ours/graphs"
        own = next(
            (c["p50_ms"] for c in cells
             if c["arm"] == base and "p50_ms" in c and all(c[n] == cell[n] for n in same)), None,
        )  # fmt: skip
        ratio = f"{cell['p50_ms'] / own:.2f}" if own else ""
        size = f"{cell['documents']} x {cell['tokens']} {cell['spread']}"
        speed, over = cell["items_per_second"], 1 / cell["utilisation"]
        row = (cell["part"], cell["model"], size, cell["arm"], f"{cell['p50_ms']:.1f}")
        row += (f"{speed:.0f}", f"{cell['tokens_per_second']:.0f}", f"{over:.2f}", ratio)
        lines.append("| " + " | ".join(row) + " |")
    for (model, documents, tokens), most in TARGETS_MS.items():
        case = (model, documents, tokens)
        if own := _best(cells, case, "ours/graphs"):
            ms = own["p50_ms"]
            lines.append(_verdict(case, ms <= most, f"{ms:.1f} ms, {most} ms"))
    for case, least in TIMES_FASTER.items():
        own, theirs = _best(cells, case, "ours/texts"), _best(cells, case, "CrossEncoder/texts")
        if own and theirs:
            ratio = theirs["p50_ms"] / own["p50_ms"]
            lines.append(_verdict(case, ratio >= least, f"{ratio:.2f} times CrossEncoder, {least}"))
    for case, most in MOST_OF_FLOOR.items():
        if own := _best(cells, case, "ours/graphs"):
            over = 1 / own["utilisation"]
            lines.append(_verdict(case, over <= most, f"{over:.2f} of the floor, {most}"))
    return "\n".join(lines)


def _best(cells: Sequence[Any], case: tuple[str, int, int], arm: str) -> Any:
    """The fastest cell of that case whose arm begins so, or None."""
    found = [
        cell
        for cell in cells
        if (cell["model"], cell["documents"], cell["tokens"]) == case
        and cell["spread"] == "fixed"
        and cell["arm"].startswith(arm)
        and "p50_ms" in cell
    ]
    return min(found, key=lambda cell: cell["p50_ms"], default=None)


def _verdict(case: tuple[str, int, int], good: bool, said: str) -> str:
    model, documents, tokens = case
    return f"{'OK' if good else 'FAIL'} {model} {documents}x{tokens}: {said} asked for"


def plot(told: dict[str, Any]) -> str:
    """The arms of part rivals as bars, SVG."""
    bars = [c for c in told["cells"].values() if c["part"] == "rivals" and "p50_ms" in c]
    most = max((c["items_per_second"] for c in bars), default=1.0)
    rows = [
        f'<text x="0" y="{22 * n + 15}">{c["documents"]} x {c["tokens"]} {c["arm"]}</text>'
        f'<rect x="300" y="{22 * n + 3}" width="{width:.1f}" height="15"/>'
        f'<text x="{305 + width:.1f}" y="{22 * n + 15}">{c["items_per_second"]:.0f}/s</text>'
        for n, c in enumerate(bars)
        for width in [400 * c["items_per_second"] / most]
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="780" height="{22 * len(bars) + 30}"'
    style = ' font-family="sans-serif" font-size="12" fill="#246">'
    return head + style + f"<title>{told['machine']}</title>" + "".join(rows) + "</svg>\n"
