"""The command's front door: what it hands over, and what it says where it cannot."""

import importlib
import importlib.metadata
import importlib.util
import os
import runpy
import signal
import subprocess
import sys

import pytest

import prunekit
from prunekit.__main__ import COMMANDS, main


@pytest.fixture
def call(monkeypatch):
    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["prunekit", *arguments])
        main()

    return run


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_each_command(arguments, call, capsys):
    call(*arguments)
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[2:]] == list(COMMANDS)
    assert printed.err == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [("tarin", "got 'tarin' (did you mean train?)"), ("seed=3", "got 'seed=3'; accepted: train, shrink, extract")],
)
def test_an_unknown_command_is_refused_with_the_nearest(name, said, call, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(name, "experiment=digits_region")
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_the_version_is_that_of_the_package(call, capsys):
    call("--version")
    assert capsys.readouterr().out == f"prunekit {importlib.metadata.version('prunekit')}\n"


def test_each_command_has_its_module():
    for name in COMMANDS:
        assert importlib.util.find_spec(f"prunekit.app.{name}"), name


@pytest.mark.parametrize(("terminal", "said"), [(True, "prunekit report: loading PyTorch"), (False, "")])
def test_on_a_terminal_something_is_said_before_all_is_loaded(terminal, said, call, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: None)
    call("report", "runs")
    assert capsys.readouterr().err[: len("prunekit report: loading PyTorch")] == said


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no such signal here")
@pytest.mark.parametrize("name", ["train", "report"])
def test_help_that_is_not_read_to_its_end_ends_quietly(name, tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)  # before anything is written
    with os.fdopen(theirs, "wb") as closed:
        command = [sys.executable, "-m", "prunekit", name, "--help"]
        done = subprocess.run(command, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"), [("train", "prunekit train key=value"), ("report", "usage: prunekit report")]
)
def test_what_follows_is_the_commands_own(name, said, tmp_path):
    command = [sys.executable, "-m", "prunekit", name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_clone_that_is_not_installed_can_be_imported(monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", missing)
        assert "not" in importlib.reload(prunekit).__version__
    assert importlib.reload(prunekit).__version__ == importlib.metadata.version("prunekit")
