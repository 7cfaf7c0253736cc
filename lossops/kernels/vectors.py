"""Words for code that handles eight float64 at a time; each writes instructions of LLVM to a builder.

Where a processor has no vectors of eight, LLVM makes two or four of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = [
    "EIGHT",
    "EIGHT_LONG",
    "LONG",
    "PLACES",
    "REAL",
    "VECTOR",
    "call",
    "every",
    "keep",
    "number_at",
    "pointer",
    "reduce",
    "spread",
    "total",
]

VECTOR = 8
REAL, LONG = ir.DoubleType(), ir.IntType(64)
EIGHT, EIGHT_LONG = ir.VectorType(REAL, VECTOR), ir.VectorType(LONG, VECTOR)
PLACES = ir.VectorType(ir.IntType(32), VECTOR)  # of a shuffle


def every(value: float) -> Any:
    """A constant, eight times."""
    return ir.Constant(EIGHT, [value] * VECTOR)


def spread(builder: Any, value: Any) -> Any:
    """One value, eight times."""
    nothing = ir.Constant(ir.VectorType(value.type, VECTOR), ir.Undefined)
    alone = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(alone, nothing, ir.Constant(PLACES, [0] * VECTOR))


def pointer(builder: Any, address: Any, place: Any, kind: Any) -> Any:
    """To a float64 of the array at an address, or to eight of them."""
    return builder.inttoptr(builder.add(address, builder.shl(place, ir.Constant(LONG, 3))), kind.as_pointer())


def number_at(builder: Any, address: Any, place: int) -> Any:
    """One float64 of the array at an address, eight times."""
    return spread(builder, builder.load(pointer(builder, address, ir.Constant(LONG, place), REAL)))


def call(builder: Any, name: str, *arguments: Any) -> Any:
    """Call a function of LLVM that takes and returns vectors."""
    declared = ir.FunctionType(EIGHT, [EIGHT] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, declared, f"llvm.{name}.v8f64"), arguments)


def reduce(builder: Any, name: str, vector: Any, start: Sequence[Any] = (), flag: str = "nnan") -> Any:
    """Call a function of LLVM that makes one number of a vector; none of them is NaN."""
    declared = ir.FunctionType(REAL, [*(REAL for _ in start), EIGHT])
    function = cgutils.get_or_insert_function(builder.module, declared, f"llvm.vector.reduce.{name}.v8f64")
    return builder.call(function, [*start, vector], fastmath=(flag,))


def total(builder: Any, vector: Any) -> Any:
    """The sum of eight integers, whose order does not matter."""
    return reduce(builder, "fadd", vector, [ir.Constant(REAL, -0.0)], "reassoc")


def keep(builder: Any, sign: str, kept: Any, values: Any) -> None:
    """Keep the larger (``>``) or smaller (``<``) of each two numbers; of a number and NaN the one that is kept."""
    old = builder.load(kept)
    builder.store(builder.select(builder.fcmp_ordered(sign, values, old), values, old), kept)
