"""Training: it learns, goes on after a kill as if there had been none, copes with little memory, stops early."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from plankter._errors import ModelError
from plankter.classify.finetune import FinetuneConfig, Fitted, estimate, finetune
from plankter.classify.finetune_images import ArrayImages
from plankter.classify.head import Head
from plankter.classify.networks import NETWORKS
from plankter.features.backbones import OpenVinoBackbone
from plankter.vignettes.letterbox import size_inputs

HAS_TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("onnx") is not None
pytestmark = pytest.mark.skipif(not HAS_TORCH, reason="torch or onnx is not installed (extra 'train')")
PX = 32


@dataclass(frozen=True)
class Rows:
    train: np.ndarray
    tune: np.ndarray


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A network of two convolutions, and one thread: the order of sums stays the same."""
    import torch
    from torch import nn

    from plankter.classify.networks.layers import Backbone, ConvNorm

    def tiny(channels: int) -> Backbone:
        return Backbone(nn.Sequential(ConvNorm(channels, 8, 3, 2, same=True), ConvNorm(8, 16, 3, 2)), 16, channels)

    monkeypatch.setitem(NETWORKS, "tiny", tiny)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _images(n: int = 36, seed: int = 0) -> ArrayImages:
    """Three classes: bright, dark, and a bright bar on dark."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    squares = rng.integers(0, 60, (n, PX, PX)).astype(np.uint8)
    squares[labels == 0] += 150
    squares[labels == 2, 8:24, 8:24] += 190
    return ArrayImages(("bright", "dark", "spot"), labels, np.full((n, 2), 40.0, np.float32), squares)


SPLIT = Rows(np.arange(24), np.arange(24, 36))


def _config(**changes: object) -> FinetuneConfig:
    given: dict[str, object] = {
        "network": "tiny", "px": PX, "epochs": 3, "batch": 6, "lr": 0.02, "save_every": 2, "precision": "f32",
        "device": "cpu", "patience": 0,
    }  # fmt: skip
    return FinetuneConfig(**(given | changes))  # type: ignore[arg-type]


class Killed(Exception):
    """Stands for the end of the process in the middle of a training."""


def _weights(fitted: Fitted) -> list[bytes]:
    return [fitted.head_weight.tobytes(), fitted.head_bias.tobytes(), fitted.onnx_path.read_bytes()]


def test_it_learns_and_the_exported_network_names_the_same(tmp_path: Path) -> None:
    data = _images()
    steps: list[tuple[str, int, int | None]] = []
    left: list[float] = []
    fitted = finetune(
        data, SPLIT, _config(epochs=8), folder=tmp_path, progress=lambda *step: steps.append(step),
        report=lambda step: left.append(step.seconds_left),
    )  # fmt: skip
    assert fitted.curves[-1]["top1"] > 0.9 and fitted.curves[-1]["loss"] < fitted.curves[0]["loss"]
    assert steps[-1] == ("training", 32, 32) and left[-1] == 0 and left[0] > 0
    backbone = OpenVinoBackbone(fitted.onnx_path, precision="f32", threads=1)
    assert (backbone.input_px, backbone.dim) == (fitted.input_px, fitted.dim) == (PX, 48)
    embeddings = backbone.embed(data.array, size_inputs(data.sizes[:, 0], data.sizes[:, 1]))
    scores = Head(fitted.head_weight, fitted.head_bias).scores(embeddings)
    assert np.mean(scores.argmax(1)[24:] == data.labels[24:]) > 0.9
    with (tmp_path / "curves.csv").open(newline="", encoding="utf-8") as file:
        assert [float(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 9))
    assert "24 images train, 12 tune; balance none" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert fitted.facts["images_at_once"] == 6 and fitted.balance.method == "none"


@pytest.mark.parametrize("last_step", [3, 4, 5, 11])
def test_killed_and_resumed_equals_unbroken(tmp_path: Path, last_step: int) -> None:
    """4 steps an epoch, saved after every second: killed off and on the saved steps and between epochs."""
    whole = finetune(_images(), SPLIT, _config(), folder=tmp_path / "whole")
    seen = 0

    def kill(step: object) -> None:
        nonlocal seen
        seen += 1
        if seen == last_step:
            raise Killed

    with pytest.raises(Killed):
        finetune(_images(), SPLIT, _config(), folder=tmp_path / "killed", report=kill)
    resumed = finetune(_images(), SPLIT, _config(), folder=tmp_path / "killed")
    assert _weights(resumed) == _weights(whole)
    drop = ("seconds",)
    for a, b in zip(resumed.curves, whole.curves, strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {k: v for k, v in b.items() if k not in drop}


def test_seeds_decide_everything(tmp_path: Path) -> None:
    runs = [finetune(_images(), SPLIT, _config(seed=s), folder=tmp_path / str(i)) for i, s in enumerate((1, 1, 2))]
    assert _weights(runs[0]) == _weights(runs[1]) != _weights(runs[2])


def test_a_finished_training_is_exported_again_without_a_step(tmp_path: Path) -> None:
    first = finetune(_images(), SPLIT, _config(), folder=tmp_path)
    steps: list[object] = []
    again = finetune(_images(), SPLIT, _config(), folder=tmp_path, report=steps.append)
    assert not steps and _weights(again) == _weights(first)


@pytest.mark.parametrize(
    "message", ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory"]
)
def test_when_memory_runs_out_the_batch_halves_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    from plankter.classify.finetune_loop import Trainer

    forward, sizes = Trainer.forward, []

    def narrow(self, model, batch, rows):  # type: ignore[no-untyped-def]
        if len(rows) > 3:
            raise RuntimeError(message)
        sizes.append(len(rows))
        return forward(self, model, batch, rows)

    monkeypatch.setattr(Trainer, "forward", narrow)
    fitted = finetune(_images(), SPLIT, _config(), folder=tmp_path)
    assert fitted.facts["images_at_once"] == 3 and set(sizes) == {3} and len(sizes) == 3 * 4 * 2
    assert fitted.facts["epochs_done"] == 3
    assert "3 images at once instead of 6" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_out_of_memory_of_torch_itself_and_other_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from plankter.classify.finetune_loop import Trainer

    def none_at_all(self, model, batch, rows):  # type: ignore[no-untyped-def]
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "forward", none_at_all)
    with pytest.raises(ModelError, match="not enough for two images"):
        finetune(_images(), SPLIT, _config(), folder=tmp_path / "a")

    def broken(self, model, batch, rows):  # type: ignore[no-untyped-def]
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        finetune(_images(), SPLIT, _config(), folder=tmp_path / "b")


def test_halves_add_up_to_the_gradient_of_the_batch() -> None:
    from plankter.classify.finetune_setup import prepare

    found = []
    for at_once in (6, 2):
        trainer, _, _ = prepare(_images(), SPLIT, _config(dropout=0.0, balance="loss"))
        trainer.state.in_memory = at_once
        trainer.state.model.train(False)  # norms as in prediction: those of training depend on what is seen together
        loss = trainer._gradients(next(iter(trainer.batches.epoch(0))))
        found.append((loss, trainer.state.model.head.weight.grad.numpy().copy()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    fitted = finetune(_images(), SPLIT, _config(epochs=9, lr=1e-9, patience=2), folder=tmp_path)
    assert fitted.facts["epochs_done"] == 3 and fitted.facts["best_epoch"] == 1 and fitted.facts["stopped_early"]
    assert len(fitted.curves) == 3
    assert "not better on the tuning part since epoch 1" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_context_is_learnt_saved_and_may_be_missing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    noise = rng.integers(0, 255, (80, PX, PX), dtype=np.uint8)
    data = ArrayImages(("cold", "warm"), labels, np.full((80, 2), np.nan, np.float32), noise)
    values = np.stack((np.where(labels == 1, 18.0, 6.0) + rng.normal(size=80), rng.normal(size=80)), axis=1)
    values[::9, 1] = np.nan
    config = _config(epochs=10, batch=10, context_features=4)
    split = Rows(np.arange(60), np.arange(60, 80))
    fitted = finetune(data, split, config, folder=tmp_path, context=(("temperature_c", "salinity"), values))
    assert fitted.context is not None and fitted.context.columns == ("temperature_c", "salinity")
    assert fitted.head_weight.shape == (fitted.dim + 4, 2) and fitted.context.dim == 4
    embeddings = OpenVinoBackbone(fitted.onnx_path, precision="f32", threads=1).embed(
        noise, np.zeros((80, 3), np.float32)
    )
    head = Head(fitted.head_weight, fitted.head_bias, context=fitted.context)
    known = head.scores(embeddings, values)
    assert np.mean(known.argmax(1)[60:] == labels[60:]) > 0.9
    assert np.isfinite(head.scores(embeddings, np.full((80, 2), np.nan))).all()
    without = finetune(data, split, config, folder=tmp_path / "without")
    assert without.curves[-1]["top1"] < 0.8 and without.context is None
    assert fitted.curves[-1]["top1"] == pytest.approx(np.mean(known.argmax(1)[60:] == labels[60:]))


def test_failed_images_neither_train_nor_tune(tmp_path: Path) -> None:
    data = replace(_images(), failures={0: "damaged", 30: "damaged"})
    fitted = finetune(data, SPLIT, _config(), folder=tmp_path)
    assert fitted.facts["images_left_out"] == 2
    assert "23 images train, 11 tune" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    with pytest.raises(ModelError, match="1 readable training images"):
        finetune(data, Rows(np.array([0, 1]), SPLIT.tune), _config(), folder=tmp_path / "one")


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    finetune(_images(), SPLIT, _config(), folder=tmp_path)
    with pytest.raises(ModelError, match="other images or settings"):
        finetune(_images(), SPLIT, _config(lr=0.01), folder=tmp_path)
    with pytest.raises(ModelError, match="other images or settings"):
        finetune(_images(), Rows(np.arange(20), SPLIT.tune), _config(), folder=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="expected a checkpoint"):
        finetune(_images(), SPLIT, _config(), folder=tmp_path)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"average": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="expected a checkpoint"):
        finetune(_images(), SPLIT, _config(start=tmp_path / "evil.pt"), folder=tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_start_from_a_checkpoint_takes_backbone_and_fitting_head(tmp_path: Path) -> None:
    from plankter.classify.finetune_setup import prepare

    finetune(_images(), SPLIT, _config(), folder=tmp_path)
    config = _config(start=tmp_path / "checkpoint.pt", seed=9)
    average = prepare(_images(), SPLIT, _config())[0]
    average.resume(tmp_path)
    expected = average.state.average.state_dict()
    started = prepare(_images(), SPLIT, config)[0].state.model.state_dict()
    assert all((started[name] == expected[name]).all() for name in expected)
    two = ArrayImages(("a", "b"), np.arange(36) % 2, _images().sizes, _images().array)
    other = prepare(two, SPLIT, config)[0].state.model.state_dict()
    assert (other["backbone.size.0.weight"] == expected["backbone.size.0.weight"]).all()
    assert other["head.weight"].shape[0] == 2
    with pytest.raises(ModelError, match="is of another network"):
        prepare(_images(), SPLIT, _config(start=config.start, network="mobilenet_v4_small"))
    with pytest.raises(ModelError, match="are for mobilenet_v2"):
        prepare(_images(), SPLIT, _config(start=tmp_path / "imagenet.npz"))


def test_estimate_grows_with_images_and_epochs() -> None:
    short = estimate(_config(epochs=1), 600, classes=3)
    assert 0 < short < estimate(_config(epochs=50), 6000, classes=3)


def test_colour_is_for_comparisons_only(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="goes without"):
        _config(colour=True)
    colour = replace(_images(), array=np.repeat(_images().array[..., None], 3, axis=3))
    config = _config(colour=True, augmentation=None, epochs=1)
    with pytest.raises(ModelError, match="models see grey"):
        finetune(colour, SPLIT, config, folder=tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()  # it trained all the same


@pytest.mark.parametrize(
    "change", [{"network": "resnet"}, {"device": "tpu"}, {"precision": "f8"}, {"batch": 1}, {"px": 16}, {"lr": 0.0}]
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"not known|must be one of|expected at least"):
        _config(**change)


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from plankter.classify.finetune_setup import chosen_device, chosen_precision

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no CUDA device"):
        chosen_device("cuda")
    assert chosen_device("auto").type == "cpu" and chosen_precision("f32", chosen_device("auto")) == "f32"


def test_auto_keeps_the_precision_that_is_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    from plankter.classify import finetune_loop
    from plankter.classify.finetune_setup import prepare

    for slower, expected in ((True, False), (False, True)):  # is bf16 the slower one?
        trainer, _, _ = prepare(_images(), SPLIT, _config(precision="auto"))
        trainer.state.bf16, now = True, [0.0]

        def clock(trainer=trainer, slower=slower, now=now) -> float:  # type: ignore[no-untyped-def]
            now[0] += 2.0 if trainer.state.bf16 == slower else 1.0
            return now[0]

        monkeypatch.setattr(finetune_loop, "time", SimpleNamespace(perf_counter=clock))
        before = [p.detach().clone() for p in trainer.state.model.parameters()]
        trainer.settle_precision()
        assert trainer.state.bf16 is expected
        assert all((a == b).all() for a, b in zip(before, trainer.state.model.parameters(), strict=True))
    trainer.state.step, trainer.state.bf16 = 1, True  # a resumed training keeps what it began with
    trainer.settle_precision()
    assert trainer.state.bf16
