"""What a benchmark of ways to make networks smaller is asked: two ways each, as words that runs answer to."""

from collections.abc import Mapping
from typing import NamedTuple


class Question(NamedTuple):
    """Two ways, as words that their runs answer to, and what is asked."""

    words: str
    ours: Mapping[str, str]
    theirs: Mapping[str, str]


REPAIRED = {"criterion": "reconstruction", "order": "ascending", "compensation": "closed_loop"}
ALONE = {"compensation": "none", "retrain_epochs": "0"}
RANDOM = {**ALONE, "criterion": "random", "order": "ascending"}
QUESTIONS = (
    Question(
        "Repair without labels or training, against a small network from scratch",
        {**REPAIRED, "retrain_epochs": "0"},
        {"control": "scratch", "retrain_epochs": "0"},
    ),
    Question(
        "Repair and one epoch, against a small network from scratch for four",
        {**REPAIRED, "retrain_epochs": "1", "retrain": "labels"},
        {"control": "scratch_retraining", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and one epoch, against a small network from scratch for all the epochs of both",
        {**REPAIRED, "retrain_epochs": "1", "retrain": "labels"},
        {"control": "scratch", "retrain_epochs": "1"},
    ),
    Question(
        "Repair and four epochs, against a small network from scratch for all the epochs of both",
        {**REPAIRED, "retrain_epochs": "4", "retrain": "labels"},
        {"control": "scratch", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and four epochs of a teacher, without labels, against a small network from scratch with them",
        {**REPAIRED, "retrain_epochs": "4", "retrain": "teacher"},
        {"control": "scratch", "retrain_epochs": "0"},
    ),
    Question(
        "Repair and one epoch, against the network that was not pruned for as many",
        {**REPAIRED, "retrain_epochs": "1", "retrain": "labels"},
        {"control": "as_many_epochs", "retrain_epochs": "1"},
    ),
    Question(
        "Repair and four epochs, against the network that was not pruned for as many",
        {**REPAIRED, "retrain_epochs": "4", "retrain": "labels"},
        {"control": "as_many_epochs", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and one epoch, against random units, repair and one epoch",
        {**REPAIRED, "retrain_epochs": "1", "retrain": "labels"},
        {**REPAIRED, "criterion": "random", "retrain_epochs": "1", "retrain": "labels"},
    ),
    Question(
        "Repair in closed loop, against open loop",
        {**REPAIRED, "retrain_epochs": "0"},
        {**REPAIRED, "compensation": "linear", "retrain_epochs": "0"},
    ),
    Question(
        "Chosen by reconstruction, against random units, both repaired in closed loop",
        {**REPAIRED, "retrain_epochs": "0"},
        {**REPAIRED, "criterion": "random", "retrain_epochs": "0"},
    ),
    Question(
        "Transfer entropy, the highest first, against random units, neither repaired",
        {**ALONE, "criterion": "transfer_entropy", "order": "descending"},
        RANDOM,
    ),
    Question(
        "Transfer entropy, the lowest first, against random units, neither repaired",
        {**ALONE, "criterion": "transfer_entropy", "order": "ascending"},
        RANDOM,
    ),
)
