"""The door to explanations: ``prunekit explain RUN_DIR`` shows what the network of a run went by.

For test images, how much each region of each neuron gave to the decision, drawn over the image; for each class the mean
evidence; and, for the dense and the pruned network, whether accuracy follows that evidence when pixels are taken away.
"""

import argparse
import copy
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from prunekit.app.build import build
from prunekit.app.door import errors_told, quiet_lightning
from prunekit.app.naming import run_folder
from prunekit.app.rebuild import Rebuilt, rebuild
from prunekit.app.trust import add_trust, require_trusted
from prunekit.callbacks.images import add_png
from prunekit.errors import ArgumentError
from prunekit.figures.evidence import draw_classes, draw_decisions, draw_faithfulness
from prunekit.files import write_json, write_whole
from prunekit.folders import replaced
from prunekit.masks import find_parameter
from prunekit.regions.evidence import find_chain
from prunekit.regions.explanation import Subject, compare_methods, explain_classes, explain_decisions
from prunekit.regions.faithfulness import has_captum
from prunekit.regions.segmentation import Connected

log = logging.getLogger("prunekit")
KEY = "run"
ARRAYS, AREAS = "evidence.safetensors", "faithfulness.json"
MISTAKES = 10
METHODS = 6  # that are compared
COLOURED = 5  # regions of an image
SAME = 1e-4  # logits, relative to the larger of 1 and the largest: what float32 rounds

COLUMNS = """\
deletion: how accurate it stays while the pixels go that a method puts first; insertion: while only these come back
dense: before the first pruning; pruned: as the run left it; by region: all pixels of a region of weights together
of the dense network regions are nearly whole images, so by region says little of it"""

Areas = dict[str, dict[str, dict[str, float]]]


def explain(run: Path, out: Path, images: Sequence[int] | None = None, trusted: Sequence[str] = ()) -> Areas:
    """Explain a finished run's network.

    Args:
        run: the run's folder.
        out: a folder for figures, arrays and TensorBoard events; replaced if it is there and such a folder.
        images: numbers of test images; None for the first of each class.
        trusted: as in :func:`~prunekit.app.rebuild.rebuild`.

    Returns:
        Network -> method -> ``deletion`` and ``insertion``, the areas under the curves.

    Raises:
        ArgumentError: if there is no finished run, its network is no chain that begins with a layer whose weights are
            images, or an image is not there.
    """
    rebuilt = rebuild(run, trusted)
    subjects, shape = _subjects(rebuilt, run, trusted)
    x, y = _test_images(rebuilt.data, shape, run)
    final, labels = subjects["pruned"], sorted(set(y.tolist()))
    images = [int((y == label).nonzero()[0]) for label in labels] if images is None else list(images)
    if not images or min(images) < 0 or max(images) >= len(y):
        raise ArgumentError("--images", images, f"numbers of test images, 0 to {len(y) - 1}")
    if not has_captum():
        log.warning("no integrated gradients: pip install 'prunekit[attribution]' brings what takes them")
    with replaced(out, AREAS, "explanation") as aside:
        arrays, decisions = explain_decisions(final, x[images], y[images], COLOURED)
        figures = {"decisions": draw_decisions(decisions, "Why the network decides as it does")}
        wrong = (final.predict(x) != y).nonzero().flatten()[:MISTAKES].tolist()
        if wrong:
            _, mistakes = explain_decisions(final, x[wrong], y[wrong], COLOURED, mistakes=True)
            title = "What led the network astray: its first mistakes, in the order of the test data"
            figures["mistakes"] = draw_decisions(mistakes, title)
        classes = track(explain_classes(final, x, y), "classes", total=len(labels), transient=True)
        means, evidence = zip(*classes, strict=True)
        title = "What each class looks like, and what in an image speaks for it (DeepLIFT): means over its test images"
        figures["classes"] = draw_classes(np.stack(means), np.stack(evidence), list(map(str, labels)), title)
        methods = {
            name: dict(track(compare_methods(subject, x, y), f"faithfulness, {name}", total=METHODS, transient=True))
            for name, subject in subjects.items()
        }
        figures["faithfulness"] = draw_faithfulness(methods)
        curves = {
            f"{kind}.{network}.{method.replace(' ', '_')}": curve
            for network, own in methods.items()
            for method, found in own.items()
            for kind, curve in found._asdict().items()
        }
        arrays |= {"images": torch.tensor(images), "class_evidence": torch.stack(evidence), **curves}
        content = save({name: tensor.contiguous() for name, tensor in arrays.items()})
        write_whole(aside / ARRAYS, lambda file: file.write(content))  # save_file's is its owner's alone to read
        with SummaryWriter(str(aside)) as writer:
            for name, figure in figures.items():
                figure.savefig(aside / f"{name}.png")
                add_png(writer, aside / f"{name}.png", f"explain/{name}", 0)
            for name, curve in curves.items():
                for step, accuracy in enumerate(curve.tolist()):
                    writer.add_scalar(name.replace(".", "/", 1), accuracy, round(100 * step / (len(curve) - 1)))
        areas = {name: {method: found.areas() for method, found in own.items()} for name, own in methods.items()}
        write_json(aside / AREAS, areas)
    return areas


