"""The numbers of every model and loss in every slice, each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lossops.at_once import AtOnce, numbers_of
from lossops.calibration import Calibration, CalibrationsAtOnce, calibrations
from lossops.comparisons import Contrast, Difference, compare, contrast, infinitely_worse, plain_contrasts
from lossops.disclosure import Place, hidden_slices
from lossops.groups import GroupKey, Keys
from lossops.kernels.accumulate import INFINITE, ROWS, SCORED
from lossops.quantiles import are_heavy_tailed, is_heavy_tailed, quantiles, squared_skewness
from lossops.runs import Scores
from lossops.samples import Sample
from lossops.slices import Slice
from lossops.state import Cell, GroupTable
from lossops.statistics import Summary, plain_summaries, samples_of, summary_of
from lossops.sums import Sums
from lossops.tasks import Comparison, Task

__all__ = ["CellResults", "Results", "Row", "ordered", "place_of"]

Row = dict[str, Any]
_AtOnce = tuple[Mapping[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]  # numbers by name [groups], and which are sure


def ordered(keys: Sequence[GroupKey], chosen: Slice) -> list[GroupKey]:
    """The groups of a slice in the order of the report; overall is there also without rows."""
    return sorted(keys) or ([()] if not chosen.axes else [])


def place_of(model: str, loss: str, chosen: Slice, key: GroupKey) -> Row:
    """The columns that say what a row is about."""
    return {
        "model": model,
        "loss": loss,
        "slice": chosen.label(key),
        "slice_columns": chosen.columns,
        "slice_values": chosen.values(key),
    }


def _shown(chosen: Slice, keys: Keys) -> pa.Table:
    """The columns of `place_of` that say what slice a row is about, for all groups of a slice."""
    groups, axes = len(keys), len(keys.axes)
    columns = pa.array(chosen.columns * groups, pa.string())
    starts = pa.array(np.arange(groups + 1, dtype=np.int32) * axes)
    # Keys of no groups have no axes either.
    values, labels = [], [] if axes else [pa.array(["overall"] * groups, pa.string())]
    for axis, parts, codes in zip(chosen.axes, keys.axes, keys.codes.T, strict=groups > 0):
        texts, names = axis.texts(parts)
        values.append(texts.take(pa.array(codes)))
        labels.append(names.take(pa.array(codes)))
    by_axis = pa.concat_arrays([pa.nulls(0, pa.string()), *values])
    by_group = by_axis.take(pa.array(np.arange(groups * axes).reshape(axes, groups).T.ravel()))
    return pa.table(
        {
            "slice": pc.binary_join_element_wise(*labels, " & "),
            "slice_columns": pa.ListArray.from_arrays(starts, columns),
            "slice_values": pa.ListArray.from_arrays(starts, by_group),
        }
    )


class Results:
    """What the tables are made of.

    Args:
        scores: of the run.
    """

    def __init__(self, scores: Scores) -> None:
        self.scores, self.plan = scores, scores.plan
        self.slices: Sequence[Slice] = scores.plan.pairings[0].slices
        self._cells: dict[Cell, CellResults] = {}
        self._hidden: dict[Cell, Mapping[Place, str]] = {}
        self._places: dict[int, tuple[npt.NDArray[np.int64], pa.Table]] = {}

    @property
    def tasks(self) -> list[Task]:
        """Every loss and measure of every model."""
        return [task for pairing in self.plan.pairings for task in pairing.tasks]

    @property
    def comparisons(self) -> list[Comparison]:
        """Every comparison with the baseline."""
        return list(self.plan.comparisons)

    def places(self, number: int) -> tuple[npt.NDArray[np.int64], pa.Table]:
        """The groups of a slice in the order of the report, and the columns that say what they are."""
        if number not in self._places:
            chosen, keys = self.slices[number], self.scores.state.tables[number].keys
            self._places[number] = keys.order, _shown(chosen, keys).take(pa.array(keys.order))
        return self._places[number]

    def cell(self, cell: Cell) -> CellResults:
        """The numbers of a model and loss, or a comparison."""
        if cell not in self._cells:
            self._cells[cell] = CellResults(self.scores, cell)
        return self._cells[cell]

    def hidden(self, cell: Cell) -> Mapping[Place, str]:
        """The slices whose numbers are hidden, and why; of a comparison also those that either model hides."""
        if cell not in self._hidden:
            model, loss, *baseline = cell
            parents = [self.hidden((name, loss)) for name in (model, *baseline)] if baseline else []
            self._hidden[cell] = self._find_hidden(cell, {place for found in parents for place in found})
        return self._hidden[cell]

    def why_hidden(self, cell: Cell, number: int) -> pa.Array:
        """Why each group of a slice is hidden, as text; null where it is not."""
        keys, hidden = self.scores.state.tables[number].keys, self.hidden(cell)
        if not hidden:
            return pa.nulls(len(keys), pa.string())
        return pa.array([hidden.get((number, key)) for key in keys], pa.string())

    def shown(self, cell: Cell, number: int) -> npt.NDArray[np.bool_]:
        """Which groups of a slice are not hidden, bool [groups]."""
        shown: npt.NDArray[np.bool_] = self.why_hidden(cell, number).is_null().to_numpy(zero_copy_only=False)
        return shown

    def _find_hidden(self, cell: Cell, small: set[Place]) -> Mapping[Place, str]:
        limit = self.plan.config.min_rows
        if not limit:
            return {}
        sizes = [self._sizes(cell, number) for number in range(len(self.slices))]
        few = {
            (number, key)
            for number, found in enumerate(sizes)
            for key, size in found.items()
            if any(0 < rows < limit for rows in size)
        }
        scored = [{key: size[1] for key, size in found.items()} for found in sizes]
        return hidden_slices(self.slices, scored, few | small, limit)

    def _sizes(self, cell: Cell, number: int) -> dict[GroupKey, tuple[int, int]]:
        """The aligned and the scored rows of every group of a slice."""
        if cell in self.scores.state.measures:
            table = self.scores.state.measures[cell][number]
            tallies = table.tallies[:, :2].tolist()
            return {key: (rows, scored) for key, (rows, scored) in zip(table.keys, tallies, strict=True)}  # type: ignore[misc]
        found = self.scores.state.tables[number]
        counts = found.sums[cell].counts[:, [ROWS, SCORED]].tolist() if cell in found.sums else []
        return {key: (rows, scored) for key, (rows, scored) in zip(found.keys, counts, strict=False)}


class CellResults:
    """One model and loss, or comparison, in every slice; samples are made once."""

    def __init__(self, scores: Scores, cell: Cell) -> None:
        self._state, self._cell = scores.state, cell
        self.confidence = scores.plan.config.confidence
        self._samples: dict[int, Sequence[Sample | None]] = {}
        self._summaries: dict[int, dict[GroupKey, Summary]] = {}
        self._differences: dict[int, dict[GroupKey, Difference]] = {}
        self._contrasts: dict[bool, _AtOnce] = {}
        self._skewness: dict[int, npt.NDArray[np.float64] | None] = {}

    @cached_property
    def overall(self) -> Sample | None:
        """The sample of all rows."""
        return next(iter(self.samples(0)), None)

    def table(self, number: int) -> GroupTable:
        """The groups of a slice."""
        return self._state.tables[number]

    def samples(self, number: int) -> Sequence[Sample | None]:
        """The sample of each group of a slice."""
        if number not in self._samples:
            table = self.table(number)
            self._samples[number] = samples_of(table, self._cell) if self._cell in table.sums else []
        return self._samples[number]

    def summaries(self, number: int) -> dict[GroupKey, Summary]:
        """The numbers of each group of a slice."""
        if number not in self._summaries:
            table = self.table(number)
            skewness = self._squared_skewness(number)
            squared = None if skewness is None else skewness.tolist()
            self._summaries[number] = {
                key: self._summary(table, group, sample, None if squared is None else squared[group])
                for group, (key, sample) in enumerate(zip(table.keys, self.samples(number), strict=False))
            }
        return self._summaries[number]

    def _summary(self, table: GroupTable, group: int, sample: Sample | None, squared: float | None) -> Summary:
        found = summary_of(table.sums[self._cell], group, sample, self.overall, self.confidence)
        if squared is None or sample is None or found.std_error is None:
            return found
        return replace(found, heavy_tail=is_heavy_tailed(squared, sample.size))

    def summary_of_group(self, number: int, group: int) -> Summary:
        """The numbers of one group of a slice."""
        squared = self._squared_skewness(number)
        own = None if squared is None else float(squared[group])
        return self._summary(self.table(number), group, self._sample_of(number, group), own)

    def _squared_skewness(self, number: int) -> npt.NDArray[np.float64] | None:
        """The squared skewness of each group of a slice, where losses are counted in bins."""
        if number not in self._skewness:
            counted = self.table(number).histograms.get(self._cell)
            self._skewness[number] = None if counted is None else squared_skewness(counted)
        return self._skewness[number]

    def _sample_of(self, number: int, group: int) -> Sample | None:
        table = self.table(number)
        return Sample.of(table.sums[self._cell], group, table.units.get(self._cell))

    @cached_property
    def _plain(self) -> tuple[Sums, AtOnce] | None:
        """The sums of all slices, one after the other, as numbers; None where rows share units, see `numbers_of`."""
        tables = self._state.tables
        if any(self._cell not in table.sums or self._cell in table.units for table in tables):
            return None
        sums = Sums.joined([table.sums[self._cell] for table in tables])
        plain = numbers_of(sums)
        return None if plain is None else (sums, plain)

    @cached_property
    def _plain_summaries(self) -> _AtOnce | None:
        return None if self._plain is None else plain_summaries(*self._plain, self.confidence)

    def _of_slice(self, found: _AtOnce, number: int) -> _AtOnce:
        """What is there of all slices, of one."""
        sizes = [len(table.keys) for table in self._state.tables]
        own = slice(sum(sizes[:number]), sum(sizes[: number + 1]))
        numbers, sure = found
        return {name: values[own] for name, values in numbers.items()}, sure[own]

    def plain_summaries(self, number: int) -> _AtOnce | None:
        """The numbers of all groups of a slice by name, and for which they hold; None where there are no such."""
        if self._plain_summaries is None or not len(self.table(number).keys):
            return None
        numbers, sure = self._of_slice(self._plain_summaries, number)
        squared = self._squared_skewness(number)
        if squared is None:
            return numbers, sure
        sizes, sizes_sure = self._of_slice(self._sizes, number)
        heavy = are_heavy_tailed(squared, sizes["size"])
        with_tails = {**numbers, "heavy_tail": np.ma.array(heavy, mask=np.ma.getmaskarray(numbers["std_error"]))}
        return with_tails, sure & sizes_sure

    @cached_property
    def _sizes(self) -> _AtOnce:
        """Independent observations of each group of all slices."""
        with np.errstate(all="ignore"):
            sizes, sure = self._plain[1].sizes() if self._plain is not None else (np.empty(0), np.empty(0, np.bool_))
        return {"size": sizes}, sure

    def plain_contrasts(self, number: int, *, complement: bool) -> _AtOnce | None:
        """The contrasts of all groups of a slice by name, and for which they hold; None where there are no such."""
        if self._over_all is None or not len(self.table(number).keys):
            return None
        if complement not in self._contrasts:
            self._contrasts[complement] = plain_contrasts(*self._over_all, self.confidence, complement=complement)
        return self._of_slice(self._contrasts[complement], number)

    @cached_property
    def _over_all(self) -> tuple[AtOnce, AtOnce, AtOnce] | None:
        """The sums of all slices, the same over the powers of two of all rows, and those of all rows."""
        every = numbers_of(self.table(0).sums[self._cell]) if self._plain is not None else None
        if self._plain is None or every is None or not len(every.rows) or not every.usable.all():
            return None
        return self._plain[1], self._plain[1].alike(every), every

    def contrast_of_group(self, number: int, group: int, *, complement: bool) -> Contrast | None:
        """The contrast of one group of a slice."""
        return contrast(self._sample_of(number, group), self.overall, self.confidence, complement=complement)

    def quantile_columns(self, number: int, levels: Sequence[float]) -> list[Any]:
        """Quantiles of loss of each group of a slice: for each level float64 [groups], NaN without a scored row."""
        table = self.table(number)
        if self._cell not in table.histograms:
            return []
        counted = table.histograms[self._cell]
        found = quantiles(counted, levels, table.sums[self._cell].extremes)
        return list(np.where(np.diff(counted.starts)[:, np.newaxis] > 0, found, np.nan).T)

    def quantiles(self, number: int, levels: Sequence[float]) -> dict[GroupKey, list[float]]:
        """Quantiles of loss of each group of a slice that has a scored row."""
        table = self.table(number)
        if self._cell not in table.histograms:
            return {}
        counted = table.histograms[self._cell]
        found = quantiles(counted, levels, table.sums[self._cell].extremes).tolist()
        sizes = np.diff(counted.starts).tolist()
        return {key: own for key, own, size in zip(table.keys, found, sizes, strict=True) if size}

    def differences(self, number: int) -> dict[GroupKey, Difference]:
        """The comparison with the baseline in each group of a slice."""
        if number not in self._differences:
            table = self.table(number)
            self._differences[number] = {
                key: self._difference(table, group, sample)
                for group, (key, sample) in enumerate(zip(table.keys, self.samples(number), strict=False))
            }
        return self._differences[number]

    def _difference(self, table: GroupTable, group: int, sample: Sample | None) -> Difference:
        pairs = table.sums[self._cell]
        found = compare(sample, self.overall, int(pairs.counts[group, SCORED]), self.confidence)
        _, loss, baseline = self._cell
        theirs = table.sums.get((baseline, loss))
        finite = theirs is not None and not theirs.counts[group, INFINITE]
        return infinitely_worse(found) if finite and pairs.extremes[group, 1] == np.inf else found

    def contrasts(self, number: int, *, complement: bool) -> dict[GroupKey, Contrast]:
        """Each group of a slice beside overall, or beside all other rows."""
        pairs = zip(self.table(number).keys, self.samples(number), strict=False)
        found = {key: contrast(one, self.overall, self.confidence, complement=complement) for key, one in pairs}
        return {key: one for key, one in found.items() if one is not None}

    def calibrations_at_once(self, number: int) -> CalibrationsAtOnce | None:
        """Calibration of all groups of a slice at once; None where there is none, or rows share units."""
        table = self.table(number)
        found = table.reliability.get(self._cell)
        if found is None or found.units is not None:
            return None
        return CalibrationsAtOnce(found, len(table.keys), self.confidence)

    def calibrations(self, number: int) -> dict[GroupKey, list[Calibration]]:
        """Calibration of each group of a slice, where the loss is of a probability."""
        table = self.table(number)
        if self._cell not in table.reliability:
            return {}
        population = None if self.overall is None else self.overall.units
        found = calibrations(table.reliability[self._cell], len(table.keys), population, self.confidence)
        return dict(zip(table.keys, found, strict=True))
