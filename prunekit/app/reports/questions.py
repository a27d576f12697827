"""What a benchmark of ways to make networks smaller is asked: two ways each, as words that runs answer to."""

from collections.abc import Mapping
from typing import NamedTuple


class Question(NamedTuple):
    """Two ways, as words that their runs answer to, and what is asked."""

    words: str
    ours: Mapping[str, str]
    theirs: Mapping[str, str]


REPAIRED = {"criterion": "reconstruction", "order": "ascending", "compensation": "closed_loop"}
AT_ONCE, AND_ONE, AND_FOUR = (
    {**REPAIRED, "retrain_epochs": "0"},
    {**REPAIRED, "retrain_epochs": "1", "retrain": "labels"},
    {**REPAIRED, "retrain_epochs": "4", "retrain": "labels"},
)
ALONE = {"compensation": "none", "retrain_epochs": "0"}
DRAWN = {"criterion": "l1_norm", "order": "ascending", "penalty": "group_lasso"}
RANDOM = {**ALONE, "criterion": "random", "order": "ascending"}
QUESTIONS = (
    Question(
        "Repair without labels or training, against a small network from scratch",
        AT_ONCE,
        {"control": "scratch", "retrain_epochs": "0"},
    ),
    Question(
        "Repair and one epoch, against a small network from scratch for four",
        AND_ONE,
        {"control": "scratch_retraining", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and one epoch, against a small network from scratch for all the epochs of both",
        AND_ONE,
        {"control": "scratch", "retrain_epochs": "1"},
    ),
    Question(
        "Repair and four epochs, against a small network from scratch for all the epochs of both",
        AND_FOUR,
        {"control": "scratch", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and four epochs of a teacher, without labels, against a small network from scratch with them",
        {**AND_FOUR, "retrain": "teacher"},
        {"control": "scratch", "retrain_epochs": "0"},
    ),
    Question(
        "Repair without labels or training, against a small network from scratch that the dense one taught, no labels",
        AT_ONCE,
        {"control": "distilled", "retrain_epochs": "0"},
    ),
    Question(
        "Repair without labels or training, against a small network from scratch for four times the epochs",
        AT_ONCE,
        {"control": "scratch", "times_dense": "4"},
    ),
    Question(
        "Repair without labels or training, against a small network that was taught for four times the epochs",
        AT_ONCE,
        {"control": "distilled", "times_dense": "4"},
    ),
    Question(
        "Repair and four epochs of a teacher, against a small network from scratch that it taught for four",
        {**AND_FOUR, "retrain": "teacher"},
        {"control": "distilled_retraining", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and four epochs of a teacher, against a small network from scratch that it taught for all the epochs",
        {**AND_FOUR, "retrain": "teacher"},
        {"control": "distilled", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and one epoch, against the network that was not pruned for as many",
        AND_ONE,
        {"control": "as_many_epochs", "retrain_epochs": "1"},
    ),
    Question(
        "Repair and four epochs, against the network that was not pruned for as many",
        AND_FOUR,
        {"control": "as_many_epochs", "retrain_epochs": "4"},
    ),
    Question(
        "Repair and one epoch, against random units, repair and one epoch",
        AND_ONE,
        {**AND_ONE, "criterion": "random"},
    ),
    Question(
        "Repair in closed loop, against open loop",
        AT_ONCE,
        {**AT_ONCE, "compensation": "linear"},
    ),
    Question(
        "Chosen by reconstruction, against random units, both repaired in closed loop",
        AT_ONCE,
        {**AT_ONCE, "criterion": "random"},
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
    Question(
        "Transfer entropy of bins of equal counts, the highest first, against random units, neither repaired",
        {**ALONE, "criterion": "transfer_entropy_quantile", "order": "descending"},
        RANDOM,
    ),
    Question(
        "Transfer entropy of bins of equal counts, the lowest first, against random units, neither repaired",
        {**ALONE, "criterion": "transfer_entropy_quantile", "order": "ascending"},
        RANDOM,
    ),
    Question(
        "Repair without labels or training, against as many single weights gone, the smallest",
        AT_ONCE,
        {"control": "single_weights", "retrain_epochs": "0"},
    ),
    Question(
        "Repair and one epoch, against as many single weights gone and one epoch",
        AND_ONE,
        {"control": "single_weights", "retrain_epochs": "1"},
    ),
    Question(
        "Repair without labels or training, against weights of low rank, as many multiply-adds, no labels",
        AT_ONCE,
        {"control": "low_rank", "retrain_epochs": "0"},
    ),
    Question(
        "Repair without labels or training, against a group lasso while training, not repaired",
        AT_ONCE,
        {**DRAWN, **ALONE},
    ),
    Question(
        "Group lasso while training and repair, against repair alone",
        {**DRAWN, "compensation": "closed_loop", "retrain_epochs": "0"},
        AT_ONCE,
    ),
    Question(
        "Group lasso while training, repair and one epoch, against repair and one epoch alone",
        {**DRAWN, "compensation": "closed_loop", "retrain_epochs": "1"},
        AND_ONE,
    ),
)
