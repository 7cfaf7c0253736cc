"""The sections of slices: the worst, all of them, beside the baseline, searched for, and crossed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossops.report import plots
from lossops.report.blocks import Block, Cells, Column, Figure, Gallery, Heading, Note, Table, left_out, values, within
from lossops.report.history import MOVED
from lossops.report.labels import short
from lossops.report.selection import discovered, is_overall, level, overall, slices_of
from lossops.report.store import Report
from lossops.report.svg import Picture, plot_of
from lossops.report.tables import quantile_name

__all__ = ["compared_slices", "crosses", "discovered_slices", "every_slice", "mean_title", "worst_slices_of"]

Pair = tuple[str, str]

_DOTS = 25  # in a plot
_BETTER = 10  # of them, where worse and better slices are drawn
_CELLS = 30  # of a heat map, down and across
_SLICE_BYTES = 1_800_000  # of the table of slices, some 8 000 rows; the worst of each model and loss have equal shares
_OTHER_BYTES = 300_000
_ROW_BYTES = 50  # no row of a table takes less
_CROSSED = 20_000  # slices of a cross that are looked at: the largest
_INTERVALS = ("ci_low", "ci_high")
_OTHERS = ("other_mean", "difference", *_INTERVALS, "p_adjusted")  # of a contrast


def _own(table: pa.Table, pair: Pair) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["model"], pair[0]), pc.equal(table["loss"], pair[1])))


def _without_overall(table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(is_overall(table)))


def _pairs_left(left: int, file: str) -> Iterator[Note]:
    if left > 0:
        yield Note(f"{left:,} more pairs of model and loss have no plot; they are in {file}.")


def worst_slices_of(report: Report, pairs: Sequence[Pair], limit: int) -> Iterator[Block]:
    """The worst slices of each model and loss, as dots with intervals."""
    shown = [(pair, slices_of(report, *pair, _DOTS).to_pylist()) for pair in pairs]
    shown = [(pair, rows) for pair, rows in shown if rows]
    if shown:
        yield Note(
            "Sorted by the lower end of the interval, so that a few unlucky rows do not outrank a real problem. "
            "The area of a dot is the rows scored, the dashed line the mean of all rows."
        )
    columns = [
        *(Column("slice", "text"), Column("rows scored", "count"), Column("mean loss"), *_from_to("mean")),
        *(Column("mean of others"), Column("difference"), *_from_to("difference"), Column("adjusted p")),
    ]
    contrasts_of = report.contrasts.select(["model", "loss", "slice", *_OTHERS])
    others = contrasts_of.filter(pc.equal(report.contrasts["against"], "complement"))
    figures = []
    for number, (pair, rows) in enumerate(shown[:limit]):
        picture = worst_slices_plot(report, pair, rows)
        about = f"Dots are means, lines their {level(report)} intervals, worst first."
        contrasts = _own(others, pair)
        cells = _beside_others(values(rows, "slice", "rows_valid", "mean", *_INTERVALS), contrasts)
        table = Table(f"t-worst-{number}", "The worst slices, beside all other rows", columns, cells, folded=True)
        plot = plot_of(picture, f"Worst slices of {', '.join(pair)}", about)
        figures.append(Figure(pair, plot, _sure_ones(contrasts), table))
    if figures:
        yield Gallery(figures)
    yield from _pairs_left(len(shown) - limit, "the table below")


def _beside_others(cells: Sequence[Cells], contrasts: pa.Table) -> list[Cells]:
    """Rows that begin with a slice, continued by its contrast with all rows that are not in it."""
    wanted = contrasts.filter(pc.is_in(contrasts["slice"], pa.array([row[0] for row in cells], pa.string())))
    found = {row["slice"]: tuple(row[name] for name in _OTHERS) for row in wanted.to_pylist()}
    return [(*row, *found.get(row[0], (None,) * len(_OTHERS))) for row in cells]


def _sure_ones(contrasts: pa.Table) -> str:
    """How many slices surely differ from all other rows."""
    if not contrasts.num_rows:
        return ""
    sure = contrasts.filter(pc.less(contrasts["p_adjusted"], MOVED))
    above = sure.filter(pc.greater(sure["difference"], 0.0)).num_rows
    told = f"{above:,} of {contrasts.num_rows:,} slices have a surely higher mean than all other rows"
    return f"{told}, {sure.num_rows - above:,} a surely lower one (p < {MOVED:g}, adjusted over the slices)."


def worst_slices_plot(report: Report, pair: Pair, rows: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Dots with intervals for slices of a model and loss, and a line where the mean of all rows is."""
    whole = next(row for row in overall(report) if (row["model"], row["loss"]) == pair)
    return plots.dot_plot(rows, "mean", "slice", mean_title(whole), size="rows_valid", marked=whole["mean"])


