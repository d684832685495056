"""What an evaluation found, as values, as JSON and as tables.

`EvalReport` holds numbers only. A `Table` is plain strings, so the terminal, a web page or a
document can show the same one; rich is only at the end, in `print_report`. Decides nothing but
rounding: 3 decimals for metrics, 1 for milliseconds; JSON keeps them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from longleaf.api.evaluate.metrics import MEASURES, Interval, Ranking

if TYPE_CHECKING:
    from rich.console import Console

TITLES = {"ndcg@10": "nDCG@10", "r@100": "R@100", "mrr@10": "MRR@10"}
_ALIKE = "not distinguishable"


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One stage over all queries. `measures`: by name of `MEASURES`. Times are None if not told.

    `spans`: budget in characters to {"recall", "precision"}, over the queries with gold spans.
    `missing_queries` had no ranking of this stage and count as 0. `judged_share`: which part of
    the best 10 was judged, where only judged documents are scored.
    """

    measures: Mapping[str, Interval]
    p50_ms: float | None
    p95_ms: float | None
    missing_queries: int = 0
    judged_share: float | None = None
    spans: Mapping[int, Mapping[str, Interval]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`stage` minus `over` in one measure, paired by query.

    `measure` is one of `MEASURES`, or "span_recall@500" and the like. `won`, `lost`: on how many
    queries `stage` was better and worse (None where that is not told).
    """

    stage: str
    over: str
    measure: str
    difference: Interval
    won: int | None = None
    lost: int | None = None

    @property
    def distinguishable(self) -> bool:
        return not self.difference.holds_zero


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One collection and split, every stage that answered.

    `rankings` (stage to query id to ranking) and `values` (stage to measure to query id to value)
    are kept for run files and later comparisons, `texts` (query id to text) for those who read
    them; JSON leaves them out. `degraded`: reason to
    number of queries. `other_timings`: name to (p50, p95) in ms.
    """

    collection: str
    split: str
    queries: int
    span_queries: int
    stages: Mapping[str, StageFigures]
    comparisons: tuple[Comparison, ...]
    other_timings: Mapping[str, tuple[float, float]]
    degraded: Mapping[str, int]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    settings: Mapping[str, object]
    rankings: Mapping[str, Mapping[str, Ranking]] = field(default_factory=dict, repr=False)
    values: Mapping[str, Mapping[str, Mapping[str, float]]] = field(
        default_factory=dict, repr=False
    )
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to show: every row has one string for each column, the first is a name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def to_json(report: EvalReport) -> dict[str, Any]:
    """A tree of plain values. `stages.<stage>.<measure>` is the mean, `…_interval` [low, high]."""
    stages: dict[str, dict[str, Any]] = {}
    spans: dict[str, dict[str, Any]] = {}
    for stage, figures in report.stages.items():
        stages[stage] = _means(figures.measures) | {
            "p50_ms": figures.p50_ms,
            "p95_ms": figures.p95_ms,
            "missing_queries": figures.missing_queries,
            "judged_share": figures.judged_share,
        }
        if figures.spans:
            spans[stage] = {str(budget): _means(both) for budget, both in figures.spans.items()}
    return {
        "collection": report.collection,
        "split": report.split,
        "queries": report.queries,
        "stages": stages,
        "comparisons": [
            {
                "stage": comparison.stage,
                "over": comparison.over,
                "measure": comparison.measure,
                "difference": comparison.difference.mean,
                "interval": [comparison.difference.low, comparison.difference.high],
                "distinguishable": comparison.distinguishable,
                "won": comparison.won,
                "lost": comparison.lost,
            }
            for comparison in report.comparisons
        ],
        "span_queries": report.span_queries,
        "spans": spans,
        "other_timings": {
            name: {"p50_ms": p50, "p95_ms": p95}
            for name, (p50, p95) in report.other_timings.items()
        },
        "degraded": dict(report.degraded),
        "counts": dict(report.counts),
        "notes": list(report.notes),
        "settings": dict(report.settings),
    }


def stage_table(report: EvalReport) -> Table:
    """Stages × nDCG@10, R@100, MRR@10, p50 and p95 ms."""
    rows = tuple(
        (
            stage,
            *(_with_interval(figures.measures[name]) for name in MEASURES),
            _ms(figures.p50_ms),
            _ms(figures.p95_ms),
        )
        for stage, figures in report.stages.items()
    )
    columns = ("stage", *(TITLES[name] for name in MEASURES), "p50 ms", "p95 ms")
    title = f"{report.collection} · {report.split} · {report.queries} queries"
    return Table(title, columns, rows, f"[low–high]: {_confidence(report)} interval over queries")


def comparison_table(report: EvalReport) -> Table:
    """Pairs of stages × measures: the paired difference, its interval, and what it shows."""
    rows = []
    for comparison in report.comparisons:
        if comparison.measure in MEASURES:
            gap = comparison.difference
            verdict = _ALIKE
            if comparison.distinguishable:
                verdict = f"{comparison.stage if gap.mean > 0 else comparison.over} is better"
            pair = f"{comparison.stage} − {comparison.over}"
            span = f"{gap.low:+.3f} … {gap.high:+.3f}"
            queries = f"{comparison.won} / {comparison.lost}"
            title = TITLES[comparison.measure]
            rows.append((pair, title, f"{gap.mean:+.3f}", span, queries, verdict))
    interval = f"{_confidence(report)} interval"
    columns = ("stages", "measure", "difference", interval, "won / lost", "")
    return Table("Paired differences", columns, tuple(rows), _unadjusted(report))


def span_table(report: EvalReport) -> Table | None:
    """Stages × recall and precision of returned characters; None without gold spans."""
    measured = {stage: figures.spans for stage, figures in report.stages.items() if figures.spans}
    if not measured:
        return None
    budgets = list(next(iter(measured.values())))
    columns = ("stage", *(f"{what} @{b:,}" for b in budgets for what in ("recall", "precision")))
    rows = tuple(
        (stage, *(_with_interval(spans[b][what]) for b in budgets for what in spans[b]))
        for stage, spans in measured.items()
    )
    title = f"Returned characters against gold spans · {report.span_queries} queries"
    return Table(title, columns, rows)


def span_comparison_table(report: EvalReport) -> Table | None:
    """Pairs of stages × span measures, differences only; ≈ where they are not distinguishable."""
    names = [c.measure for c in report.comparisons if c.measure not in MEASURES]
    if not names:
        return None
    measures = tuple(dict.fromkeys(names))
    cells: dict[str, dict[str, str]] = {}
    for comparison in report.comparisons:
        mark = "" if comparison.distinguishable else " ≈"
        pair = cells.setdefault(f"{comparison.stage} − {comparison.over}", {})
        pair[comparison.measure] = f"{comparison.difference.mean:+.3f}{mark}"
    rows = tuple(
        (pair, *(by_measure.get(name, "") for name in measures))
        for pair, by_measure in cells.items()
        if any(name in by_measure for name in measures)
    )
    columns = ("stages", *(name.removeprefix("span_").replace("@", " @") for name in measures))
    caption = f"≈ {_ALIKE}: 0 lies in the {_confidence(report)} interval"
    return Table("Paired differences of spans", columns, rows, caption)


def reports_table(reports: Mapping[str, EvalReport], measure: str = "ndcg@10") -> Table:
    """Several evaluations side by side: names × stages in one measure."""
    stages = tuple(dict.fromkeys(stage for report in reports.values() for stage in report.stages))
    rows = tuple(
        (
            name,
            *(
                _with_interval(report.stages[stage].measures[measure])
                if stage in report.stages
                else "–"
                for stage in stages
            ),
        )
        for name, report in reports.items()
    )
    return Table(TITLES[measure], ("", *stages), rows)


def print_report(report: EvalReport, console: Console | None = None) -> None:
    """All tables, then what degraded and the notes. No colours; 120 columns when not a terminal."""
    from rich.console import Console
    from rich.text import Text

    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
    tables = (
        stage_table(report),
        span_table(report),
        comparison_table(report) if report.comparisons else None,
        span_comparison_table(report),
    )
    for table in tables:
        if table is not None:
            print_table(table, console)
    # Text, not markup: a document id may hold brackets.
    for reason, times in report.degraded.items():
        console.print(Text(f"degraded in {times} of {report.queries} queries: {reason}"))
    for name, (p50, p95) in report.other_timings.items():
        console.print(Text(f"{name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms"))
    for note in report.notes:
        console.print(Text(f"note: {note}"))


def print_table(table: Table, console: Console) -> None:
    """Show one table with rich, numbers to the right."""
    from rich.box import SIMPLE
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=Text(table.title), caption=Text(table.caption), box=SIMPLE, title_justify="left"
    )
    for position, column in enumerate(table.columns):
        shown.add_column(Text(column), justify="right" if position else "left")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def _means(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    means: dict[str, Any] = {name: interval.mean for name, interval in intervals.items()}
    return means | {f"{name}_interval": [i.low, i.high] for name, i in intervals.items()}


def _with_interval(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}–{interval.high:.3f}]"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _confidence(report: EvalReport) -> str:
    level = report.settings.get("confidence", 0.95)
    return f"{100 * level:g} %" if isinstance(level, float) else "95 %"


def _unadjusted(report: EvalReport) -> str:
    return f"{len(report.comparisons)} intervals, each on its own: not adjusted for their number"
