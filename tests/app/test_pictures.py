"""A sweep's pictures, in one run of TensorBoard."""

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.app import pictures
from prunekit.app.jobs import new_job
from prunekit.app.pictures import sweep_pictures


def test_each_job_has_its_last_pictures_in_the_sweeps_one_run(tmp_path, monkeypatch):
    jobs = []
    for number in range(50):
        run = tmp_path / f"seed-{number}__0123"
        for name in ("epoch002-l2_mask-round1-rates", "epoch009-l2_mask-round2-rates", "curves"):
            (run / "figures").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10 + ("round2" in name), 10)).save(run / "figures" / f"{name}.png")
        jobs.append({**new_job(number, [], "finished" if number else "failed"), "run": str(run)})
    jobs.append({**new_job(50, [], "finished"), "run": str(tmp_path / "gone")})
    for _ in range(2):  # made again, they are not there twice
        assert sweep_pictures(jobs, tmp_path / "sweep") == 98
    assert len(list((tmp_path / "sweep" / "pictures").iterdir())) == 1
    shown = EventAccumulator(str(tmp_path / "sweep" / "pictures"))
    shown.Reload()
    assert set(shown.Tags()["images"]) == {
        f"{kind}/seed-{number}__0123" for kind in ("curves", "l2_mask-rates") for number in range(1, 50)
    }
    assert shown.Images("l2_mask-rates/seed-1__0123")[0].width == 11
    monkeypatch.setattr(pictures, "MOST", 7)
    assert sweep_pictures(jobs, tmp_path / "sweep") == 7


def test_a_sweep_without_pictures_has_no_such_run(tmp_path):
    assert sweep_pictures([new_job(0, [], "failed")], tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
