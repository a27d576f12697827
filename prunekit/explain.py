"""The door to explanations: ``python -m prunekit.explain RUN_DIR`` shows what the network of a run went by.

For test images, how much each region of each neuron gave to the decision, drawn over the image; for each class the mean
evidence; and, for the dense and the pruned network, whether accuracy follows that evidence when pixels are taken away.
"""

import argparse
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from prunekit.build import build
from prunekit.door import errors_told, quiet_lightning
from prunekit.errors import ConfigError
from prunekit.figures.evidence import draw_classes, draw_decisions, draw_faithfulness
from prunekit.masks import find_parameter
from prunekit.rebuild import Rebuilt, rebuild
from prunekit.regions.evidence import find_chain
from prunekit.regions.explanation import BATCH, Subject, compare_methods, explain_classes, explain_decisions
from prunekit.regions.faithfulness import Curves, area, has_captum
from prunekit.regions.segmentation import Connected
from prunekit.runs.files import write_json, write_whole

log = logging.getLogger("prunekit")
KEY = "run"
ARRAYS, AREAS = "evidence.safetensors", "faithfulness.json"
MISTAKES = 10
COLOURED = 5  # regions of an image
SAME = 1e-4  # logits, relative to the larger of 1 and the largest: what float32 rounds

Areas = dict[str, dict[str, dict[str, float]]]


def explain(run: Path, out: Path, images: Sequence[int] | None = None) -> Areas:
    """Explain a finished run's network.

    Args:
        run: the run's folder.
        out: a folder for figures, arrays and TensorBoard events; replaced if it is there and such a folder.
        images: numbers of test images; None for the first of each class.

    Returns:
        Network -> method -> ``deletion`` and ``insertion``, the areas under the curves.

    Raises:
        ConfigError: if there is no finished run, its network is no chain that begins with the pruned layer, or an image
            is not there.
    """
    if out.exists() and not (out / AREAS).exists():
        raise ConfigError("--out", f"{out}, which is there and no explanation", "a new folder, or one explained to")
    rebuilt = rebuild(run)
    subjects = _subjects(rebuilt, run)
    final = subjects["pruned"]
    x, y = rebuilt.data.arrays.test_x, rebuilt.data.arrays.test_y
    images = [int((y == label).nonzero()[0]) for label in y.unique()] if images is None else list(images)
    if not images or min(images) < 0 or max(images) >= len(y):
        raise ConfigError("--images", images, f"numbers of test images, 0 to {len(y) - 1}")
    arrays, decisions = explain_decisions(final, x[images], y[images], COLOURED)
    figures = {"decisions": draw_decisions(decisions, "Why the network decides as it does")}
    wrong = (final.predict(x) != y).nonzero().flatten()[:MISTAKES].tolist()
    if wrong:
        _, mistakes = explain_decisions(final, x[wrong], y[wrong], COLOURED)
        figures["mistakes"] = draw_decisions(mistakes, "What led it astray: the first mistakes on test data")
    count = int(y.max()) + 1
    means, evidence = zip(*track(explain_classes(final, x, y), "classes", total=count, transient=True), strict=True)
    figures["classes"] = draw_classes(
        np.stack(means),
        torch.stack(evidence).numpy(),
        [str(label) for label in range(count)],
        "What each class looks like, and what in an image speaks for it: means over the class's test images",
    )
    curves = {
        name: dict(track(compare_methods(subject, x, y), f"faithfulness, {name}", total=5, transient=True))
        for name, subject in subjects.items()
    }
    areas = {
        network: {
            method: {kind: area(curve) for kind, curve in found._asdict().items()} for method, found in methods.items()
        }
        for network, methods in curves.items()
    }
    figures["faithfulness"] = draw_faithfulness(curves, areas)
    arrays |= {"images": torch.tensor(images), "class_evidence": torch.stack(evidence), **_flat(curves)}
    _write(out, figures, arrays, areas, curves)
    return areas


