"""The ``lossops`` command. Every error is one line on standard error, and the exit code says whose fault it is.

0: done. 2: config, input or usage refused. 3: the run failed. 130: interrupted.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import traceback
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lossops.collection import leave_alone, loading
from lossops.errors import LossopsError

if TYPE_CHECKING:
    from flows.launch import Finished
    from lossops.config import RunConfig
    from lossops.report import Report

__all__ = ["main"]

_REFUSED, _FAILED, _INTERRUPTED, _PIPE_CLOSED = 2, 3, 130, 141
_TRACEBACK = "LOSSOPS_TRACEBACK"

_settings = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="override a key of the config")


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"lossops {version('lossops')}")
        context.exit()


class _Group(click.Group):
    """Commands whose reader may go away before the end, as ``head`` does: that is no failed gate."""

    def invoke(self, context: click.Context) -> Any:
        """Run a command, and end quietly as a closed pipe ends other programs."""
        try:
            found = super().invoke(context)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_PIPE_CLOSED)
        return found


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="show the version")
@click.pass_context
def lossops(context: click.Context) -> None:
    """Score sharded predictions against sharded labels: how wrong is the model, for whom, and how sure are we.

    Start with: lossops demo
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@lossops.command()
@click.argument("config")
@_settings
@click.option("--prefect/--direct", "recorded", default=None, help="record the run in Prefect, or do without")
@click.option("--fresh", is_flag=True, help="score every row again, also what an earlier run stored")
@click.option("--profile", is_flag=True, help="print how long each stage took")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def run(
    config: str, settings: tuple[str, ...], recorded: bool | None, fresh: bool, profile: bool, as_json: bool
) -> None:
    """Score a config now and publish a report.

    Recorded as a Prefect flow run when a Prefect server is configured, else run straight in this process.
    """
    with loading():
        from flows.launch import is_server_configured, run_direct, run_recorded, tell_of_compiling

    chosen = _load(config, settings)
    tell_of_compiling()
    recorded = is_server_configured() if recorded is None else recorded
    finished = run_recorded(chosen, fresh=fresh) if recorded else run_direct(chosen, fresh=fresh)
    _print_json(finished) if as_json else _print_summary(finished, profile=profile)
    finished.report.check_gates()


def _load(config: str, settings: tuple[str, ...]) -> RunConfig:
    from lossops.config import load_config

    return load_config(config, settings)


def _print_summary(finished: Finished, *, profile: bool = False) -> None:
    from flows.console import print_report, print_stages

    print_report(finished.report)
    if profile:
        print_stages(finished.report)
    click.echo(finished.note)


def _print_json(finished: Finished) -> None:
    import json

    from flows.summary import as_json
    from lossops.report.selection import overall

    link = finished.flow_run
    found = {
        "report": finished.report.path,
        "run": finished.report.run,
        "partitions": {"all": finished.partitions, "reused": finished.reused},
        "overall": [as_json(row) for row in overall(finished.report)],
        "flow_run": None if link is None else {"name": link.name, "id": link.id, "url": link.url},
    }
    click.echo(json.dumps(found, indent=2, allow_nan=False))


@lossops.command()
@click.argument("config")
@_settings
def check(config: str, settings: tuple[str, ...]) -> None:
    """Validate a config and its datasets without scoring."""
    from flows.console import print_pairs
    from lossops.outline import describe
    from lossops.plan import make_plan

    print_pairs(describe(make_plan(_load(config, settings))))
    click.echo("Config and datasets are valid.")


@lossops.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--search", default="", metavar="WORDS", help="List only what mentions all these words.")
@click.option("--plot", metavar="FILE", help="Draw the losses and their slopes over the prediction, as .svg or .png.")
@click.option("--markdown", is_flag=True, help="Print the catalogue as its documentation shows it.")
def losses(names: tuple[str, ...], search: str, plot: str | None, markdown: bool) -> None:
    """List the catalogue, or show losses in full, or draw them in one picture."""
    from flows import catalogue

    if plot is not None:
        _plot_losses(names, plot)
    elif markdown:
        click.echo(catalogue.as_markdown(), nl=False)
    elif not names:
        catalogue.print_all(search)
    for name in names if plot is None and not markdown else ():
        catalogue.print_one(name)


