"""The command line, mostly as a process of its own: what it prints where, and how it exits."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner

from flows import cli
from flows.keys import config_keys
from flows.launch import tell_of_compiling
from lossops.kernels.jit import cache_folder
from lossops.losses import CATALOGUE, bind, parameters_of
from tests.compose import ROOT
from tests.datasets import write_shards
from tests.flows.conftest import LOSSOPS, LOSSOPS_HEARING, Command, press_until_it_ends
from tests.strategies import parameter_sets

ESCAPE = "\x1b"


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("lossops: ")
    return lines[0]


def test_a_direct_run_prints_a_summary_of_80_columns(lossops: Command, example: Path, tmp_path: Path) -> None:
    found = lossops("run", str(example / "demo.yaml"), "--set", f"output={tmp_path}", COLUMNS="200")
    assert found.returncode == 0, found.stderr
    assert ESCAPE not in found.stdout + found.stderr
    lines = found.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    order = [
        text for line in lines for text in ("all rows", "worst first", "not scored", "Report: ", "Ran") if text in line
    ]
    assert order == ["all rows", "worst first", "worst first", "not scored", "Report: ", "Ran"]
    assert lines[-1] == "Ran directly in this process; no Prefect server was used."
    assert re.search(r"prediction_nan +candidate +click +198 +198", found.stdout)
    assert found.stderr.splitlines()[-1].startswith("read 199,800 of 199,800 rows")


def test_a_direct_run_as_json(lossops: Command, example: Path, tmp_path: Path) -> None:
    found = lossops("run", str(example / "demo.yaml"), "--json", "--set", f"output={tmp_path}", "--set", "slices=[]")
    told = json.loads(found.stdout)
    assert told["flow_run"] is None
    assert [row["loss"] for row in told["overall"]] == ["click", "seconds"]
    assert told["run"]["config"]["slices"] == []
    assert Path(told["report"], "run.json").is_file()


def test_a_run_is_recorded_where_a_server_is_configured(
    lossops: Command, example: Path, server: str, tmp_path: Path
) -> None:
    found = lossops("run", str(example / "demo.yaml"), "--set", f"output={tmp_path}", PREFECT_API_URL=server)
    assert found.returncode == 0, found.stderr
    assert re.fullmatch(r"Recorded by Prefect as flow run 'demo 20.*': http://127.*", found.stdout.splitlines()[-1])
    assert all(line.startswith("read") for line in found.stderr.splitlines())


def test_a_profile_configures_a_server(lossops: Command, example: Path, server: str, tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(f'active = "own"\n[profiles.own]\nPREFECT_API_URL = "{server}"\n')
    words = ("run", str(example / "demo.yaml"), "--json", "--set", f"output={tmp_path}")
    found = lossops(*words, PREFECT_PROFILES_PATH=str(tmp_path / "profiles.toml"))
    assert json.loads(found.stdout)["flow_run"]["name"].startswith("demo")
    assert all(line.startswith("read") for line in found.stderr.splitlines())


def test_a_recorded_run_that_is_refused_exits_the_same(lossops: Command, example: Path, server: str) -> None:
    found = lossops("run", str(example / "demo.yaml"), "--set", "on_invalid=fail", PREFECT_API_URL=server)
    assert found.returncode == 2
    assert "on_invalid" in one_line(found.stderr)


def test_without_a_server_a_recorded_run_is_refused(lossops: Command, example: Path) -> None:
    found = lossops("run", str(example / "demo.yaml"), "--prefect")
    assert found.returncode == 2
    assert "PREFECT_API_URL" in one_line(found.stderr)


def test_a_server_that_is_away_is_noticed_soon(lossops: Command, example: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    words = ("run", str(example / "demo.yaml"), "--set", f"output={tmp_path / 'reports'}")
    found = lossops(*words, PREFECT_API_URL="http://user:secret@127.0.0.1:9/api")
    assert found.returncode == 3
    assert time.monotonic() - begun < 20.0
    line = one_line(found.stderr)
    assert "http://127.0.0.1:9/api" in line
    assert "secret" not in line
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run",), "Missing argument 'CONFIG'"),
        (("run", "a.yaml", "--nope"), "--nope"),
        (("frobnicate",), "frobnicate"),
        (("run", "absent.yaml"), "absent.yaml"),
        (("check", "absent.yaml"), "absent.yaml"),
        (("show", "absent"), "absent"),
        (("losses", "hubr"), "did you mean 'huber'?"),
    ],
)
def test_what_is_refused_gets_one_line_and_exit_code_2(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lossops", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert says in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("words", [("losses", "--markdown"), ("losses",)], ids=["written at once", "in lines"])
def test_a_reader_that_goes_away_is_no_failed_gate(words: tuple[str, ...], environment: Mapping[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        [*LOSSOPS, *words], env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (found.returncode, found.stderr) == (141, "")


def test_a_failure_of_the_machine_is_one_line(environment: Mapping[str, str]) -> None:
    def losses(**extra: str) -> subprocess.CompletedProcess[str]:
        with open("/dev/full", "w") as full:
            words = [*LOSSOPS, "losses"]
            own = {**environment, **extra}
            return subprocess.run(words, env=own, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    found = losses()
    assert found.returncode == 3
    assert "OSError" in one_line(found.stderr)
    assert "LOSSOPS_TRACEBACK=1" in found.stderr
    assert "Traceback" in losses(LOSSOPS_TRACEBACK="1").stderr


def test_an_interrupt_is_one_line_and_exit_code_130(environment: Mapping[str, str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    words = [*LOSSOPS_HEARING, "run", str(config)]
    # The signal may fall between the opening of the file and the block that closes it, which Python would remark on.
    quiet = {**environment, "PYTHONWARNINGS": "ignore::ResourceWarning"}
    with (
        subprocess.Popen(words, env=quiet, stderr=subprocess.PIPE, text=True) as process,
        open(config, "w"),  # returns once the command waits for its config
    ):
        press_until_it_ends(process, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert one_line(errors.lstrip()) == "lossops: interrupted"  # after the terminal's ^C comes a new line


def test_a_reader_that_leaves_early_is_no_failure(environment: Mapping[str, str]) -> None:
    found = subprocess.run(
        ["sh", "-c", '"$@" | head -1', "sh", *LOSSOPS, "losses", "huber"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("huber")
    assert found.stderr == ""


def test_a_terminal_gets_a_bar(environment: Mapping[str, str], example: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [*LOSSOPS, "run", str(example / "demo.yaml"), "--set", f"output={tmp_path}"]
    own = {**environment, "TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(words, env=own, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
    os.close(ours)
    assert process.returncode == 0
    assert b"scoring" in shown
    assert b"6/6 shards" in shown
    assert ESCAPE.encode() in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_a_second_run_takes_what_the_first_one_stored(lossops: Command, example: Path, tmp_path: Path) -> None:
    words = ("run", str(example / "demo.yaml"), "--direct", "--set", f"output={tmp_path}")
    lossops(*words)
    assert "6 of 6 partitions were stored by an earlier run" in lossops(*words).stdout
    assert "stored" not in lossops(*words, "--fresh").stdout
    told = json.loads(lossops(*words, "--json").stdout)
    assert told["partitions"] == {"all": 6, "reused": 6}


def test_sums_that_cannot_be_stored_are_told_of(lossops: Command, example: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ("--set", f"output={tmp_path / 'reports'}", "--set", f"work={tmp_path / 'file' / 'work'}")
    found = lossops("run", str(example / "demo.yaml"), "--direct", *words)
    assert found.returncode == 0, found.stderr
    told = [line for line in found.stderr.splitlines() if not line.startswith("read")]
    assert len(told) == 1
    assert told[0].startswith("states are not stored, a later run scores all again: ")


def test_clean(lossops: Command, example: Path, tmp_path: Path) -> None:
    words = (str(example / "demo.yaml"), "--set", f"output={tmp_path}")
    lossops("run", *words, "--direct")
    assert lossops("clean", *words).stdout.startswith("Removed 0 stored states and 0 folders")
    # Keys repeat, so there was a second pass, with states of its own.
    assert lossops("clean", *words, "--older-than", "0s").stdout.startswith("Removed 12 stored states")
    found = lossops("clean", *words, "--older-than", "soon")
    assert found.returncode == 2
    assert "'soon'; allowed: a number and d, h, m or s" in one_line(found.stderr)


def test_check_describes_what_would_be_read(lossops: Command, example: Path) -> None:
    found = lossops("check", str(example / "demo.yaml"))
    assert found.returncode == 0, found.stderr
    assert "broadcast: by visit_id, with all labels in memory" in " ".join(found.stdout.split())
    assert "of labels; memory" in " ".join(found.stdout.split())


def test_check_refuses_what_run_would(lossops: Command, example: Path) -> None:
    found = lossops("check", str(example / "demo.yaml"), "--set", "slices=[contry]")
    assert found.returncode == 2
    assert "did you mean 'country'?" in one_line(found.stderr)


def test_show_prints_what_run_printed(lossops: Command, example: Path, tmp_path: Path) -> None:
    ran = lossops("run", str(example / "demo.yaml"), "--set", "output=reports")
    place = next((tmp_path / "reports" / "demo").iterdir()).relative_to(tmp_path)
    shown = lossops("show", str(place))
    assert shown.stdout.splitlines() == ran.stdout.splitlines()[:-1]


def test_the_version_is_shown() -> None:
    found = CliRunner().invoke(cli.lossops, ["--version"])
    assert re.fullmatch(r"lossops \d+\.\d+\.\d+\n", found.output)


def test_without_a_command_there_is_help() -> None:
    assert "demo" in CliRunner().invoke(cli.lossops, []).output


def test_every_key_is_said(lossops: Command) -> None:
    """Those that the example with all of them has, at every depth, in its order; each with a meaning."""
    example = yaml.safe_load((ROOT / "configs" / "every-key.yaml").read_text())
    told = dict(config_keys())
    assert {name for name in told if "." not in name} == set(example)
    for name in ("labels", "cluster", "discover"):
        assert set(example[name] or ()) <= {one.removeprefix(f"{name}.") for one in told}
    for gate in example["gates"] or ():
        assert set(gate) <= {one.removeprefix("gates[].") for one in told}
    assert {"models.NAME.path", "losses[].convention", "slices[][].bins", "discover.columns[].column"} <= set(told)
    assert all(told.values())
    assert told["timezone"].endswith("; default: UTC")
    assert told["duplicates"].endswith("; allowed: drop, first, last, fail; default: drop")
    assert told["discover.held_out"].endswith("; default: true")
    shown = lossops("keys")
    assert [line.split()[0] for line in shown.stdout.splitlines() if not line.startswith(" ")] == list(told)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_loss_is_shown_in_full(name: str) -> None:
    shown = CliRunner().invoke(cli.lossops, ["losses", name]).output
    text = "".join(shown.split())
    loss = CATALOGUE[name]
    declared = [loss.summary, loss.citation, *(one.meaning for one in parameters_of(loss))]
    declared += [form.formula for form in loss.forms.values()]
    given = {key: value for key, value in parameter_sets(loss, 3)[0].items() if value is not None}
    declared += bind(name, given, "exact").reasons.values()
    assert [part for part in declared if "".join(part.split()) not in text] == []
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_the_worked_examples_of_the_reference(lossops: Command, tmp_path: Path) -> None:
    table = pa.table(
        {
            "one_hot": [[0, 1, 0], [0, 0, 1]],
            "probabilities": [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]],
            "binary": [0, 1],
            "p": [0.4, 0.6],
            "zeros": [0, 0],
            "ones": [1.0, 1.0],
            "h": [0.6, 0.4],
        }
    )
    data = write_shards(tmp_path / "data", [table])
    (tmp_path / "config.yaml").write_text(f"""
