import pytest
from filelock import FileLock
from lightning_utilities.core.rank_zero import rank_zero_only

from prunekit import rank
from prunekit.rank import locked_on_rank_zero


def test_ranks_hear_from_one_that_waits_for_a_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(rank, "SECONDS_OF_SILENCE", 0.01)
    own, others, said = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock"), []
    others.acquire()

    def share(have):
        said.append(have)
        if len(said) == 2:
            others.release()
        return have

    with pytest.raises(KeyError), locked_on_rank_zero(own, share):
        raise KeyError(own.is_locked)
    assert said == [False, False, True]
    assert not own.is_locked


def test_other_ranks_go_on_when_rank_zero_has_the_lock_and_take_none(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    said, own = [True, False], FileLock(tmp_path / "lock")
    with locked_on_rank_zero(own, lambda have: said.pop()):
        assert not said
        assert not own.is_locked