def mean_title(row: Mapping[str, Any]) -> str:
    """What an axis of means of a model and loss shows; a measure is no mean, and a mean may be called so."""
    is_told = row["kind"] != "loss" or row["loss"].startswith("mean_")
    return short(row["loss"]) if is_told else f"mean {short(row['loss'])}"


def _from_to(what: str) -> list[Column]:
    return [Column(f"{what} from"), Column(f"{what} to")]


def every_slice(report: Report, pairs: Sequence[Pair]) -> Iterator[Block]:
    """All slices of all models and losses in one table, as many as a page can hold."""
    quantiles = [quantile_name(one) for one in report.run.get("config", {}).get("quantiles", [])]
    names = ["slice", "model", "loss", "rows", "rows_valid", "mean", *_INTERVALS, "std", *quantiles, "max"]
    count = pc.sum(pc.invert(is_overall(report.losses))).as_py()
    if not count:
        return
    asked = [*names, "hidden", "heavy_tail"]
    hidden = report.losses.filter(pc.is_valid(report.losses["hidden"]))
    shown: list[tuple[Any, ...]] = []
    for pair in pairs:
        size = _SLICE_BYTES // len(pairs)
        most = size // _ROW_BYTES
        parts = (slices_of(report, *pair, most, columns=asked), _without_overall(_own(hidden, pair)).slice(0, most))
        cells, remarks = _values(parts, names), map(_remark, *_values(parts, ["hidden", "heavy_tail", "rows_valid"]))
        shown += within(list(zip(*cells, remarks, strict=True)), size)
    columns = [
        Column("slice", "text"),
        Column("model", "text", choice=True),
        Column("loss", "text", choice=True),
        Column("rows", "count"),
        Column("rows scored", "count"),
        Column("mean loss"),
        *_from_to("mean"),
        Column("standard deviation"),
        *(Column(f"quantile {name}") for name in quantiles),
        Column("largest loss"),
        Column("remark", "text", choice=True),
    ]
    yield Heading(("Every slice",))
    if (left := count - len(shown)) > 0:
        yield Note(f"The table holds {len(shown):,} of {count:,} rows; {left:,} more are in losses.parquet.")
    yield Table("t-slices", "Slices of every model and loss, the worst of each first", columns, shown)


def _values(parts: Sequence[pa.Table], names: Sequence[str]) -> list[list[Any]]:
    """The values of columns, of one table after the other."""
    return [[value for part in parts for value in part[name].to_pylist()] for name in names]


def _remark(hidden: str | None, heavy: object, scored: int | None) -> str | None:
    if hidden:
        return f"hidden: {hidden}"
    if heavy:
        return "heavy tail: the interval is too short"
    return None if scored else "no row was scored"