name: worked
labels: {{path: {data}}}
models: {{m: {{path: {data}}}}}
losses:
  - {{loss: categorical_crossentropy, label: one_hot, prediction: probabilities}}
  - {{loss: binary_crossentropy, label: binary, prediction: p}}
  - {{loss: mean_absolute_error, label: zeros, prediction: ones}}
  - {{loss: mean_squared_error, label: binary, prediction: ones}}
  - {{loss: huber, label: binary, prediction: h}}
""")
    told = json.loads(lossops("run", "config.yaml", "--json").stdout)
    shown = {row["loss"]: f"{row['mean']:.7g}" for row in told["overall"]}
    assert shown.pop("categorical_crossentropy")[:8] == "1.176939"
    assert shown == {
        "binary_crossentropy": "0.5108256",
        "mean_absolute_error": "1",
        "mean_squared_error": "0.5",
        "huber": "0.18",
    }


def test_a_first_run_says_why_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOSSOPS_CACHE_DIR", str(tmp_path))
    cache_folder.cache_clear()
    try:
        tell_of_compiling()
        assert "compiles the kernels" in capsys.readouterr().err
        (Path(str(cache_folder())) / "kernel").touch()
        tell_of_compiling()
        assert capsys.readouterr().err == ""
    finally:
        cache_folder.cache_clear()