def _subjects(rebuilt: Rebuilt, run: Path) -> dict[str, Subject]:
    """The networks, each with the regions of its weights, cut as the run cuts them."""
    nodes = [node for node in rebuilt.config["callbacks"].values() if "image_shape" in node]
    if not nodes:
        accepted = "a run with callbacks.region_mean_mask or callbacks.heatmaps, which say what an image is"
        raise ConfigError(KEY, str(run), accepted)
    node = next((node for node in nodes if "rate" in node), nodes[0])
    name, cut = node["parameter"], Connected()
    if node["segmentation"] is not None:
        cut = build(node["segmentation"], "segmentation")
    modules: dict[str, nn.Module] = {"pruned": rebuilt.module}
    if rebuilt.dense is None:
        log.warning("the dense network's checkpoint is gone; only the pruned one is explained")
    else:
        modules = {"dense": rebuilt.dense, **modules}
    if not has_captum():
        log.warning("no integrated gradients: pip install 'prunekit[captum]' brings what takes them")
    sample, subjects = rebuilt.data.arrays.test_x[:BATCH], {}
    for kind, module in modules.items():
        module.cpu().eval()
        try:
            chain = find_chain(module, name)
        except ValueError as error:
            raise ConfigError(KEY, f"{run}: {error}", "a run whose network is linear and elementwise layers") from None
        weights = find_parameter(module, name).detach()
        kept = rebuilt.mask[name] if kind == "pruned" and name in rebuilt.mask else torch.ones_like(weights).bool()
        shape = (len(weights), *node["image_shape"])
        subjects[kind] = Subject(chain, cut(weights.reshape(shape).numpy(), kept.reshape(shape).numpy()))
        with torch.no_grad():
            expected = module(sample)
            difference = (chain.logits(sample.flatten(1)) - expected).abs().max()
        if not difference <= SAME * max(1.0, float(expected.abs().max())):
            got = f"{run}, whose network does more than its layers say"
            raise ConfigError(KEY, got, "one that applies an nn.Sequential to flattened images")
    return subjects


def _flat(curves: Mapping[str, Mapping[str, Curves]]) -> dict[str, Tensor]:
    """All curves by name, such as ``deletion.pruned.random``."""
    return {
        f"{kind}.{network}.{method.replace(' ', '_')}": curve
        for network, methods in curves.items()
        for method, found in methods.items()
        for kind, curve in found._asdict().items()
    }


def _write(
    out: Path,
    figures: Mapping[str, Figure],
    arrays: Mapping[str, Tensor],
    areas: Areas,
    curves: Mapping[str, Mapping[str, Curves]],
) -> None:
    """Write the folder whole or not at all."""
    aside = out.absolute().parent / f".{out.name}-{os.getpid()}"
    content = save({name: tensor.contiguous() for name, tensor in arrays.items()})
    try:
        write_whole(aside / ARRAYS, lambda file: file.write(content))
        with SummaryWriter(str(aside)) as writer:
            for name, figure in figures.items():
                path = aside / f"{name}.png"
                write_whole(path, lambda file, figure=figure: figure.savefig(file, format="png"))  # type: ignore[misc]
                with Image.open(path) as image:
                    writer.add_image(f"explain/{name}", np.asarray(image.convert("RGB")), dataformats="HWC")
            for name, curve in _flat(curves).items():
                for step, accuracy in enumerate(curve.tolist()):
                    writer.add_scalar(name.replace(".", "/", 1), accuracy, round(100 * step / (len(curve) - 1)))
        write_json(aside / AREAS, areas)
        shutil.rmtree(out, ignore_errors=True)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
    parser = argparse.ArgumentParser(prog="python -m prunekit.explain", description="Show what a network went by.")
    parser.add_argument("run", type=Path, help="folder of a finished run that pruned an image classifier")
    parser.add_argument("--out", type=Path, help="a folder for figures and arrays; default: RUN/explain")
    parser.add_argument(
        "--images", type=int, nargs="+", metavar="N", help="test images; default: the first of each class"
    )
    given = parser.parse_args(arguments)
    quiet_lightning()
    with errors_told():
        out: Path = given.out or given.run / "explain"
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(explain(given.run, out, given.images)))
        console.print(f"figures and arrays: {out}\nTensorBoard: tensorboard --logdir {out}")


if __name__ == "__main__":
    main()
