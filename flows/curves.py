"""Pictures of losses in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossops.curves import curve_points
from lossops.errors import ConfigError, RunError, shown
from lossops.report.curve_plot import curve_plot
from lossops.report.drawing import draw, draw_png

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
    try:
        if Path(path).suffix.lower() == ".png":
            Path(path).write_bytes(draw_png(spec))
        else:
            about = "The loss over the prediction on the left, its slope on the right."
            Path(path).write_text(draw(spec, f"Curves of {', '.join(names)}", about), encoding="utf-8")
    except OSError as error:
        raise RunError(f"could not write {path}: {error.strerror}") from error
