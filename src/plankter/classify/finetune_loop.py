"""The training loop: steps, memory that runs out, epochs judged on the tuning part, early stop."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from plankter._errors import ModelError
from plankter.classify.evaluate import evaluate_predictions
from plankter.classify.finetune_config import FinetuneConfig
from plankter.classify.finetune_data import Batch, BatchMaker
from plankter.classify.finetune_images import FloatArray, ImageSource, IntArray, resized
from plankter.classify.finetune_state import CHECKPOINT, TrainingState
from plankter.classify.networks.layers import Classifier
from plankter.vignettes.letterbox import size_inputs

EVALUATION_BATCH = 256
MEASURED_IMAGES = 32
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class StepReport:
    """Told after each step: where the training stands and how long it will still take at this pace."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    seconds_left: float
    in_memory: int


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, on any device."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in OUT_OF_MEMORY)


def follow(average: Classifier, model: Classifier, step: int, decay: float) -> None:
    """Moves the running average of the weights a little; faster at the start, when they change most."""
    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            kept.copy_(kept * keep + new * (1 - keep) if kept.is_floating_point() else new)


@dataclass
class Trainer:
    """One training under way: what does not change (images, settings, device) and the state that does."""

    config: FinetuneConfig
    batches: BatchMaker
    state: TrainingState
    device: torch.device

    def resume(self, folder: Path) -> int:
        """Goes on from the checkpoint in ``folder`` where there is one; returns the epochs that are done."""
        if (folder / CHECKPOINT).is_file():
            self.state.load(folder / CHECKPOINT)
        return self.state.epoch

    def settle_precision(self) -> None:
        """Measures at the start which of bf16 and f32 is quicker, where "auto" would take bf16 on a processor.

        Large maps gain from bf16, small ones lose: they fit the cache in either, and the casts cost more than they save.
        """
        state = self.state
        if self.config.precision != "auto" or self.device.type != "cpu" or not state.bf16 or state.epoch or state.step:
            return
        batch = next(iter(self.batches.epoch(0)))
        rows, seconds = np.arange(min(MEASURED_IMAGES, len(batch.labels))), {}
        for bf16 in (True, False):
            model = copy.deepcopy(state.model).train()
            state.bf16 = bf16
            for _ in range(2):  # the first pass also plans and allocates
                started = time.perf_counter()
                self.forward(model, batch, rows).float().sum().backward()
                seconds[bf16] = time.perf_counter() - started
        state.bf16 = seconds[True] < seconds[False]

    def step(self, batch: Batch) -> float:
        """One step of the optimiser; where memory runs out, half as many images at once, as often as needed.

        The gradient stays that of the whole batch, so that neither rate nor schedule changes.
        """
        state = self.state
        state.model.train()
        number = state.epoch * self.batches.steps + state.step
        while True:
            state.optimiser.zero_grad(set_to_none=True)
            torch.manual_seed(self.config.seed * 1_000_003 + number)  # dropout: the same after a resume
            try:
                loss = self._gradients(batch)
                break
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                if min(state.in_memory, len(batch.labels)) < 4:
                    hint = "fewer pixels, or a smaller network"
                    raise ModelError("memory is not enough for two images at once", hint=hint) from error
            state.in_memory = min(state.in_memory, len(batch.labels)) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        state.optimiser.step()
        state.schedule.step()
        follow(state.average, state.model, number, self.config.average_decay)
        return loss

    def _gradients(self, batch: Batch) -> float:
        pieces = -(-len(batch.labels) // self.state.in_memory)
        weights = self.batches.balance.weights if self.batches.balance.method == "loss" else None
        total = 0.0
        for rows in np.array_split(np.arange(len(batch.labels)), pieces):
            logits = self.forward(self.state.model, batch, rows)
            labels = torch.from_numpy(batch.labels[rows]).to(self.device)
            losses = F.cross_entropy(
                logits.float(), labels, label_smoothing=self.config.label_smoothing, reduction="none"
            )
            if weights is not None:
                losses = losses * torch.from_numpy(weights[batch.labels[rows]].astype(np.float32)).to(self.device)
            loss = losses.sum() / len(batch.labels)
            loss.backward()
            total += float(loss.detach())
        return total

    def forward(self, model: Classifier, batch: Batch, rows: IntArray) -> Tensor:
        """Logits of some images of a batch."""
        context = None if batch.context is None else torch.from_numpy(batch.context[rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.state.bf16):
            logits: Tensor = model(
                torch.from_numpy(batch.vignettes[rows]).to(self.device),
                torch.from_numpy(batch.sizes[rows]).to(self.device),
                context,
            )
        return logits

    def run_epoch(self, save: Callable[[], None], report: Callable[[StepReport], None]) -> float:
        """One epoch, or the rest of one that was killed; returns its mean loss."""
        state, steps, first = self.state, self.batches.steps, self.state.step
        started = time.monotonic()
        for batch in self.batches.epoch(state.epoch, first):
            loss = self.step(batch)
            state.loss_sum += loss
            state.step += 1
            a_step = (time.monotonic() - started) / (state.step - first)
            left = a_step * (steps * (self.config.epochs - state.epoch) - state.step)
            if state.step % self.config.save_every == 0 and state.step < steps:
                save()
            report(StepReport(state.epoch + 1, self.config.epochs, state.step, steps, loss, left, state.in_memory))
        mean = state.loss_sum / max(1, state.step)
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        return mean

    def judge(self, rows: IntArray) -> dict[str, float]:
        """Top-1, macro-F1 and log loss of the averaged network on some images as they lie."""
        data = self.batches.data
        scores = predict(self.state.average, data, rows, self.config.px, self.batches.context, self.device)
        found = evaluate_predictions(data.labels[rows], scores, data.class_ids)
        return {"top1": found.top1, "macro_f1": found.macro_f1, "log_loss": found.log_loss}

    def run(
        self, folder: Path, tune: IntArray, report: Callable[[StepReport], None],
        log: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        """All epochs that are left, each judged on the rows ``tune``; stops early as the settings say."""
        state, checkpoint = self.state, folder / CHECKPOINT
        while state.epoch < self.config.epochs and not self.stopped:
            started = time.monotonic()
            loss = self.run_epoch(lambda: state.save(checkpoint), report)
            rate = float(state.optimiser.param_groups[0]["lr"])  # at the end of the epoch
            facts = {"epoch": float(state.epoch), "loss": loss, "lr": rate}
            if len(tune):
                facts |= self.judge(tune)
            facts["seconds"] = time.monotonic() - started
            state.history.append(facts)
            if len(tune) and facts["top1"] > state.best_score:
                state.best_score, state.best_epoch = facts["top1"], state.epoch
                state.best = {name: value.clone() for name, value in state.average.state_dict().items()}
            state.save(checkpoint)
            log(", ".join(f"{name} {value:.4g}" for name, value in facts.items()))

    @property
    def stopped(self) -> bool:
        """Whether the tuning part has not become better for as many epochs as the settings allow."""
        patience = self.config.patience
        return bool(patience and self.state.best is not None and self.state.epoch - self.state.best_epoch >= patience)

    def result(self) -> Classifier:
        """The averaged network after its best epoch, ready to predict, on the CPU."""
        model = self.state.average
        if self.state.best is not None:
            model.load_state_dict(self.state.best)
        model.train(False)
        return model.to("cpu")


def _in_batches(rows: IntArray) -> list[IntArray]:
    return [rows[at : at + EVALUATION_BATCH] for at in range(0, len(rows), EVALUATION_BATCH)]


def predict(
    model: Classifier, data: ImageSource, rows: IntArray, px: int, context: FloatArray | None = None,
    device: torch.device | None = None,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """float32 (len(rows), classes) scores of images as they lie."""
    return _over(model, data, rows, px, context, device, embeddings=False)


def embed(
    model: Classifier, data: ImageSource, rows: IntArray, px: int, device: torch.device | None = None
) -> npt.NDArray[np.float32]:
    """float32 (len(rows), dim) embeddings of images as they lie, without context."""
    return _over(model, data, rows, px, None, device, embeddings=True)


def _over(
    model: Classifier, data: ImageSource, rows: IntArray, px: int, context: FloatArray | None,
    device: torch.device | None, *, embeddings: bool,
) -> npt.NDArray[np.float32]:  # fmt: skip
    device = device or torch.device("cpu")
    model.train(False)
    found = []
    with torch.no_grad():
        for part in _in_batches(rows):
            pixels = torch.from_numpy(resized(data.pixels(part), px)).to(device)
            sizes = torch.from_numpy(size_inputs(data.sizes[part, 0], data.sizes[part, 1])).to(device)
            if embeddings:
                found.append(model.backbone(pixels, sizes).cpu().numpy())
                continue
            extra = None if context is None else torch.from_numpy(context[part]).to(device)
            found.append(torch.softmax(model(pixels, sizes, extra).float(), 1).cpu().numpy())
    width = model.backbone.dim if embeddings else len(data.class_ids)
    return np.concatenate(found).astype(np.float32) if found else np.zeros((0, width), np.float32)
