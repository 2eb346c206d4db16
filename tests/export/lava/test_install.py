"""The worker environment is found in the documented order, and half of an installation never counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spikekit.cli import main
from spikekit.errors import WorkerError
from spikekit.export.lava import install as module
from spikekit.export.lava.check import check
from spikekit.export.lava.install import install
from spikekit.export.lava.locate import MARKER, environment, worker_python


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKEKIT_LAVA_PYTHON", raising=False)
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pretend(folder: Path, marked: bool) -> Path:
    """An environment that looks installed."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    if marked:
        (folder / MARKER).write_text("{}")
    return python


def test_the_order_in_which_a_worker_is_found(cache, monkeypatch):
    assert worker_python() is None
    assert environment() == cache / "lava-0.10.0"
    installed = pretend(environment(), marked=True)
    assert worker_python() == installed
    monkeypatch.setenv("SPIKEKIT_LAVA_PYTHON", "/elsewhere/python")
    assert worker_python() == Path("/elsewhere/python")


def test_an_interpreter_with_lava_is_its_own_worker(cache, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.10.0")
    assert worker_python() == Path(sys.executable)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.9.0")
    assert worker_python() is None


def test_half_an_installation_is_not_one(cache):
    pretend(environment(), marked=False)
    assert worker_python() is None


def test_an_installation_that_is_there_is_used(cache):
    installed = pretend(environment(), marked=True)
    assert install() == installed


@pytest.mark.slow
def test_a_failing_pip_is_quoted_and_leaves_nothing(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        WorkerError,
        match=r"installing numpy(?s:.)*run `spikekit lava install`(?s:.)*No matching distribution",
    ):
        install()
    assert worker_python() is None
    assert [entry.name for entry in cache.iterdir()] == ["lava-0.10.0.lock"]


def test_a_failed_renewal_keeps_the_old_one(cache, monkeypatch):
    installed = pretend(environment(), marked=True)

    def fail(command, what):
        raise WorkerError("no network")

    monkeypatch.setattr(module, "_run", fail)
    with pytest.raises(WorkerError, match=r"no network"):
        install(force=True)
    assert worker_python() == installed


def test_a_python_without_venv_makes_way_for_the_next(cache, monkeypatch):
    tried = []

    def run(command, what):
        tried.append(command[0])
        if command[0] == "/first" and "venv" in command:
            raise WorkerError("ensurepip is not available")
        if "venv" in command:
            pretend(Path(command[-1]), marked=False)

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(module, "_candidates", lambda python: [("/first", (3, 10)), ("/second", (3, 11))])
    assert install() == worker_python() == environment() / "bin" / "python"
    assert tried[:2] == ["/first", "/second"]
    assert not environment().with_name("lava-0.10.0.new").exists()


def test_a_launcher_without_a_python_behind_it_is_passed_over(tmp_path, monkeypatch):
    launcher = tmp_path / "python3.10"
    launcher.write_text("#!/bin/sh\necho 'python3.10: command not found' >&2\nexit 127\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert [version for _, version in module._candidates(None)] == [sys.version_info[:2]]
    launcher.write_text("#!/bin/sh\necho 3 10\n")
    if sys.version_info[:2] != (3, 10):
        assert module._candidates(None)[0] == (str(launcher), (3, 10))


def test_unfit_interpreters_are_refused(cache, tmp_path, capsys):
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3 8\n")
    old.chmod(0o755)
    with pytest.raises(WorkerError, match=r"Python 3\.8 cannot run Lava. Give 3\.10 to 3\.13"):
        install(old)
    with pytest.raises(WorkerError, match=r"/nowhere: not a Python that runs"):
        install("/nowhere")
    assert main(["lava", "install", "--python", "/nowhere"]) == 1
    assert "spikekit lava: /nowhere: not a Python that runs" in capsys.readouterr().err


def test_installing_ends_with_a_trial(monkeypatch, worker, capsys):
    monkeypatch.setattr(module, "install", lambda python, force: worker if (python, force) == ("x", True) else None)
    assert main(["lava", "install", "--python", "x", "--force"]) == 0
    assert "a trial network ran in" in capsys.readouterr().out


def test_a_check_without_a_worker_says_what_to_type(cache, capsys):
    assert main(["lava", "check"]) == 1
    assert "spikekit lava install" in capsys.readouterr().out


def test_check_reports_a_working_worker(worker):
    report = check(worker)
    assert report.ok
    assert report.versions["lava-nc"] == "0.10.0"
    assert "a trial network ran in" in str(report)


def test_check_reports_a_broken_worker_without_raising(tmp_path):
    missing = check("/nowhere/python")
    assert not missing.ok
    assert missing.versions == {}
    wrong = check(Path(sys.executable).resolve())
    assert "No module named" in wrong.problem
    assert wrong.versions["lava-nc"] is None
    assert "does not work" in str(wrong)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_installation(cache, worker, capsys):
    """Builds an environment on the running interpreter, from pip's own index."""
    assert main(["lava", "install", "--python", sys.executable]) == 0
    assert "a trial network ran in" in capsys.readouterr().out
    assert worker_python() == environment() / "bin" / "python"
