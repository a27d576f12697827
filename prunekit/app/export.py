"""The door to files: ``prunekit export RUN_DIR`` writes a run's compact network for use elsewhere.

It is written three times: ``network.json`` with ``compact.safetensors``, for ``prunekit.exports.load_compact``;
``compact.pt2`` by ``torch.export``; and, with the extra ``export``, ``compact.onnx``. Each is read again and held
against the masked network on test samples. Of a recogniser the backbone goes along, for
``prunekit predict``; and with ``--streaming`` a network that is run step by step.
"""

import argparse
import copy
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from prunekit.accounting import BATCHES, TURNS
from prunekit.app.door import errors_told, quiet_lightning
from prunekit.app.export_int8 import INT8, export_int8, int8_table
from prunekit.app.export_int8 import TOLERANCE as INT8_TOLERANCE
from prunekit.app.export_steps import export_steps, steps_table
from prunekit.app.naming import run_folder
from prunekit.app.rebuild import Rebuilt, rebuild
from prunekit.app.trust import add_trust
from prunekit.errors import ArgumentError
from prunekit.exports import BACKBONE, WEIGHTS, load_compact, plain_network, save_compact, serialized, write_weights
from prunekit.files import read_record, write_json
from prunekit.folders import replaced
from prunekit.latency import timings
from prunekit.models.backbone import FrameEncoder
from prunekit.portable import Runner, has_onnx, run_onnx, run_pt2, write_onnx, write_pt2
from prunekit.step_files import STEP, read_step
from prunekit.units.compaction import compact, difference
from prunekit.units.links import default_links, network_links

log = logging.getLogger("prunekit")
PT2, ONNX, CHECK = "compact.pt2", "compact.onnx", "check.json"
TOLERANCE = 1e-6  # relative to the larger of 1 and the largest logit; what float32 rounds
FRAMES_CHECKED = 4  # clips, where each goes through the backbone first


def export(
    run: Path, out: Path, trusted: Sequence[str] = (), streaming: bool = False, int8: float | None = None
) -> dict[str, Any]:
    """Write a finished run's compact network into a folder, whole or not at all.

    Args:
        run: the run's folder.
        out: replaced if it is there and an export.
        trusted: as in :func:`~prunekit.app.rebuild.rebuild`.
        streaming: whether to write step files too; what they were held against is in ``step.json``.
        int8: write an int8 file too, if at most this share of calibration samples gets another class by it; of a
            recurrent network it is a step file, so that the others are written as well.

    Returns:
        What ``check.json`` holds: for the masked network, under ``dense``, and each file its ``file_bytes``, the
        largest ``difference`` from the masked network's logits, and the median seconds (``latency``) of batches of 1
        and 64.

    Raises:
        ArgumentError: if there is no finished run, it cannot be made again, its layers cannot be cut, or a file gives
            other logits than the masked network.
    """
    rebuilt = rebuild(run, trusted)
    module = rebuilt.module.cpu().eval()
    try:
        links = network_links(module, rebuilt.recurrent) if rebuilt.recurrent else default_links(module)
        smaller = compact(module, links).module
    except ValueError as error:
        raise ArgumentError("run", f"{run}: {error}", "a network whose layers can be cut") from None
    dense, network = (plain_network(each) or each for each in (module, smaller))
    with replaced(out, CHECK, "export") as aside:
        x, more = _samples(rebuilt, aside)
        of_all = rebuilt.results.get("callbacks", {}).values()
        said = rebuilt.results | next((report for report in of_all if "criterion" in report), {})
        kept = ("experiment", "config_hash", "seed", "metrics", "criterion", "order", "rate", "compensation")
        more |= {"input_shape": list(x.shape[1:]), "run": {key: said.get(key) for key in kept}}
        own = save_compact(aside, network, more)["network"] is not None
        runners = {"dense": dense, WEIGHTS: load_compact(aside, None if own else copy.deepcopy(dense))}
        found = _check(runners | _portable(aside, network, x), x, aside, dense)
        write_json(aside / CHECK, found)
        if streaming or (int8 is not None and rebuilt.recurrent):
            export_steps(aside, network, dense, rebuilt.data, x)
        if int8 is not None:
            export_int8(aside, rebuilt, network, int8)
    return found


def _samples(rebuilt: Rebuilt, folder: Path) -> tuple[Tensor, dict[str, Any]]:
    """Test samples, at most as many as the largest batch, and what a prediction from a video file has to know."""
    data: Any = rebuilt.data
    data.setup("test")
    x, _ = next(iter(data.test_dataloader()))
    backbone = getattr(rebuilt.module, "backbone", None)
    if isinstance(backbone, FrameEncoder):
        with torch.no_grad():
            x = backbone(x[:FRAMES_CHECKED].cpu())
    x = x[: BATCHES[-1]].cpu()
    if not hasattr(data, "sampling"):
        return x, {}
    encoder = backbone if isinstance(backbone, FrameEncoder) else data.backbone.build()
    sha = write_weights(folder / BACKBONE, encoder.network)
    speed = ("channels_last", "fold_batch_norm", "precision")
    own = encoder is backbone
    made = {"fold_batch_norm": False} if own else {name: getattr(data.backbone, name) for name in speed}
    clips = {"frames": data.sampling.frames, "size": list(data.sampling.size), "backbone": made, "backbone_sha256": sha}
    return x, {"classes": data.classes, "clips": clips}


