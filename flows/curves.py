"""Pictures of losses in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossops.curves import curve_points
from lossops.errors import ConfigError, RunError, shown
from lossops.report.curve_plot import curve_plot
from lossops.report.drawing import Plot, draw, draw_png

__all__ = ["check_picture", "write_curves"]


def check_picture(path: str) -> None:
    """Check that a picture can have this name.

    Raises:
        ConfigError: it is of another kind.
    """
    if Path(path).suffix.lower() not in {".svg", ".png"}:
        raise ConfigError(f"--plot: {shown(path)}; allowed: a file whose name ends in .svg or .png")


def write_curves(names: Sequence[str], path: str) -> None:
    """Draw losses and their slopes over the prediction.

    Args:
        names: of losses.
        path: of the picture.

    Raises:
        ConfigError: a loss is unknown or cannot be drawn.
        RunError: the file cannot be written.
    """
    spec = curve_plot(curve_points(names))
    drawn = draw_png(spec) if Path(path).suffix.lower() == ".png" else _drawn_svg(spec, names)
    if drawn is None:
        raise RunError("the picture could not be drawn: the renderer of vl-convert-python ended")
    try:
        Path(path).write_bytes(drawn)
    except OSError as error:
        raise RunError(f"could not write {path}: {error.strerror}") from error


def _drawn_svg(spec: Mapping[str, Any], names: Sequence[str]) -> bytes | None:
    plot = Plot(
        spec, f"Curves of {', '.join(names)}", "The loss over the prediction on the left, its slope on the right."
    )
    found = draw([plot]).get(plot)
    return None if found is None else found.encode()
