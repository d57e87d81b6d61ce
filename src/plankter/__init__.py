"""plankter: from plankton imaging instruments to validated, publishable biodiversity data."""

from plankter._errors import (
    Conflict,
    ImageError,
    ModelError,
    NewerWorkspace,
    NotFound,
    PlankterError,
    ReadError,
    SettingsError,
    StoreError,
)
from plankter.types import (
    Annotation,
    Flag,
    Model,
    Particles,
    Predictions,
    Run,
    Sample,
    StandingLabel,
    Taxon,
    Verdict,
    Vignette,
)

__all__ = [
    "Annotation",
    "Conflict",
    "Flag",
    "ImageError",
    "Model",
    "ModelError",
    "NewerWorkspace",
    "NotFound",
    "Particles",
    "PlankterError",
    "Predictions",
    "ReadError",
    "Run",
    "Sample",
    "SettingsError",
    "StandingLabel",
    "StoreError",
    "Taxon",
    "Verdict",
    "Vignette",
]