def _plot_losses(names: tuple[str, ...], path: str) -> None:
    from flows.curves import check_picture, write_curves

    if not names:
        raise click.UsageError("--plot needs the names of losses, such as: lossops losses huber --plot huber.svg")
    check_picture(path)
    write_curves(names, path)
    click.echo(f"Drawn: {path}")


@lossops.command()
def keys() -> None:
    """Say what a config may hold: every key, what it means, what is allowed and what it is where it is left out."""
    from flows.console import print_pairs
    from flows.keys import config_keys

    print_pairs(list(config_keys()))


@lossops.command()
@click.argument("run")
def show(run: str) -> None:
    """Print the report in folder RUN."""
    from flows.console import print_report
    from lossops.report import open_report

    print_report(open_report(run))


@lossops.command()
@click.argument("first")
@click.argument("second")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def compare(first: str, second: str, as_json: bool) -> None:
    """Print the reports in folders FIRST and SECOND side by side."""
    from lossops.report import open_report

    reports = open_report(first), open_report(second)
    if as_json:
        _print_json_of_both(*reports)
    else:
        from flows.side_by_side import print_side_by_side

        print_side_by_side(*reports)


def _print_json_of_both(first: Report, second: Report) -> None:
    import json
    from dataclasses import asdict

    from flows.summary import as_json
    from lossops.report.beside import beside

    found, alone = beside(first, second)
    told = {"first": first.path, "second": second.path, "only_one_has": alone}
    click.echo(json.dumps({**told, "losses": [as_json(asdict(one)) for one in found]}, indent=2, allow_nan=False))


@lossops.command()
@click.argument("name")
@click.option("--output", default="reports", show_default=True, metavar="PLACE", help="folder or URL of the reports")
@click.option("--loss", metavar="LOSS", help="one loss only")
@click.option("--slice", "slice_", metavar="SLICE", help="a slice instead of all rows, such as cut=Ideal")
@click.option("--last", type=click.IntRange(1, 1000), default=100, show_default=True, help="how many runs")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def history(name: str, output: str, loss: str | None, slice_: str | None, last: int, as_json: bool) -> None:
    """Print the losses of all reports of NAME, run by run, and which slices moved when."""
    import json

    from flows.history import history_as_json, print_history
    from lossops.report.history import OVERALL, read_history

    found = read_history(output, name, last, most_rows=_MOST_ROWS).narrowed(loss=loss, slice=slice_)
    if as_json:
        click.echo(json.dumps(history_as_json(found, slice_ or OVERALL), indent=2, allow_nan=False))
    else:
        print_history(found, slice_ or OVERALL)


_MOST_ROWS = 5_000_000  # of all reports together, which takes some 2 GB


_DURATION = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit not in _DURATION or not number.isdecimal():
        raise click.BadParameter(f"{text!r}; allowed: a number and d, h, m or s, such as 30d or 12h")
    return int(number) * _DURATION[unit]


def _pairs(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, value) in zip(texts, pairs, strict=True):
        if not (name and value):
            raise click.BadParameter(f"{text!r}; allowed: VARIABLE=BLOCK")
    return {name: value for name, _, value in pairs}


@lossops.command()
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG...")
@_settings
@click.option("--cron", metavar="CRON", help="when to run, such as '30 2 * * *', in the time zone of the config")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="of deployments and runs, besides lossops")
@click.option(
    "--when-busy",
    type=click.Choice(["wait", "refuse"]),
    default="wait",
    show_default=True,
    help="what a run does while another of its name is under way",
)
@click.option(
    "--retries", type=click.IntRange(0, 100), default=2, show_default=True, help="after failures that may pass"
)
@click.option(
    "--timeout", "timeout", default=None, callback=_duration, metavar="TIME", help="give up after, such as 6h"
)
@click.option("--limit", type=click.IntRange(1), default=4, show_default=True, help="runs of all names at a time")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    callback=_pairs,
    metavar="VARIABLE=BLOCK",
    help="environment from Secret blocks",
)
@click.option("--notify", metavar="TYPE/NAME", help="notification block that is told of failed gates")
def serve(configs: tuple[str, ...], settings: tuple[str, ...], timeout: int | None, **options: Any) -> None:
    """Serve configs as Prefect deployments, with a schedule or on demand, until interrupted.

    Each config becomes the deployment lossops/NAME; the form of a run in the user interface has its keys.
    """
    from flows.launch import require_server

    require_server()
    from flows.console import say
    from flows.serve import Service, serve_configs

    chosen = [_load(config, settings) for config in configs]
    service = Service(**options, timeout_minutes=None if timeout is None else timeout / 60)
    serve_configs(chosen, service, lambda name: say(f"serving {name}"))


