"""From a finished run to files, and from a video file to an action."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunekit.app.export import CHECK, _portable, export
from prunekit.app.export import main as export_main
from prunekit.app.export_int8 import _dense
from prunekit.app.predict import Predictor
from prunekit.app.predict import main as predict_main
from prunekit.app.rebuild import rebuild
from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.exports import load_compact
from prunekit.files import read_record
from prunekit.step_files import read_step
from prunekit.streams import BY, load_stream
from tests.conftest import go_and_keep

ROOT = Path(__file__).parents[2]
UNITS = (
    "experiment=synthetic_te", "model.units=16", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames",
    "criterion=reconstruction", "callbacks.unit_mask.order=ascending", "callbacks.unit_mask.compensation=linear",
    "callbacks.unit_mask.rate=0.75", "callbacks.unit_curve.rates=[0.0,0.5]",
)  # fmt: skip


def test_a_run_that_only_pruned_is_made_again_to_the_bit(new_run, miniature):
    run = new_run(*UNITS, *miniature("synthetic_te"))
    module, _ = go_and_keep(run)
    assert not list((run.folder / "checkpoints").glob("*"))  # there is nothing to load
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    again = rebuild(run.folder)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor.cpu(), again.module.state_dict()[name].cpu()), name
    assert again.recurrent == [("lstm", "head")] * 2
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_recognizer_is_exported_and_predicts_from_a_video_file(new_run, miniature, tmp_path, capsys):
    run = new_run(*UNITS, *miniature("synthetic_te"))
    module, data = go_and_keep(run)
    out = tmp_path / "export"
    export_main([str(run.folder), "--out", str(out)])
    printed = capsys.readouterr().out
    check = json.loads((out / CHECK).read_text())
    wanted = {"dense", "compact.safetensors", "compact.pt2"}
    wanted |= {"compact.onnx"} if importlib.util.find_spec("onnxruntime") else set()
    assert set(check) == wanted
    for name, one in check.items():
        assert one["difference"] <= 1e-6
        assert set(one["latency"]) == {"1", "64"}
        if name != "dense":
            assert one["file_bytes"] == (out / name).stat().st_size
            assert Path(name).suffix in printed
    assert load_compact(out).lstm.hidden_size == 4
    said = json.loads((out / "network.json").read_text())["run"]
    assert (said["experiment"], said["criterion"], said["compensation"]) == ("synthetic_te", "reconstruction", "linear")
    assert export(run.folder, out)["dense"]["file_bytes"] > check["compact.safetensors"]["file_bytes"]  # over the first
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".export")] == []

    clips = sorted((tmp_path / "cache").rglob("*.avi")) or sorted((tmp_path / "cache").rglob("*.mp4"))
    found = Predictor(out)(clips[0])
    assert list(found.probabilities) == sorted(found.probabilities, key=found.probabilities.get, reverse=True)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    split = data.made_split
    where = [clip.path for clip in split.test].index(clips[0]) if clips[0] in [c.path for c in split.test] else None
    part = split.train if where is None else split.test
    where = [clip.path for clip in part].index(clips[0])
    features = (data.arrays.train_x if part is split.train else data.arrays.test_x)[where]
    with torch.no_grad():
        shares = module.cpu().eval()(features[None])[0].softmax(0)
    for name, share in zip(data.classes, shares.tolist(), strict=True):
        assert found.probabilities[name] == pytest.approx(share, abs=1e-5)

    text = tmp_path / "text.avi"
    text.write_text("no video")
    with pytest.raises(SystemExit, match="2"):
        predict_main([str(out), str(text), str(clips[0]), str(tmp_path / "none.avi")])
    printed = capsys.readouterr()
    assert f"error: {text}: decoding stopped after 0 frames" in printed.err
    assert "none.avi: it cannot be read" in printed.err
    assert "%" in printed.out
    predict_main([str(out), str(clips[0]), "--top", "1"])
    assert capsys.readouterr().out.count("%") == 1

    backbone = out / "backbone.safetensors"
    whole = bytearray(backbone.read_bytes())
    for content in (b"x", whole[:-1] + bytes([whole[-1] ^ 1])):  # a flipped bit is a valid weight
        backbone.write_bytes(content)
        with pytest.raises(ArgumentError, match=r"backbone\.safetensors, whose content is not what network\.json was"):
            Predictor(out)
    backbone.write_bytes(whole)
    refuse_contradictions(out)


@pytest.mark.slow
def test_a_recognizer_is_exported_for_streams(new_run, miniature, capsys):
    run = new_run(*UNITS, *miniature("synthetic_te"))
    go_and_keep(run)
    export_main([str(run.folder), "--streaming"])
    printed = capsys.readouterr().out
    assert "ms, a step" in printed
    said = read_step(run.folder / "export")
    assert {"weights", "pt2"} <= set(said["check"]) <= set(BY)
    assert all(one["difference"] <= 1e-6 for one in said["check"].values())
    assert said["seconds"] == pytest.approx(8 / 25 / 3)  # clips of 8 pictures, 25 a second, of which 3 are taken
    assert [state.name for state in said["states"]] == ["lstm.h", "lstm.c"]
    assert load_stream(run.folder / "export").step(torch.zeros(1, 1, 512)).shape == (1, 6)


@pytest.mark.slow
def test_int8_files_are_measured_beside_float32(new_run, miniature, capsys, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    run = new_run(*UNITS, *miniature("synthetic_te"))
    go_and_keep(run)
    export_main([str(run.folder), "--int8", "--int8-tolerance", "0.5"])
    assert "pruned, int8" in capsys.readouterr().out
    out = run.folder / "export"
    found = read_record(out / "int8.json")
    assert found["tolerance"] == 0.5
    for one in (found["pruned"], found["dense"]):
        assert one["int8"]["file_bytes"] < one["float32"]["file_bytes"]
        assert 0 <= one["int8"]["changed"] <= 0.5
    check = json.loads((run.folder / "results.json").read_text())["metrics"]
    for network, when in (("pruned", "final"), ("dense", "dense")):
        assert found[network]["float32"]["test_acc"] == pytest.approx(check[f"{when}/test_acc"])
    dense = _dense(rebuild(run.folder))
    assert (dense.lstm.weight_hh_l0 != 0).any(1).all()  # of accuracies so few clips tell nothing
    assert found["dense"]["float32"]["file_bytes"] > 1.5 * found["pruned"]["float32"]["file_bytes"]
    x = torch.rand(1, 3, 512)
    assert 0 < (load_stream(out, "int8").step(x) - load_stream(out).step(x)).abs().max() < 0.1
    monkeypatch.setattr("prunekit.app.export_int8._share_equal", lambda pairs: 0.9)
    with pytest.raises(ArgumentError, match=r"int8: got 'a network that gives 10\.0% .*accepted: .* at most 5\.0%"):
        export(run.folder, tmp_path / "refused", int8=0.05)
    assert not (tmp_path / "refused").exists()


@pytest.mark.slow
def test_a_network_without_recurrent_layers_is_not_exported_for_streams(short_run):
    run = short_run()
    run.go()
    with pytest.raises(ArgumentError, match=r"streaming: got .a network without a recurrent layer"):
        export(run.folder, run.folder / "export", streaming=True)
    assert not (run.folder / "export").exists()


def refuse_contradictions(out):
    forge = json.loads((out / "network.json").read_text())
    for contradiction in (
        {"classes": forge["classes"][1:]}, {"classes": 5}, {"clips": forge["clips"] | {"frames": 0}},
        {"clips": forge["clips"] | {"size": [200_000, 200_000]}}, {"clips": forge["clips"] | {"size": [32]}},
        {"clips": forge["clips"] | {"backbone": {"precision": "int1"}}}, {"clips": forge["clips"] | {"frames": 10**12}},
    ):  # fmt: skip
        said = {key: value for key, value in (forge | contradiction).items() if key != "digest"}
        (out / "network.json").write_text(json.dumps(said | {"digest": digest(said)}))
        with pytest.raises(ArgumentError, match=r"folder: got .*(contradict itself|says nothing of video clips)"):
            Predictor(out)


@pytest.mark.slow
def test_a_retrained_mlp_is_exported_from_its_checkpoint(short_run, monkeypatch):
    run = short_run("callbacks.l2_mask.rate=0.9", "callbacks.region_mean_mask.rate=0.9")
    module, _ = go_and_keep(run)
    calls = []
    monkeypatch.setattr("prunekit.models.mlp.Mlp.training_step", lambda *a: calls.append(1))
    again = rebuild(run.folder)
    assert not calls  # nothing is trained again
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor.cpu(), again.module.state_dict()[name].cpu()), name
    check = export(run.folder, run.folder / "export")
    assert max(one["difference"] for one in check.values()) <= 1e-6
    with pytest.raises(ArgumentError, match=r"network\.json, which says nothing of video clips"):
        Predictor(run.folder / "export")


class Deciding(torch.nn.Linear):
    """Goes two ways, by what it sees."""

    def forward(self, x):
        return super().forward(x) if float(x.sum()) > 0 else x[:, :2]


@pytest.mark.slow
def test_a_network_that_no_exporter_can_write_still_has_its_weights(tmp_path, caplog):
    assert _portable(tmp_path, Deciding(3, 2).eval(), torch.rand(3, 3)) == {}
    assert "no compact.pt2: " in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(short_run, tmp_path, capsys):
    run = short_run()
    with pytest.raises(ArgumentError, match=r"run: got .*accepted: the folder of a finished run"):
        rebuild(run.folder)
    run.go()
    (run.folder / "results.json").rename(tmp_path / "results.json")
    with pytest.raises(ArgumentError, match=r"run that has not finished.*`prunekit train resume=.*` goes on with it"):
        rebuild(run.folder)
    (tmp_path / "results.json").rename(run.folder / "results.json")
    deeper = tmp_path / "moved" / "deeper" / "run"
    shutil.copytree(run.folder, deeper)
    found = [rebuild(folder) for folder in (run.folder, deeper)]
    assert torch.equal(*(next(each.module.parameters()) for each in found))
    assert [each.dense is None for each in found] == [False, False]  # which lies elsewhere, as seen from there
    shutil.rmtree(deeper / "checkpoints")
    with pytest.raises(
        ArgumentError, match=r"without the network that it came from'; accepted: .*bring \S+\.ckpt along"
    ):
        rebuild(deeper)
    (tmp_path / "full").mkdir()
    with pytest.raises(ArgumentError, match=r"out: got .*full, which is there and no export"):
        export(run.folder, tmp_path / "full")
    masks = run.folder / "masks.safetensors"
    whole = load_file(masks)
    save_file({name: torch.ones_like(kept) for name, kept in whole.items()}, masks)
    with pytest.raises(SystemExit, match="2"):
        export_main([str(run.folder)])
    assert "whose files do not make the mask that it had" in capsys.readouterr().err
    save_file(whole, masks)
    config = run.folder / "config.yaml"
    config.write_text(re.sub("rate: 0.4", "rate: 0.3", config.read_text()))
    with pytest.raises(ArgumentError, match="whose config is not the one that it was run with"):
        rebuild(run.folder)
    assert not (run.folder / "export").exists()


@pytest.mark.slow
def test_the_example_of_ones_own_model_prunes_compensates_compacts_and_exports(real_data, tmp_path):
    spec = importlib.util.spec_from_file_location("own_model", ROOT / "docs" / "own_model.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on a trainer without validation
        found = example.main(tmp_path, str(real_data), str(tmp_path / "cache"), batches=80)
    assert found["units"] == 64
    assert found["dense"] > 0.75
    assert found["retrained"] > found["dense"] - 0.02
    assert found["difference"] <= 1e-6
    assert found.get("difference of ONNX", 0.0) <= 1e-6
    assert {"network.json", "compact.safetensors"} <= {path.name for path in tmp_path.iterdir()}
