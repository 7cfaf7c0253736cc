"""Pictures of losses in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossops.curves import curve_points
from lossops.errors import ConfigError, RunError, shown
from lossops.report.curve_plot import curve_plot
from lossops.report.images import as_png, on_white

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
    picture = curve_plot(curve_points(names))
    about = "The loss over the prediction on the left, its slope on the right."
    if Path(path).suffix.lower() == ".png":
        drawn = as_png(picture)
    else:
        drawn = on_white(picture, f"Curves of {', '.join(names)}", about).encode()
    try:
        Path(path).write_bytes(drawn)
    except OSError as error:
        raise RunError(f"could not write {path}: {error.strerror}") from error
