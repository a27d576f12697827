"""The export of a small untrained recogniser of clips, and streams for it."""

from functools import partial
from pathlib import Path

import torch

from prunekit.exports import BACKBONE, plain_network, save_compact, write_weights
from prunekit.models.backbone import UNTRAINED, FrozenBackbone
from prunekit.models.recognizer import Recognizer
from prunekit.step_files import save_step

CLASSES = ["Dark", "Bright"]
BETWEEN = 0.08  # seconds: every second frame of 25


def write_export(folder: Path, gates: tuple[float, float, float, float] = (4.0, -4.0, 0.0, 4.0)) -> Path:
    """A recogniser that says Bright where pictures are bright, as far as random features tell.

    Its gates are open or closed by these biases; as they are by default it keeps nothing from frame to frame.
    """
    torch.manual_seed(0)
    network = plain_network(Recognizer(512, 2, partial(torch.optim.Adam), units=4, hidden=3))
    encoder = FrozenBackbone(UNTRAINED, "").build()
    grey = torch.stack([torch.full((32, 48, 3), level, dtype=torch.uint8) for level in (40, 200)])
    with torch.no_grad():
        dark, bright = encoder(grey)
        for parameter in network.lstm.parameters():
            parameter.zero_()
        network.lstm.weight_ih_l0[8:12] = (bright - dark) / (bright - dark).square().sum() * 6  # the candidates
        network.lstm.bias_ih_l0[8:12] = -network.lstm.weight_ih_l0[8] @ (bright + dark) / 2
        network.lstm.bias_hh_l0.copy_(torch.tensor(gates).repeat_interleave(4))
        network.head.hidden.weight.fill_(1.0)
        network.head.output.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 3) * 3)
        network.head.hidden.bias.zero_()
        network.head.output.bias.copy_(torch.tensor([1.0, -1.0]))
    sha = write_weights(folder / BACKBONE, encoder.network)
    clips = {"frames": 5, "size": [32, 48], "backbone": {}, "backbone_sha256": sha}
    save_compact(folder, network, {"classes": CLASSES, "clips": clips})
    save_step(folder, network, more={"seconds": BETWEEN})
    return folder
