"""How the program ends when it is told to, and when the disk is full."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from scatacformer.cli import _main, main


@pytest.fixture
def doing(monkeypatch):
    """doing(what): `scatacformer demo` does this instead."""

    def put(what):
        parser = _main.build_parser

        def parsers():
            built = parser()
            parse = built.parse_args

            def with_run(argv):
                args = parse(argv)
                args.run = lambda args: what()
                return args

            built.parse_args = with_run
            return built

        monkeypatch.setattr(_main, "build_parser", parsers)

    return put


def sent(number):
    os.kill(os.getpid(), number)
    time.sleep(5)
    raise AssertionError("the signal did nothing")


def by_a_library():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


def no_room():
    raise OSError(errno.ENOSPC, "x.h5ad could not be written: No space left on device (5 bytes are free in /x)")


@pytest.mark.parametrize(
    ("what", "status", "said"),
    [
        (lambda: sent(signal.SIGTERM), 143, "ended by SIGTERM"),
        (lambda: sent(signal.SIGINT), 130, "stopped by Ctrl-C"),
        (by_a_library, 130, "stopped by Ctrl-C"),
        (lambda: sys.exit(143), 143, ""),
        (no_room, 1, "error: [Errno 28] x.h5ad could not be written: No space left on device"),
        (lambda: None, 0, ""),
    ],
)
def test_status_and_line(doing, capsys, what, status, said):
    doing(what)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["demo"]) == status
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == bool(said)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_embed_that_is_ended_leaves_no_output(tmp_path, small_adata, number):
    small_adata.write_h5ad(tmp_path / "a.h5ad")
    command = [sys.executable, "-m", "scatacformer", "embed", str(tmp_path / "a.h5ad"), "-o", str(tmp_path / "o.h5ad")]
    with subprocess.Popen([*command, "--max-epochs", "100000"], stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "epoch 2 of" in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
        assert process.wait(60) == 128 + number, "".join(lines) + rest
    assert rest.strip(), "a line says why it ended"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5ad"]
