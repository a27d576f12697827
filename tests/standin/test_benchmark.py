"""The benchmark for GPUs runs before there is one: on the stand-in, in small."""

import os

import pytest

from benchmarks import gpu as benchmark
from prunekit import gpu
from tests import standin
from tests.standin.test_runs import REGIONS, SITE

pytestmark = pytest.mark.standin


def test_what_is_measured_in_one_process(device, capsys):
    benchmark.epochs(steps=1, units=[4], repeats=1)
    benchmark.frames(size=(32, 32), number=2, repeats=1)
    benchmark.tf32(units=8, size=(32, 32))
    printed = capsys.readouterr().out
    assert printed.count("CPU") == 3
    assert "0.0e+00" in printed  # the stand-in's features are the CPU's


@pytest.mark.slow
def test_what_is_measured_in_processes_of_their_own(device, tmp_path, monkeypatch, capsys):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(standin.ROOT)]))
    benchmark.determinism(REGIONS[:1], REGIONS[1:])
    benchmark.sweeps([2], 2, REGIONS[1:])
    printed = capsys.readouterr().out
    assert printed.count(" equal") == 2
    assert "2 jobs of digits_region on 2 GPU" in printed


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU"):
        benchmark.main()
