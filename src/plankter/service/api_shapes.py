"""What the API gives and takes, as types that its description is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ProblemShape(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None


class TopClass(Shape):
    class_id: str
    name: str
    aphia_id: int | None
    score: float


class ImagePrediction(Shape):
    """One image: its best classes; the class or group that is said, none where the model is not sure enough; why; and
    how unsure it is (entropy of the scores, 0 sure to 1 anything). ``scores`` holds every class."""

    file: str
    top: list[TopClass]
    scores: dict[str, float] | None
    decision: str | None
    reason: str | None
    uncertainty: float | None
    failure: str | None


class PredictAnswer(Shape):
    model: str
    model_id: str
    precision: str
    images: list[ImagePrediction]


class EncodedImage(Shape):
    file: Annotated[str, Field(max_length=1_000)]
    data: Annotated[str, Field(description="base64")]


class PredictMany(Shape):
    images: Annotated[list[EncodedImage], Field(min_length=1, max_length=2_000)]


class UploadAnswer(Shape):
    id: str
    files: dict[str, int] = Field(description="bytes that are here, by name")
    missing: list[str] = Field(description="files of which less is here than was announced")


class NewUpload(Shape):
    purpose: Annotated[str, Field(max_length=40)] = "api"


class FileAnswer(Shape):
    name: str
    size: int


class ProgressShape(Shape):
    step: str
    done: int
    total: int | None
    seconds_left: float | None


class JobAnswer(Shape):
    id: str
    kind: str
    title: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    arguments: dict[str, Any]
    created_at: str
    started_at: str | None
    ended_at: str | None
    attempts: int
    reason: str | None
    limits: dict[str, float]
    progress: ProgressShape | None
    result: dict[str, Any] | None = None


class JobPage(Shape):
    jobs: list[JobAnswer]
    next: str | None


class NewJob(Shape):
    kind: Literal[
        "analyse",
        "ingest",
        "classify",
        "inspect",
        "train",
        "evaluate",
        "compare",
        "drift",
        "transform",
        "export",
        "try",
        "register",
    ]
    title: Annotated[str, Field(max_length=200)] = ""
    arguments: dict[str, Any] = {}


class RunAnswer(Shape):
    run_id: str
    name: str
    sample_id: str
    instrument: str
    started_at: str | None
    um_per_px: float | None
    volume_imaged_ml: float | None
    particles: int
    vignettes: int
    failures: int
    predicted: int
    validated: int
    model_id: str | None
    flags: list[str]


class RunPage(Shape):
    runs: list[RunAnswer]
    next: str | None


class ParticleAnswer(Shape):
    run_id: str
    index: int
    width_px: int
    height_px: int
    esd_um: float | None
    area_um2: float | None
    predicted: str | None
    score: float | None
    label: str | None
    status: str
    failure: str | None


class ParticlePage(Shape):
    particles: list[ParticleAnswer]
    next: str | None


class ClassCountAnswer(Shape):
    class_id: str
    name: str
    aphia_id: int | None
    predicted: int
    validated: int
    per_ml: float | None
    per_ml_low: float | None
    per_ml_high: float | None