_days = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@lossops.command()
@click.argument("config")
@_settings
@click.option("--from", "first", type=_days, required=True, help="first day, in the time zone of the config")
@click.option("--to", "last", type=_days, required=True, help="last day, included")
@click.option("--step", default="1d", show_default=True, callback=_duration, metavar="TIME", help="such as 1d or 6h")
@click.option("--prefect/--direct", "recorded", default=None, help="record the runs in Prefect, or do without")
@click.option("--fresh", is_flag=True, help="score every row again, also what an earlier run stored")
def backfill(
    config: str,
    settings: tuple[str, ...],
    first: datetime,
    last: datetime,
    step: int,
    recorded: bool | None,
    fresh: bool,
) -> None:
    """Score a config with dates in its paths for every day of a range.

    A day that fails does not stop the others.
    """
    from flows.console import print_days
    from flows.days import check_days, days_between, run_days
    from flows.launch import is_server_configured, run_direct, run_recorded_days

    chosen = _load(config, settings)
    moments = days_between(chosen, first, last, timedelta(seconds=step))
    recorded = is_server_configured() if recorded is None else recorded
    if recorded:
        days = run_recorded_days(chosen, first, last, step / 3600, fresh=fresh)
    else:
        days = run_days(chosen, moments, lambda one: _reported(run_direct(one, fresh=fresh)))
    print_days(days)
    check_days(days)


def _reported(finished: Finished) -> str:
    finished.report.check_gates()
    return finished.report.path


@lossops.command()
@click.argument("config")
@_settings
@click.option("--older-than", "seconds", default="30d", callback=_duration, metavar="AGE", help="such as 30d or 12h")
def clean(config: str, settings: tuple[str, ...], seconds: int) -> None:
    """Remove what runs of a config have stored and not used for long.

    That is states of scored partitions, which only save time, and rows that a killed run has spilled. Reports stay.
    """
    from lossops.checkpoint import clean as remove
    from lossops.checkpoint import work_folder
    from lossops.memory import shown_size

    work = work_folder(_load(config, settings))
    gone = remove(work, seconds)
    what = f"{gone.states:,} stored states and {gone.folders:,} folders of spilled rows"
    click.echo(f"Removed {what}, {shown_size(gone.bytes)}, from {work}")


@lossops.command()
@click.argument("folder", default="lossops-demo")
@click.option("--direct", is_flag=True, help="do without Prefect")
def demo(folder: str, direct: bool) -> None:
    """Write a small sharded example into FOLDER and score it.

    It goes through the Prefect flow, on Prefect's own temporary server unless one is configured.
    """
    from flows.demo import run_demo

    run_demo(folder, direct=direct)


def _insist_on_interrupts(lost: sys.UnraisableHookArgs) -> None:
    """Raise an interrupt again that fell into a callback of the garbage collector, where Python drops it."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        _thread.interrupt_main()
    else:
        sys.__unraisablehook__(lost)


def main() -> NoReturn:
    """Run the command line and exit."""
    # A Dask cluster that closes may leave a time-out that nobody waits for; asyncio would print it.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _insist_on_interrupts
    try:
        lossops.main(prog_name="lossops", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort) as error:
        _fail(error, "interrupted", _INTERRUPTED)
    except click.ClickException as error:
        _fail(error, error.format_message(), _REFUSED)
    except LossopsError as error:
        _fail(error, str(error), error.exit_code)
    except Exception as error:  # a fault of ours, or of the machine
        told = "" if os.environ.get(_TRACEBACK) else f"; {_TRACEBACK}=1 shows where"
        _fail(error, f"unexpected {type(error).__name__}: {error}{told}", _FAILED)
    leave_alone()
    sys.exit(0)


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    if os.environ.get(_TRACEBACK):
        traceback.print_exception(error)
    from lossops.report.selection import printable

    click.echo(f"lossops: {printable(' '.join(message.split()))}", err=True)
    sys.exit(code)
