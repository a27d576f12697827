"""A signal while features are computed: what is finished is kept, and the same command computes the rest."""

import signal
from functools import partial

import pytest

from tests.end_to_end import killing
from tests.end_to_end.signalling import end_of, send_before, start
from tests.end_to_end.test_kills_on_clips import CLIPS, features, overrides

pytestmark = pytest.mark.slow
MOMENTS = {
    "before anything is kept": ("prunekit.data_modules.synthetic_actions", "write_mp4", 30),
    "in the middle": ("prunekit.cache.Cache", "keep", 40),
}


@pytest.mark.parametrize(("module", "moment"), [("extract", "in the middle"), ("train", "before anything is kept")])
def test_what_was_computed_is_kept(module, moment, tmp_path):
    folder, errors = tmp_path / "run", tmp_path / "errors"
    killing.warm_up()
    process = start(
        *overrides(folder), errors=errors, module=module, prepare=partial(send_before, *MOMENTS[moment], signal.SIGINT)
    )
    assert end_of(process) == 128 + signal.SIGINT, errors.read_text()
    text = errors.read_text()
    assert "stopped by SIGINT; the same command goes on from its newest checkpoint and what else" in text
    assert "Traceback" not in text
    before = features(folder)
    assert len(before) in ((39, 40) if "keep" in MOMENTS[moment] else (0,))
    assert not list(tmp_path.rglob("features/**/*.part"))
    process = start(*overrides(folder), errors=errors, module="extract")
    process.join(120)
    assert process.exitcode == 0
    after = features(folder)
    assert len(after) == CLIPS
    assert {name: after[name] for name in before} == before