def _portable(folder: Path, network: nn.Module, x: Tensor) -> dict[str, Runner]:
    """Write the files that need no code of the network; what each computes when it is read again."""
    example = torch.cat([x[:1], x[:1]])  # two, since exporters take a dimension of 1 for fixed; files keep it
    runners: dict[str, Runner] = {}
    for name, write, read in ((PT2, write_pt2, run_pt2), (ONNX, write_onnx, run_onnx)):
        if name == ONNX and not has_onnx():
            log.warning("no ONNX file: pip install 'prunekit[export]' brings what writes it")
            continue
        try:
            write(folder / name, network, example)
            runners[name] = read(folder / name)
        except Exception as error:  # exporters know not all that a network of one's own may do
            log.warning("no %s: %s: %s", name, type(error).__name__, error)
            (folder / name).unlink(missing_ok=True)
    return runners


@torch.no_grad()
def _check(runners: Mapping[str, Runner], x: Tensor, folder: Path, dense: nn.Module) -> dict[str, dict[str, Any]]:
    """Hold all against the first of them, the masked network, on batches of several sizes, and take times."""
    whole = x.repeat(-(-BATCHES[-1] // len(x)), *[1] * (x.dim() - 1))
    found: dict[str, dict[str, Any]] = {"dense": {"file_bytes": len(serialized(dense))}}
    found |= {name: {"file_bytes": (folder / name).stat().st_size} for name in runners if name != "dense"}
    for one in found.values():
        one |= {"difference": 0.0, "latency": {}, "latency_quartiles": {}}
    for size in BATCHES:
        batch = whole[:size].contiguous()
        seconds = timings({name: partial(runner, batch) for name, runner in runners.items()}, TURNS, warm=True)
        for name, runner in runners.items():
            apart = difference(runners["dense"](batch), runner(batch))
            if not apart <= TOLERANCE:  # before the larger one is taken, as which Python's max may pass a NaN over
                got = f"{name}, whose logits differ by {apart:.2g} from the masked network's"
                accepted = f"at most {TOLERANCE:g}, relative to the larger of 1 and the largest logit"
                raise ArgumentError("run", got, accepted)
            found[name]["difference"] = max(found[name]["difference"], apart)
            found[name]["latency"][str(size)] = seconds[name].median
            found[name]["latency_quartiles"][str(size)] = [*seconds[name][1:]]
    return found


def check_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """What was written, held against the masked network."""
    threads = torch.get_num_threads()
    title = f"the masked network, of dense size, and its exports; ms are medians with quartiles (threads: {threads})"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in found:
        table.add_column("masked" if name == "dense" else Path(name).suffix, justify="right")

    def add(label: str, values: Sequence[float], form: str) -> None:
        table.add_row(label, f"{values[0]:{form}}", *(f"{one:{form}} ({values[0] / one:.1f}x)" for one in values[1:]))

    add("kB", [one["file_bytes"] / 1000 for one in found.values()], ",.0f")
    table.add_row("difference", *(f"{one['difference']:.1e}" for one in found.values()))
    for size in map(str, BATCHES):
        add(f"ms, batch {size}", [1000 * one["latency"][size] for one in found.values()], "#.3g")
        spread = [[f"{1000 * each:#.3g}" for each in one["latency_quartiles"][size]] for one in found.values()]
        table.add_row("", *(" to ".join(each) for each in spread))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command and export."""
    parser = argparse.ArgumentParser(prog="prunekit export", description="Write a run's compact network.")
    parser.add_argument("run", type=run_folder, help="folder of a finished run, with results.json")
    parser.add_argument("--out", type=Path, help="a folder for the export; default: RUN/export")
    parser.add_argument("--streaming", action="store_true", help="also write step files, for streams")
    parser.add_argument("--int8", action="store_true", help="also write an int8 file, by ONNX Runtime's quantisation")
    share = "share of training samples that may get another class in int8"
    parser.add_argument("--int8-tolerance", type=float, default=INT8_TOLERANCE, help=f"{share}; default: %(default)s")
    add_trust(parser)
    given = parser.parse_args(arguments)
    quiet_lightning()
    with errors_told():
        out = given.out or given.run / "export"
        console = Console(highlight=False, soft_wrap=True)
        int8 = given.int8_tolerance if given.int8 else None
        console.print(check_table(export(given.run, out, given.trust, given.streaming, int8)))
        if (out / STEP).exists():
            console.print(steps_table(read_step(out)["check"]))
        if given.int8:
            console.print(int8_table(read_record(out / INT8) or {}))
        console.print(f"export: {out}")


if __name__ == "__main__":
    main()
