"""One model for sequences: recurrent layers, and a head that tells a class, the next token or binary vector."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from prunekit.errors import ArgumentError, check_choice, check_count, check_rate
from prunekit.measuring import Predict
from prunekit.metrics import ACCURACY, NLL, PERPLEXITY, Losses, Metric, class_losses, frame_accuracy, vector_losses

CELLS: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
READOUTS = ("last", "mean", "each")
EMBEDDED = 0.1  # an embedding is drawn evenly up to this magnitude


class Task(NamedTuple):
    """What is told, and how well.

    Attributes:
        losses: of outputs and targets those of each step, and which steps count; training takes their mean.
        metric: what the model is judged by.
        each: whether something is told at each step.
    """

    losses: Losses
    metric: Metric
    each: bool


TASKS = {
    "classes": Task(class_losses, ACCURACY, each=False),
    "tokens": Task(class_losses, PERPLEXITY, each=True),
    "vectors": Task(vector_losses, NLL, each=True),
}


class SequenceModel(pl.LightningModule):
    """Reads sequences by recurrent layers, whose outputs a head of fully connected layers reads.

    Its modules are ``embedding`` (of tokens), ``recurrent`` (an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``) and ``head``,
    whose parts are ``head.dropout``, ``head.hidden1``, ``head.activation1`` (ReLU) and so on, and ``head.output``. A
    batch is (inputs, targets); a step whose target is below 0 counts nowhere.

    Args:
        inputs: numbers of a step; of tokens, how many different ones there are.
        outputs: classes, different tokens, or numbers of a binary vector.
        optimizer: parameters -> optimizer, such as ``functools.partial(torch.optim.Adam, lr=0.001)``.
        task: ``classes``: one for each sequence, int64 ``(N,)``, judged by accuracy; ``tokens``: one at each step,
            int64 ``(N, T)``, judged by perplexity; ``vectors``: one at each step, ``(N, T, outputs)`` of 0 and 1,
            judged by their negative log-likelihood a step.
        cell: ``lstm``, ``gru`` or ``rnn`` (tanh).
        units: of each layer and direction.
        layers: recurrent layers.
        directions: 1, or 2 to read backwards as well, which is for classes alone.
        embedding: numbers that a token becomes; None where inputs are numbers, ``(N, T, inputs)``.
        hidden: neurons of the head's hidden layers, if any.
        readout: what the head reads: the ``last`` step's output (reading backwards, the first step's), the ``mean``
            over all steps, padding included, or that of ``each`` step, which goes with tokens and vectors.
        dropout: in training, of embedded tokens, between recurrent layers and of what the head reads.
        carried: whether in training and in measuring a batch's sequences go on where those of the batch before have
            ended, with their states; gradients do not go that far back. Each epoch begins with states of 0.

    Raises:
        ArgumentError: if a value is not accepted.

    Example:
        >>> from functools import partial
        >>> net = SequenceModel(50, 50, partial(torch.optim.Adam), task="tokens", readout="each", units=8, embedding=4)
        >>> net(torch.zeros(3, 7, dtype=torch.int64)).shape
        torch.Size([3, 7, 50])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        task: str = "classes",
        cell: str = "lstm",
        units: int = 128,
        layers: int = 1,
        directions: int = 1,
        embedding: int | None = None,
        hidden: Sequence[int] = (),
        readout: str = "last",
        dropout: float = 0.0,
        carried: bool = False,
    ) -> None:
        sizes = {"inputs": inputs, "outputs": outputs, "units": units, "layers": layers}
        for name, size in (*sizes.items(), *(("hidden", size) for size in hidden)):
            check_count(name, size, least=1)
        check_choice("task", task, TASKS)
        check_choice("cell", cell, CELLS)
        check_choice("readout", readout, READOUTS)
        check_choice("directions", directions, (1, 2))
        self._refuse(task, readout, directions, carried)
        check_rate("dropout", dropout)
        super().__init__()
        self.task, self.readout, self.carried = TASKS[task], readout, carried
        self.metric = self.task.metric
        self.embedding: nn.Module | None = None
        if embedding is not None:
            table = nn.Embedding(inputs, check_count("embedding", embedding, least=1))
            nn.init.uniform_(table.weight, -EMBEDDED, EMBEDDED)
            self.embedding = nn.Sequential(OrderedDict(table=table, dropout=nn.Dropout(dropout)))
        between = dropout if layers > 1 else 0.0  # torch warns of one that is nowhere
        shape = {"input_size": embedding or inputs, "hidden_size": units, "num_layers": layers, "batch_first": True}
        self.recurrent: nn.RNNBase = CELLS[cell](**shape, dropout=between, bidirectional=directions == 2)  # type: ignore[arg-type]
        widths = [units * directions, *hidden]
        parts: dict[str, nn.Module] = {"dropout": nn.Dropout(dropout)} if dropout else {}
        for number, (width, size) in enumerate(zip(widths, hidden, strict=False), start=1):
            parts |= {f"hidden{number}": nn.Linear(width, size), f"activation{number}": nn.ReLU()}
        self.head = nn.Sequential(OrderedDict(parts, output=nn.Linear(widths[-1], outputs)))
        self._optimizer = optimizer
        self._states: Any = None  # of the batch before, in training

    @staticmethod
    def _refuse(task: str, readout: str, directions: int, carried: bool) -> None:
        each = TASKS[task].each
        if each != (readout == "each"):
            raise ArgumentError(
                "readout", readout, "each for tokens and vectors" if each else "last or mean for classes"
            )
        if directions == 2 and (each or carried):
            raise ArgumentError("directions", 2, "1 where the next step is told, or states are carried")

    def run(self, x: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Outputs of sequences that begin with these states, and the states that they end with.

        Args:
            x: ``(N, T, inputs)`` float, or ``(N, T)`` int64 tokens.
            states: as an earlier call gave them; None for 0.

        Returns:
            Logits ``(N, outputs)``, or ``(N, T, outputs)`` where something is told at each step; and the states.
        """
        x = x if self.embedding is None else self.embedding(x)
        h, states = self.recurrent(x) if states is None else self.recurrent(x, states)
        if self.readout == "mean":
            h = h.mean(1)
        elif self.readout == "last":
            forward, *backward = torch.split(h, self.recurrent.hidden_size, dim=2) if self._backwards else (h,)
            h = torch.cat([forward[:, -1], *(each[:, 0] for each in backward)], 1)
        return self.head(h), states

    @property
    def _backwards(self) -> bool:
        return bool(self.recurrent.bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of sequences that begin with states of 0."""
        return self.run(x)[0]

    def predictor(self) -> Predict:
        """A function of this module and batches in their order, which carries states from one to the next."""
        states: Any = None

        def predict(module: Any, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            nonlocal states
            logits, ended = module.run(batch[0], states)
            states = ended if self.carried else None
            return logits, batch[1]

        return predict

    def success(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """How well the head does when it is applied at each step, whatever the readout, of sequences that begin anew.

        Returns:
            ``(N, T)`` in [0, 1], 1 at steps that do not count: of the true class the probability p; of the true one of
            n tokens ``p ** (1 / ln n)``, which is 1/e for a guess, whatever n is; of a binary vector
            :func:`~prunekit.metrics.frame_accuracy`.
        """
        x, y = batch
        h, _ = self.recurrent(x if self.embedding is None else self.embedding(x))
        logits = self.head(h)
        if self.metric == NLL:
            return frame_accuracy(logits, y)
        losses, _ = self.task.losses(logits, y if self.task.each else y[:, None].expand(-1, h.shape[1]))
        scale = math.log(logits.shape[-1]) if self.metric == PERPLEXITY else 1.0
        return (-losses / scale).exp()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of the steps that count, in nats."""
        x, y = batch
        states = self._states if self.carried and batch_idx else None
        logits, ended = self.run(x, _each(states, lambda state: state.to(x.device)))
        self._states = _each(ended, Tensor.detach) if self.carried else None
        losses, counts = self.task.losses(logits, y)
        return losses.sum() / counts.sum().clamp(min=1)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Lightning wants one where there is validation data; the metric comes from ``callbacks.curves``."""

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over all parameters that are trained."""
        return self._optimizer(p for p in self.parameters() if p.requires_grad)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the states of all ranks, with which an epoch goes on from its middle."""
        if self.carried:
            states = [self._states] * self.trainer.world_size
            if self.trainer.world_size > 1:
                torch.distributed.all_gather_object(states, _each(self._states, Tensor.cpu))
            checkpoint["states"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up this rank's."""
        if self.carried:
            states = checkpoint.get("states") or [None]
            rank = self.trainer.global_rank if len(states) == self.trainer.world_size else 0
            self._states = states[rank]


def _each(states: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """States of any kind of layer, each changed; None for None."""
    return tree_map(lambda state: change(state) if isinstance(state, Tensor) else state, states)