def compared_slices(report: Report, pairs: Sequence[Pair], limit: int) -> Iterator[Block]:
    """Every slice beside the baseline: paired differences with intervals, those that are surely worse first."""
    table = _without_overall(report.comparisons).sort_by([("ci_low", "descending"), ("difference", "descending")])
    shown = [(pair, own) for pair in pairs if (own := _own(table, pair)).num_rows]
    if not shown:
        return
    yield Gallery([_differences(*one) for one in shown[:limit]])
    yield from _pairs_left(len(shown) - limit, "the table below")
    names = ["slice", "model", "loss", "rows", "baseline_mean", "mean", "difference", *_INTERVALS]
    names += ["relative_difference", "p_adjusted"]
    columns = [
        Column("slice", "text"),
        Column("model", "text", choice=True),
        Column("loss", "text", choice=True),
        Column("rows of both", "count"),
        *(Column(title) for title in ("baseline mean", "mean loss", "difference")),
        *_from_to("difference"),
        Column("relative difference", "percent"),
        Column("adjusted p"),
    ]
    size = _OTHER_BYTES // len(shown)
    parts = [values(own.slice(0, size // _ROW_BYTES).to_pylist(), *names) for _, own in shown]
    cells = [row for part in parts for row in within(part, size)]
    yield Table("t-differences", "Difference to the baseline of every slice, surely worse ones first", columns, cells)
    yield from left_out(table.num_rows - len(cells), "rows", "comparisons.parquet")


def _differences(pair: Pair, own: pa.Table) -> Figure:
    rows = _surest(own)
    picture = plots.dot_plot(rows, "difference", "slice", "difference to the baseline", size="rows", marked=0.0)
    about = "Dots are differences of the same rows, lines their intervals; right of the dashed line the model is worse."
    told = f"The {_DOTS - _BETTER} slices whose intervals begin highest and the {_BETTER} whose intervals end lowest"
    left = "" if own.num_rows == len(rows) else f"{told}, of {own.num_rows:,}."
    return Figure(pair, plot_of(picture, f"Difference to the baseline of {', '.join(pair)}", about), left)


def _surest(own: pa.Table) -> list[dict[str, Any]]:
    """Of differences, sorted, all or both ends: which are surely high, and which are surely low."""
    if own.num_rows <= _DOTS:
        return list(own.to_pylist())
    worse, rest = own.slice(0, _DOTS - _BETTER), own.slice(_DOTS - _BETTER)
    better = rest.sort_by([("ci_high", "ascending"), ("difference", "ascending")]).slice(0, _BETTER)
    return [*worse.to_pylist(), *reversed(better.to_pylist())]


def discovered_slices(report: Report, limit: int) -> Iterator[Block]:
    """Conjunctions that were searched for, with what the other half of the rows says."""
    rows, _ = discovered(report, report.discovered.num_rows)
    if not rows:
        return
    columns = [
        Column("slice", "text"),
        Column("model", "text", choice=True),
        Column("loss", "text", choice=True),
        Column("searched rows", "count"),
        Column("searched mean"),
    ]
    names = ["slice", "model", "loss", "rows", "mean"]
    if any(row["held_out_rows"] is not None for row in rows):
        order = "the best confirmed first"
        columns += [Column("rows held out", "count"), Column("mean held out"), Column("mean of others")]
        columns += [Column("difference"), *_from_to("difference"), Column("adjusted p")]
        names += ["held_out_rows", "held_out_mean", "held_out_other_mean", "difference", *_INTERVALS, "p_adjusted"]
        yield Note(
            "Found in one half of the rows, tested on the other half, which was held out: its means and p-values are "
            "honest, the searched mean is too high."
        )
    else:
        order = "those of the highest score first"
        yield Note("Found in all rows and tested on none: a mean that was searched for is too high.")
    if figures := _found(rows)[:limit]:
        yield Gallery(figures)
    shown = within(values(rows, *names), _OTHER_BYTES // 2)
    yield Table("t-discovered", f"Slices that were found, {order}", columns, shown)
    yield from left_out(len(rows) - len(shown), "rows", "discovered.parquet")


def _found(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """What the held-out rows say of the slices of each model and loss, as dots with intervals."""
    figures = []
    for pair in dict.fromkeys((row["model"], row["loss"]) for row in rows):
        own = [row for row in rows if (row["model"], row["loss"]) == pair][:_DOTS]
        title = "difference to all other rows, held out"
        picture = plots.dot_plot(own, "difference", "slice", title, size="held_out_rows", marked=0.0)
        if picture is not None:
            about = (
                "Dots are differences of held-out means, lines their intervals; right of the line the slice is worse."
            )
            figures.append(Figure(pair, plot_of(picture, f"Slices that were found of {', '.join(pair)}", about)))
    return figures


def crosses(report: Report, pairs: Sequence[Pair], limit: int) -> Iterator[Block]:
    """Two columns crossed, as a map: of each model and loss the cross in which the worst slice lies."""
    found = [(pair, own) for pair in pairs if (own := _worst_cross(report, pair)).num_rows]
    if found:
        yield Gallery([_cross(f"t-cross-{place}", *one) for place, one in enumerate(found[:limit])])
    yield from _pairs_left(len(found) - limit, "losses.parquet")


def _cross(name: str, pair: Pair, own: pa.Table) -> Figure:
    rows = _largest(own)
    columns = rows[0]["slice_columns"]
    down, across = (_most_rows(rows, place) for place in (0, 1))
    found = {tuple(row["slice_values"]): row["mean"] for row in rows}
    means = [[found.get((one, two)) for two in across] for one in down]
    words = [_word(one) for one in down], [_word(two) for two in across]
    both = f"{columns[0]} by {columns[1]}"
    heads = [Column(columns[0], "text"), *(Column(word) for word in words[1])]
    lines = [(word, *line) for word, line in zip(words[0], means, strict=True)]
    drawn = _finite_cells(means)
    picture = plots.heat_map(drawn, *words, columns) if drawn else None
    left = own.num_rows - sum((one, two) in found for one in down for two in across)
    told = f"Values of the largest slices only: {left:,} slices are left out." if left else ""
    about = "The stronger the colour, the larger the mean loss."
    table = Table(name, f"Mean loss, {both}", heads, lines, folded=True)
    return Figure((*pair, both), plot_of(picture, f"Mean loss, {both}", about), told, table)


def _finite_cells(means: Sequence[Sequence[float | None]]) -> dict[tuple[int, int], float]:
    """Means that have a colour, by place down and across."""
    return {
        (y, x): mean
        for y, line in enumerate(means)
        for x, mean in enumerate(line)
        if mean is not None and math.isfinite(mean)
    }


def _word(value: str | None) -> str:
    return "null" if value is None else value or '""'


def _worst_cross(report: Report, pair: Pair) -> pa.Table:
    """The slices, in order, of the cross of two columns that holds the worst slice of any such cross."""
    worst = slices_of(report, *pair, limit=1, axes=2, columns=["slice_columns"])
    if not worst.num_rows:
        return worst
    losses = report.losses.select(["model", "loss", "slice_columns", "slice_values", "rows", "mean"])
    own, columns = _crossed(_own(losses, pair)), worst["slice_columns"][0].as_py()
    same = [pc.equal(pc.list_element(own["slice_columns"], place), columns[place]) for place in (0, 1)]
    return own.filter(pc.and_(*same))


def _crossed(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(pc.list_value_length(table["slice_columns"]), 2))


def _largest(table: pa.Table) -> list[dict[str, Any]]:
    """The largest slices of a table, in order."""
    kept = pc.sort_indices(table, [("rows", "descending")]).slice(0, _CROSSED)
    return list(table.take(kept.take(pc.sort_indices(kept))).to_pylist())


def _most_rows(rows: Sequence[Mapping[str, Any]], place: int) -> list[str | None]:
    """The values of a column in order; of too many those that are in the largest slices."""
    largest = dict.fromkeys(row["slice_values"][place] for row in sorted(rows, key=lambda row: -(row["rows"] or 0)))
    kept = set(list(largest)[:_CELLS])
    return [value for value in dict.fromkeys(row["slice_values"][place] for row in rows) if value in kept]
