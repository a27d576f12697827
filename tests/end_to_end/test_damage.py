"""Damaged files: nothing wrong passes in silence, and nothing ends with a traceback."""

import logging

import pytest

from tests.corrupt import prepare, try_cases


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damaged_files_are_refused_or_mended_by_name(tmp_path):
    prepare(tmp_path / "runs")
    logging.disable(logging.INFO)  # hundreds of runs say that they had finished
    try:
        assert try_cases(tmp_path / "runs", 80) == []
    finally:
        logging.disable(logging.NOTSET)
