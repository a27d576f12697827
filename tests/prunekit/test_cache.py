"""Scores that runs share: equal to one's own, found only where they are the same, never half-written."""

import torch
from prunekit.reuse import SharedScores, network_digest
from torch import nn

from prunekit.criteria.criterion import Scores
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.random import Random
from prunekit.criteria.transfer_entropy import TransferEntropy

SCORES = Scores(torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64))


def test_what_is_left_is_found_to_the_bit(tmp_path):
    shared = SharedScores(tmp_path)
    place = shared.place("n", "lstm", "head", Entropy())
    assert shared.load(place) is None
    with shared.hold([place]):
        shared.save(place, SCORES)
    found = shared.load(place)
    assert torch.equal(found.values, SCORES.values)
    assert torch.equal(found.p_values, SCORES.p_values)
    shared.save(place, Scores(SCORES.values))
    assert shared.load(place).p_values is None


def test_a_place_is_of_one_network_layer_and_criterion(tmp_path):
    shared = SharedScores(tmp_path)
    places = [
        shared.place(*names, criterion)
        for names in (("n", "lstm", "head"), ("m", "lstm", "head"), ("n", "l", "head"), ("n", "lstm", "h"))
        for criterion in (Entropy(), Entropy(4), Random(0), Random(1), TransferEntropy(), TransferEntropy(seed=1))
    ]
    assert len(set(places)) == len(places)
    assert shared.place("n", "lstm", "head", Entropy(4)) == shared.place("n", "lstm", "head", Entropy(bins=4))


def test_scores_of_other_code_are_not_found(tmp_path, monkeypatch):
    places = [SharedScores(tmp_path).place("n", "lstm", "head", Entropy())]
    monkeypatch.setattr("prunekit.reuse._code", lambda criterion: "changed")
    places.append(SharedScores(tmp_path).place("n", "lstm", "head", Entropy()))
    assert places[0] != places[1]


def test_a_criterion_that_holds_more_than_plain_values_is_not_shared(tmp_path):
    criterion = Entropy()
    criterion.memory = torch.zeros(2)
    assert SharedScores(tmp_path).place("n", "lstm", "head", criterion) is None


def test_damaged_scores_are_named_and_computed_again(tmp_path, caplog):
    shared = SharedScores(tmp_path)
    place = shared.place("n", "lstm", "head", Entropy())
    shared.save(place, SCORES)
    path = place / "scores.safetensors"
    for content in (b"", path.read_bytes()[:-3], b"x" * 100):
        path.write_bytes(content)
        assert shared.load(place) is None
        assert f"{path} is damaged" in caplog.text
        caplog.clear()


def test_a_network_is_told_by_all_its_values():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    digests = {network_digest(net)}
    for tensor in net.state_dict().values():
        tensor.flatten()[-1:].add_(1)
        digests.add(network_digest(net))
    assert len(digests) == 1 + len(net.state_dict())