def _subjects(rebuilt: Rebuilt, run: Path, trusted: Sequence[str]) -> tuple[dict[str, Subject], tuple[int, ...]]:
    """The networks, each with the regions of its weights, cut as the run cuts them; and the shape of an image."""
    module = rebuilt.module.cpu().float().eval()
    weights = {"pruned": {name: tensor.clone() for name, tensor in module.state_dict().items()}}
    if rebuilt.dense is None:
        log.warning("the dense network's checkpoint is gone; only the pruned one is explained")
    else:
        weights = {"dense": rebuilt.dense, **weights}
    node = _subject(rebuilt, run)
    require_trusted(node.get("segmentation"), "segmentation", str(run), trusted)
    cut = build(node["segmentation"], "segmentation") if node.get("segmentation") is not None else Connected()
    name, shape, subjects = node["parameter"], tuple(node["image_shape"]), {}
    for kind, state in weights.items():
        module.load_state_dict(state)
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            raise ArgumentError(
                KEY, f"{run}, whose {kind} network is not finite", "a run whose training did not diverge"
            )
        chain = copy.deepcopy(find_chain(module, name))
        first = find_parameter(module, name).detach()
        kept = rebuilt.mask[name] if kind == "pruned" and name in rebuilt.mask else torch.ones_like(first).bool()
        rows = (len(first), *shape)
        subjects[kind] = Subject(chain, cut(first.reshape(rows).numpy(), kept.reshape(rows).numpy()))
    x, _ = next(_batches(rebuilt.data))
    with torch.no_grad():
        expected = module(x)
        difference = (subjects["pruned"].chain.logits(x.flatten(1)) - expected).abs().max()
    if not difference <= SAME * max(1.0, float(expected.abs().max())) or expected.shape[1] < 2:
        got = f"{run}, whose network does more than its layers say, or knows one class"
        raise ArgumentError(KEY, got, "one that applies an nn.Sequential to flattened images of two classes or more")
    return subjects, shape


def _subject(rebuilt: Rebuilt, run: Path) -> dict[str, Any]:
    """The config of the callback that says what an image is and where the weights are; of one that prunes first."""
    callbacks: dict[str, dict[str, Any]] = rebuilt.config["callbacks"]
    nodes = [node for node in callbacks.values() if {"image_shape", "parameter"} <= node.keys()]
    got, accepted = str(run), "a run with a callback that has image_shape and parameter, which say what an image is"
    for node in sorted(nodes, key=lambda node: "rate" not in node):
        try:
            find_chain(rebuilt.module, node["parameter"])
        except ValueError as error:
            got, accepted = f"{run}: {error}", "a run whose network is linear and elementwise layers"
        else:
            return node
    raise ArgumentError(KEY, got, accepted)


def _batches(data: Any) -> Iterator[tuple[Tensor, Tensor]]:
    data.setup("test")
    for x, y in data.test_dataloader():
        yield x.cpu().float(), y.cpu()


def _test_images(data: Any, shape: tuple[int, ...], run: Path) -> tuple[Tensor, Tensor]:
    """All test images, ``(n, *shape)`` float, and their classes."""
    x, y = (torch.cat(part) for part in zip(*_batches(data), strict=True))
    if x[0].numel() != math.prod(shape):
        got = f"{run}, with inputs of {tuple(x.shape[1:])}"
        raise ArgumentError(KEY, got, f"one whose inputs are images of {list(shape)}")
    return x.reshape(len(x), *shape), y


def _table(areas: Areas) -> Table:
    table = Table(title="areas under the accuracy curves, in %", title_justify="left")
    table.add_column("in the order of")
    for network in areas:
        table.add_column(f"{network}\ndeletion\nlow is good", justify="right")
        table.add_column("\ninsertion\nhigh is good", justify="right")
    for method in next(iter(areas.values())):
        table.add_row(method, *(f"{100 * value:.1f}" for found in areas.values() for value in found[method].values()))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command and explain."""
    parser = argparse.ArgumentParser(prog="prunekit explain", description="Show what a network went by.")
    parser.add_argument("run", type=run_folder, help="folder of a finished run that pruned an image classifier")
    parser.add_argument("--out", type=Path, help="a folder for figures and arrays; default: RUN/explain")
    words = "test images; default: the first of each class"
    parser.add_argument("--images", type=int, nargs="+", metavar="N", help=words)
    add_trust(parser)
    given = parser.parse_args(arguments)
    quiet_lightning()
    with errors_told():
        out: Path = given.out or given.run / "explain"
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(explain(given.run, out, given.images, given.trust)))
        console.print(COLUMNS)
        console.print(f"look first at {out / 'decisions.png'}")
        console.print(f"figures and arrays: {out}\nTensorBoard: tensorboard --logdir {out}")


if __name__ == "__main__":
    main()
