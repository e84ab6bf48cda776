"""run_app.py as a program: it says where it listens, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.server import examples_of, running
from engine.predictor import Predictor
from tests.app.conftest import free_port
from tests.processes import ROOT, environment, run_here
from utils.errors import UserError


def test_the_program_says_where_it_listens_and_sigterm_ends_it_cleanly(config, tmp_path):
    port = free_port()
    # A proxy that does not answer is what hospitals have: it must not be asked for this machine.
    proxied = environment(TMPDIR=str(tmp_path), http_proxy="http://127.0.0.1:9")
    command = [sys.executable, "run_app.py", "--config", config.file, "--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=proxied, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        told = next(line for line in lines if line.startswith("open "))
        assert told == f"open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends it\n"
        assert len(list(tmp_path.glob("qfae-*"))) == 1
        assert not (tmp_path / "gradio").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert list(tmp_path.glob("qfae-*")) == []


def test_a_port_that_is_taken_is_one_line(predictor):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"--port {port}: nothing can listen there"),
            running(predictor, "127.0.0.1", port),
        ):
            pass
    # The next page finds a folder.
    assert Path(os.environ["GRADIO_TEMP_DIR"]).is_dir()


def test_without_gradio_it_says_what_to_install(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run_here(monkeypatch, "run_app.py", "--config", config.file) == 2
    assert capsys.readouterr().err == (
        'error: gradio, which serves the page, is not installed; run pip install -e ".[app]"\n'
    )


def test_examples_are_phantoms_and_never_other_test_images(predictor, tmp_path):
    names = [name for name, _ in examples_of(predictor)]
    assert names == [f"{kind} {number}" for kind in ("normal", "lesion") for number in (1, 2, 3)]
    (tmp_path / "test").symlink_to(predictor.settings.test_data_path)
    settings = predictor.settings.model_copy(update={"test_data_path": tmp_path / "test"})
    others = Predictor(predictor.scorer, settings, predictor.calibration)
    assert examples_of(others) == []
