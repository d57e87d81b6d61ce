"""What the API gives and takes, as types that its description is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """What the answers and questions share: a field that is not named here is refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ProblemShape(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None


class TopClass(Shape):
    """One class of an image: its name in the class list, its AphiaID there, and its score (0 to 1)."""

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
    """What one model said of several images, and the precision of numbers that its network ran in."""

    model: str
    model_id: str
    precision: str
    images: list[ImagePrediction]


class EncodedImage(Shape):
    """One image as text: the name that it is answered under, and the file in base64."""

    file: Annotated[str, Field(max_length=1_000)]
    data: Annotated[str, Field(description="base64")]


class PredictMany(Shape):
    """Images that are predicted in one request."""

    images: Annotated[list[EncodedImage], Field(min_length=1, max_length=2_000)]


class UploadAnswer(Shape):
    """How far an upload has come."""

    id: str
    files: dict[str, int] = Field(description="bytes that are here, by name")
    missing: list[str] = Field(description="files of which less is here than was announced")


class NewUpload(Shape):
    """What is said of an upload when it is made: in a word, what for."""

    purpose: Annotated[str, Field(max_length=40)] = "api"


class FileAnswer(Shape):
    """A file of an upload; ``size`` is the bytes that are here now."""

    name: str
    size: int


class ProgressShape(Shape):
    """How far a job is: the step it is at, what of it is done (``total`` null where unknown), and the seconds that this
    step will still take, null where that cannot be told."""

    step: str
    done: int
    total: int | None
    seconds_left: float | None


class JobAnswer(Shape):
    """One job. Times are ISO 8601 in UTC; ``attempts`` counts the workers that began it, ``reason`` says why it failed,
    ``limits`` are seconds and MB of memory. ``result`` is there only where one job was asked for and has ended well."""

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
    """A page of jobs; ``next`` is the cursor of the following one, null on the last."""

    jobs: list[JobAnswer]
    next: str | None


class NewJob(Shape):
    """A job to be done; which ``arguments`` its kind has is said at ``POST /jobs``."""

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
    """One run: its scale in µm a pixel and its imaged volume in mL, null where unknown, and how many of its particles
    have a vignette, failed, are predicted and are validated. ``flags`` are codes of what is odd about it."""

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
    """A page of runs; ``next`` is the cursor of the following one, null on the last."""

    runs: list[RunAnswer]
    next: str | None


class ParticleAnswer(Shape):
    """One particle: size of its image in px, equivalent spherical diameter in µm and area in µm², its best predicted
    class with the score, and the label that stands. ``failure`` says why it has no image that can be used."""

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
    """A page of particles; ``next`` is the cursor of the following one, null on the last."""

    particles: list[ParticleAnswer]
    next: str | None


class ClassCountAnswer(Shape):
    """How often a class is predicted and how often a person stands behind it, in one run; ``per_ml`` is what is predicted
    a mL of imaged water with its exact 95 % Poisson interval, null where the volume is unknown."""

    class_id: str
    name: str
    aphia_id: int | None
    predicted: int
    validated: int
    per_ml: float | None
    per_ml_low: float | None
    per_ml_high: float | None
