"""What a page is made of: sections of tables, figures and text, as plain values for the template."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any, ClassVar, Literal

import orjson

from lossops.report.selection import number, printable

__all__ = [
    "Block",
    "Cells",
    "Code",
    "Column",
    "Facts",
    "Figure",
    "Gallery",
    "Heading",
    "Note",
    "Section",
    "Table",
    "cell_text",
    "left_out",
    "values",
    "whole",
    "within",
]

Kind = Literal["text", "count", "number", "percent"]
Cells = tuple[Any, ...]

DASH = "\N{EN DASH}"
FIRST_ROWS = 50  # of a table, that are there without the page's script
_NUMBER = 14  # letters of one, and of what parts it from others; about
_CELL = 200  # letters that are shown
_WHOLE = 2000  # letters that are in the page at all


@dataclass(frozen=True)
class Column:
    """A column of a table; one of `choice` is filtered by choosing one of its values."""

    title: str
    kind: Kind = "number"
    choice: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section; every part is text of the user's."""

    parts: Sequence[str]
    block: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    block: ClassVar[str] = "note"


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    pairs: Sequence[tuple[str, str]]
    block: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Code:
    """Text as it stands."""

    caption: str
    text: str
    block: ClassVar[str] = "code"


@dataclass(frozen=True)
class Table:
    """A table that sorts and filters.

    Args:
        name: of the element; unlike that of any other.
        caption: what a row is.
        columns: in order.
        rows: values in the order of the columns.
        folded: whether a reader opens it first.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Cells]
    folded: bool = False
    block: ClassVar[str] = "table"

    @property
    def first(self) -> Sequence[Cells]:
        """The rows that are there without the page's script."""
        return self.rows[:FIRST_ROWS]

    @property
    def data(self) -> str | None:
        """All rows for the page's script, where there are more: JSON that cannot end the element it is in."""
        if len(self.rows) <= FIRST_ROWS:
            return None
        texts: dict[str, int] = {}
        columns = [_packed(column, texts) for column in zip(*self.rows, strict=True)]
        kinds = [column.kind for column in self.columns]
        # Texts recur from row to row, so a row has their numbers.
        found = orjson.dumps({"kinds": kinds, "texts": list(texts), "rows": list(zip(*columns, strict=True))}).decode()
        return found.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _packed(column: Cells, texts: dict[str, int]) -> Sequence[Any]:
    """The values of a column as JSON has them: texts by their numbers, infinity as a word."""
    words: dict[Any, Any] = {end: str(end) for end in (math.inf, -math.inf) if end in column}
    for value in column:
        if isinstance(value, str) and value not in words:
            words[value] = texts.setdefault(whole(value), len(texts))
    return [words.get(value, value) for value in column] if words else column


def within(rows: Sequence[Cells], size: int) -> Sequence[Cells]:
    """The first rows that together take not more than so many bytes of the page, about."""
    sizes = accumulate(map(sum, zip(*map(_sizes, zip(*rows, strict=True)), strict=True)))
    return rows[: sum(1 for _ in takewhile(lambda so_far: so_far <= size, sizes))]


def _sizes(column: Cells) -> list[int]:
    if str not in set(map(type, column)):
        return [_NUMBER] * len(column)
    return [len(value[:_WHOLE].encode()) + 1 if isinstance(value, str) else _NUMBER for value in column]


def values(rows: Sequence[Mapping[str, Any]], *names: str) -> list[Cells]:
    """Rows as the values of columns."""
    return [tuple(row[name] for name in names) for row in rows]


def left_out(count: int, what: str, file: str) -> Iterator[Note]:
    """Say how much the page leaves out, and which table has it."""
    if count > 0:
        yield Note(f"{count:,} more {what} are in {file}.")


@dataclass(frozen=True)
class Figure:
    """A plot with the same numbers as a table.

    Args:
        heading: what it is of; text of the user's.
        plot: an ``svg`` element; None if nothing can be drawn.
        caption: how it is read.
        table: its numbers, if they are not in a table of the section.
    """

    heading: Sequence[str]
    plot: str | None
    caption: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Gallery:
    """Figures side by side where there is room."""

    figures: Sequence[Figure]
    block: ClassVar[str] = "gallery"


Block = Heading | Note | Facts | Code | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page with a place in its contents."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)


def whole(text: str) -> str:
    """Text of a dataset as it is in the page: nothing invisible, and of a very long one the beginning."""
    shown = printable(text[:_WHOLE])
    return shown if len(text) <= _WHOLE else f"{shown}… ({len(text):,} letters)"


def cell_text(value: Any, kind: Kind) -> str:
    """A value as a reader sees it; a dash where there is none."""
    if value is None:
        return DASH
    if kind == "text":
        text = whole(str(value))
        return text if len(text) <= _CELL else f"{text[:_CELL]}…"
    if kind == "count":
        return f"{value:,}"
    return f"{100 * value:+.3g} %" if kind == "percent" else number(value)
