import copy
import pickle
from urllib.error import URLError

import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18, resnet34

from prunekit.errors import ArgumentError
from prunekit.models.backbone import FrameEncoder, FrozenBackbone


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of weights whose batch normalisation does something."""
    torch.manual_seed(1)
    network = resnet18()
    network.train()
    for _ in range(3):
        network(torch.randn(8, 3, 64, 64) * 2 + 1)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def pictures():
    return torch.randint(0, 256, (4, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def plain_features(file, pictures):
    network = resnet18()
    network.load_state_dict(torch.load(file, weights_only=True))
    network.fc = torch.nn.Identity()
    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    with torch.no_grad():
        return network.eval()((pictures.permute(0, 3, 1, 2) / 255 - mean) / std)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("bf16", 0.03)])
def test_every_way_to_compute_features_agrees_with_torchvisions(
    channels_last, fold, precision, error, trained, pictures
):
    expected = plain_features(trained, pictures)
    encoder = FrozenBackbone(str(trained), "", channels_last, fold, precision).build()
    with torch.no_grad():
        features = encoder(pictures)
    assert features.dtype == torch.float32
    assert (features - expected).norm() / expected.norm() < error
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == (0 if fold else 20)
    weight = encoder.network.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert weight.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)


def test_pictures_of_clips_are_encoded_each_for_itself(trained, pictures):
    encoder = FrozenBackbone(str(trained), "").build()
    with torch.no_grad():
        together = encoder(pictures.view(2, 2, 64, 96, 3))
        alone = torch.stack([encoder(picture[None])[0] for picture in pictures])
    assert together.shape == (2, 2, 512)
    assert torch.allclose(together.flatten(0, 1), alone, atol=1e-5)


def test_recipes_differ_whenever_features_may(trained, tmp_path):
    changed = tmp_path / "other.pth"
    state = torch.load(trained, weights_only=True)
    torch.save({**state, "conv1.weight": state["conv1.weight"] + 1e-3}, changed)
    moved = tmp_path / "moved.pth"
    moved.write_bytes(trained.read_bytes())
    base = FrozenBackbone(str(trained), "").recipe()
    assert FrozenBackbone(str(moved), "").recipe() == base
    others = [
        FrozenBackbone(str(changed), ""), FrozenBackbone("untrained", ""), FrozenBackbone("imagenet", ""),
        FrozenBackbone(str(trained), "", channels_last=False), FrozenBackbone(str(trained), "", fold_batch_norm=False),
        FrozenBackbone(str(trained), "", precision="bf16"),
    ]  # fmt: skip
    recipes = [base, *(other.recipe() for other in others)]
    assert len({str(recipe) for recipe in recipes}) == 7


def test_untrained_weights_are_always_the_same():
    torch.manual_seed(5)
    one = FrameEncoder("untrained", "", trainable=True).state_dict()
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))  # and drawing them leaves the run's random numbers alone
    other = FrameEncoder("untrained", "", trainable=True).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_encoder_stays_as_it_is(trained, pictures):
    encoder = FrameEncoder(str(trained), "", trainable=False)
    before = copy.deepcopy(encoder.state_dict())
    module = torch.nn.ModuleList([encoder]).train()
    assert not any(part.training for part in module[0].modules())
    assert not encoder(pictures).requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_trainable_encoder_is_trained_through(trained, pictures):
    encoder = FrameEncoder(str(trained), "", trainable=True).train()
    encoder(pictures).sum().backward()
    assert encoder.network.conv1.weight.grad.abs().sum() > 0
    assert encoder.network.bn1.training


def test_weights_of_random_numbers_are_not_frozen():
    with pytest.raises(ArgumentError, match="untrained, and trainable=false"):
        FrameEncoder("untrained", "", trainable=False)


class Harm:
    def __reduce__(self):
        return (print, ("harm",))


def test_weights_that_do_not_fit_are_named(trained, tmp_path, capsys):
    def write(content):
        torch.save(content, tmp_path / "w.pth")
        return str(tmp_path / "w.pth")

    state = torch.load(trained, weights_only=True)
    for message, content in {
        r'Unexpected key\(s\) in state_dict: "layer1': resnet34().state_dict(),
        r"size mismatch for conv1\.weight: copying": {**state, "conv1.weight": torch.zeros(2)},
        r'Missing key\(s\) in state_dict: "bn1': {"conv1.weight": state["conv1.weight"]},
        r'Unexpected key\(s\) in state_dict: "extra"': {**state, "extra": torch.zeros(1)},
        r"TypeError: Expected state_dict to be dict-like": [1, 2],
    }.items():
        with pytest.raises(ArgumentError, match=rf"^weights: .*{message}") as caught:
            FrozenBackbone(write(content), "").build()
        assert len(str(caught.value)) < 700
    (tmp_path / "w.pth").write_bytes(trained.read_bytes()[:1000])
    with pytest.raises(ArgumentError, match=r"^weights"):
        FrozenBackbone(str(tmp_path / "w.pth"), "").build()
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Harm(), protocol=2))
    with pytest.raises(ArgumentError, match="damaged or unsafe to load"):
        FrozenBackbone(str(tmp_path / "w.pth"), "").build()
    assert "harm" not in capsys.readouterr().out
    for call in (lambda b: b.build(), lambda b: b.recipe()):
        with pytest.raises(ArgumentError, match=r"nowhere\.pth .*No such file"):
            call(FrozenBackbone(str(tmp_path / "nowhere.pth"), ""))
    with pytest.raises(ArgumentError, match=r"precision: got 'fp8'"):
        FrozenBackbone("untrained", "", precision="fp8")


def test_imagenet_weights_are_downloaded_into_the_cache_once(trained, tmp_path, monkeypatch):
    def download(url, target, *arguments, **keywords):
        calls.append(url)
        with open(target, "wb") as file:  # noqa: PTH123
            file.write(trained.read_bytes())

    calls = []
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    for _ in range(2):
        encoder = FrozenBackbone("imagenet", str(tmp_path), fold_batch_norm=False).build()
    assert calls == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["resnet18-f37072fd.pth"]
    weights = torch.load(trained, weights_only=True)["conv1.weight"]
    assert torch.equal(encoder.network.conv1.weight, weights)
    assert FrozenBackbone("imagenet", "").describe() == "ResNet-18, torchvision ResNet18_Weights.IMAGENET1K_V1"
    assert FrozenBackbone(str(trained), "").describe() == "ResNet-18, resnet18.pth"


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(
        ArgumentError, match=r"weights: got 'imagenet, and no download .*no route.*accepted: imagenet \(wi"
    ):
        FrozenBackbone("imagenet", str(tmp_path)).build()
