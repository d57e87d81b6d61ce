"""What each kind of job does: arguments from a page or the API in, workflow calls, a JSON object out.

Every kind may be begun again after its process was killed: what is finished is kept, what is half done is made anew.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from plankter._errors import ReadError, SettingsError
from plankter.service.image_sets import class_root, count_images, unpacked
from plankter.service.jobs import JobFolder
from plankter.service.sources import Sources
from plankter.service.uploads import Upload
from plankter.store.files import write_text
from plankter.workflow.progress import Progress
from plankter.workflow.workspace import Workspace, open_workspace

Arguments = dict[str, Any]
Step = Callable[[Workspace, JobFolder, Arguments, Progress], dict[str, Any]]
MOST_DECODED = 50_000
PREDICTIONS, FOUND = "predictions.parquet", "found.json"


@dataclass(frozen=True)
class Kind:
    """One kind of job: a word for people, and what it does."""

    words: str
    step: Step

    def run(self, folder: Path, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
        """Does it in the workspace at ``folder``; what lies at another address is fetched before that is opened, so that
        the guard of connections does not stand in the way of its catalogue."""
        if arguments.get("remote"):
            from plankter.service.fetching import fetch

            sources = Sources.of_environment()
            upload = Upload(folder / "uploads" / str(arguments["upload"]))
            fetch(arguments["remote"], job.secret, upload, sources.hosts(), sources.limits, progress)
        with open_workspace(folder) as workspace:
            return self.step(workspace, job, arguments, progress)


def _upload(workspace: Workspace, arguments: Arguments) -> Upload:
    return Upload(workspace.folder / "uploads" / str(arguments["upload"]))


def _set(workspace: Workspace, arguments: Arguments, progress: Progress) -> Path:
    """The folder that a job reads: one of the server, which is never written to, or that of an upload."""
    if arguments.get("folder"):
        progress("checking the folder", 0, None)
        return Sources.of_environment().checked_folder(str(arguments["folder"]))
    gb = int(workspace.settings["limits.max_zip_gb"])
    return unpacked(_upload(workspace, arguments), max_zip_bytes=gb * 1_000_000_000, progress=progress)


def images_root(folder: Path) -> Path:
    """The folder that names of images start from: below what only wraps them."""
    while True:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        folder = entries[0]


def analyse(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """Runs of an instrument go into the workspace and are classified; images are predicted where they lie."""
    from plankter.readers.discover import find_runs

    finished = job.folder / FOUND
    if finished.is_file():  # killed after the upload had been cleared away
        kept: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
        return kept
    folder = _set(workspace, arguments, progress)
    sources, problems = find_runs([folder], scratch=job.folder / "scratch")
    shutil.rmtree(job.folder / "scratch", ignore_errors=True)
    if sources:
        found = _runs_of(workspace, folder, arguments, progress)
        write_text(finished, json.dumps(found, ensure_ascii=False))
        if not arguments.get("folder"):
            shutil.rmtree(folder, ignore_errors=True)  # the archive has it
        return found
    if not count_images(folder):
        why = "; ".join(flag.message for flag in problems[:2])
        raise ReadError(f"neither an instrument's run nor images were found in the upload: {why}")
    return _images_of(workspace, job, images_root(folder), arguments, progress)


def _runs_of(workspace: Workspace, folder: Path, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    from plankter.workflow.classify import classify
    from plankter.workflow.ingest import as_json, ingest

    found = as_json(*ingest(workspace, [folder], progress=progress))
    good = [run["run_id"] for run in found["runs"] if run["status"] != "refused"]
    if not good:
        raise ReadError("; ".join(str(run["reason"]) for run in found["runs"][:3]))
    if arguments.get("sample"):
        for run_id in good:
            workspace.catalogue.attach(run_id, arguments["sample"])
            workspace.archive.attach(run_id, arguments["sample"])
    classified = classify(workspace, good, model=arguments.get("model"), progress=progress)
    for run in found["runs"]:
        run["source"] = Path(run["source"]).name
    return {"what": "runs", "runs": found["runs"], "classified": classified}


def _images_of(
    workspace: Workspace, job: JobFolder, images: Path, arguments: Arguments, progress: Progress
) -> dict[str, Any]:  # fmt: skip
    from plankter.workflow.predict import predict
    from plankter.workflow.workspace import find_model, keep_model

    name = str(arguments.get("model") or workspace.settings["classify.model"])
    model = keep_model(workspace, find_model(name, workspace))
    out = job.folder / PREDICTIONS
    precision = str(workspace.settings["classify.precision"])
    mix = str(workspace.settings["classify.class_mix"])
    found = predict(
        images, out, model=model.model_id, workspace=workspace, precision=precision, class_mix=mix, progress=progress
    )
    root = _place(workspace, images)
    return {
        "what": "images",
        **found,
        "out": PREDICTIONS,
        "images": root,
        "model": model.name,
        "model_id": model.model_id,
    }


def _place(workspace: Workspace, folder: Path) -> str:
    """A folder as results name it: relative to the workspace, or the whole path of one outside."""
    return (folder.relative_to(workspace.folder) if folder.is_relative_to(workspace.folder) else folder).as_posix()


def try_out(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """As `analyse`, in a workspace inside the job's folder, with its report and tables: nothing of it is kept (see
    `try_runs`)."""
    from plankter.readers.discover import find_runs
    from plankter.workflow.export import export
    from plankter.workflow.report import write_report
    from plankter.workflow.workspace import find_model, init_workspace

    own = job.folder / "workspace"
    shutil.rmtree(own, ignore_errors=True)  # of an attempt that was killed
    shutil.rmtree(job.folder / "export", ignore_errors=True)
    folder = _set(workspace, arguments, progress)
    sources, problems = find_runs([folder], scratch=job.folder / "scratch")
    shutil.rmtree(job.folder / "scratch", ignore_errors=True)
    if not sources and not count_images(folder):
        why = "; ".join(flag.message for flag in problems[:2])
        raise ReadError(f"neither an instrument's run nor images were found: {why}")
    model = find_model(str(arguments.get("model") or workspace.settings["classify.model"]), workspace)
    asked = {**arguments, "model": str(model.folder)}
    with open_workspace(init_workspace(own)) as made:
        kept = {name: value for name, value in made.settings.items() if name.startswith("workspace.")}
        other = replace(made, settings={**workspace.settings, **kept})
        other.catalogue.put_taxa(workspace.catalogue.taxa())
        if not sources:
            return _images_of(other, job, images_root(folder), asked, progress)
        found = _runs_of(other, folder, asked, progress)
        if arguments.get("upload"):
            shutil.rmtree(folder, ignore_errors=True)
        progress("writing the report", 0, None)
        for run in found["runs"]:
            if run["status"] != "refused":
                write_report(other, run["run_id"])
        export(other, "csv", job.folder / "export")
    return found


def register(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """A model into the MLflow registry that the server's environment names."""
    from plankter.workflow.models import register_model

    progress("talking to MLflow", 0, None)
    return register_model(str(arguments["model"]), workspace)


def ingest_upload(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """Runs of an upload into the workspace, without predictions."""
    from plankter.workflow.ingest import as_json, ingest

    folder = _set(workspace, arguments, progress)
    found = as_json(*ingest(workspace, [folder], progress=progress))
    if all(run["status"] == "refused" for run in found["runs"]):
        raise ReadError("; ".join(str(run["reason"]) for run in found["runs"][:3]) or "no run was found")
    return found


def classify_runs(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """Predictions for runs of the workspace."""
    from plankter.workflow.classify import classify

    return classify(workspace, arguments.get("runs") or (), model=arguments.get("model"), progress=progress)


def inspect(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """What a set of labelled images holds: classes, counts, AphiaIDs, sample images, and all that is odd."""
    import numpy as np

    from plankter.workflow.train import SMALL_CLASS

    images = _labelled(workspace, arguments, progress)
    data = images.data
    counts = data.counts.tolist()
    bad = _unreadable(images, progress)
    read = np.bincount(np.delete(data.labels, sorted(bad)), minlength=len(counts)).tolist()
    samples: dict[str, list[str]] = {class_id: [] for class_id in data.class_ids}
    for row, (name, label) in enumerate(zip(data.names, data.labels.tolist(), strict=True)):
        mine = samples[data.class_ids[label]]
        if len(mine) < 6 and row not in bad:
            mine.append(name)
    classes = [
        {"class_id": class_id, "images": count, "aphia_id": images.aphia_ids.get(class_id), "small": count < SMALL_CLASS,
         "samples": samples[class_id], "unreadable": not readable}
        for class_id, count, readable in zip(data.class_ids, counts, read, strict=True)
    ]  # fmt: skip
    root = None
    if _has_files(arguments):
        root = _place(workspace, class_root(_set(workspace, arguments, progress)))
    return {
        "images": len(data), "classes": classes, "problems": images.problems.listed(), "source": images.source,
        "warnings": list(images.warnings), "root": root,
    }  # fmt: skip


def _unreadable(images: Any, progress: Progress) -> dict[int, str]:
    """Rows that cannot be decoded, and why; they are added to the problems. Of a large set every k-th is tried."""
    from plankter._errors import ImageError
    from plankter.vignettes.codec import decode_image

    n = len(images.data)
    rows = range(0, n, max(1, math.ceil(n / MOST_DECODED)))
    bad: dict[int, str] = {}
    for done, (row, data) in enumerate(images.read(rows, bad)):
        try:
            decode_image(data, grey=True)
        except ImageError as error:
            bad[row] = error.message
        if done % 200 == 0:
            progress("reading images", done, len(rows))
    for row, why in sorted(bad.items()):
        some = "" if len(rows) == n else f" (of {len(rows):,} that were tried)"
        images.problems.add("unreadable", images.data.names[row], f"cannot be used{some}: {why}")
    return bad


def _has_files(arguments: Arguments) -> bool:
    return bool(arguments.get("upload") or arguments.get("folder"))


def _labelled(workspace: Workspace, arguments: Arguments, progress: Progress) -> Any:
    from plankter.workflow.training_data import read_folder, read_labels

    if not _has_files(arguments):
        return read_labels(workspace, imported=bool(arguments.get("imported")), progress=progress)
    folder = class_root(_set(workspace, arguments, progress))
    return read_folder(folder, taxa=workspace.catalogue.taxa(), progress=progress)


def train_config(arguments: Arguments) -> Any:
    """A `TrainConfig` from the ``config`` of a job's arguments; ``start`` names a file of the server and is not taken.

    Raises:
        SettingsError: a setting that a training does not have, or a value that it does not know.
    """
    from plankter.workflow.training_config import TrainConfig

    asked = dict(arguments.get("config") or {})
    known = {field.name for field in fields(TrainConfig)} - {"start"}
    if unknown := sorted(set(asked) - known):
        raise SettingsError(f"a training has no setting {unknown[0]!r}", hint=f"it has {', '.join(sorted(known))}")
    return TrainConfig(**asked)


def train(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """A model from an upload or from the workspace's labels; ``estimate_only`` says how long it would take."""
    from plankter.workflow.train import train as run

    folder = class_root(_set(workspace, arguments, progress)) if _has_files(arguments) else None
    cache = workspace.folder / "cache" / "training"  # embeddings of an image are computed once for all trainings
    cache.mkdir(parents=True, exist_ok=True)
    table, context = _tables(workspace, job, arguments, folder is not None)
    found = run(
        train_config(arguments), folder=folder, workspace=workspace, table=table, context=context, out=job.folder / "training",
        cache=cache, estimate_only=bool(arguments.get("estimate_only")),
        progress=progress,
    )  # fmt: skip
    if "folder" in found:
        found["folder"] = Path(found["folder"]).relative_to(job.folder).as_posix()
        found["model"] = Path(found["model"]).relative_to(job.folder).as_posix()
    return found


def _tables(
    workspace: Workspace, job: JobFolder, arguments: Arguments, files: bool
) -> tuple[Path | None, Path | None]:  # fmt: skip
    """The tables of groups and of context that a training is given: cut out of the one that was uploaded, and kept, so that
    a training that begins again sees the same; for a workspace, columns of its samples."""
    from plankter.workflow.training_table import cut_table

    asked = arguments.get("table") or {}
    columns, group = list(asked.get("context") or []), asked.get("group")
    if not files:
        return None, Path(",".join(columns)) if columns else None
    found: list[Path | None] = []
    for name, taken in (("groups.csv", {group: "group"} if group else {}), ("context.csv", {c: c for c in columns})):
        out = job.folder / name
        if taken and not out.is_file():
            partial = out.with_name(f".{name}.partial")
            cut_table(workspace.folder / "jobs" / str(asked["job"]) / "table.csv", partial, taken)
            partial.replace(out)
        found.append(out if taken else None)
    return found[0], found[1]


def evaluate(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """How good a model is on an uploaded test set, as numbers and as a report."""
    from plankter.workflow.evaluate import evaluate as run

    images = class_root(_set(workspace, arguments, progress))
    found = run(
        images, model=str(arguments["model"]), workspace=workspace, against=arguments.get("against") or None,
        report=job.folder / "report.html", keep=job.folder, progress=progress,
    )  # fmt: skip
    root = _place(workspace, images)
    return {**found, "report": "report.html", "numbers": "report.json", "images_root": root}


def compare(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """Two evaluations on the same images beside each other, with the paired test."""
    from plankter.workflow.evaluation_images import compare_images, read_images, tables_beside

    tables = []
    for name in ("first", "second"):
        job_id, _, side = str(arguments[name]).partition(".")
        tables.append(read_images(tables_beside(workspace.folder / "jobs" / job_id)[side or "first"]))
    progress("compared", 0, 1)
    found = compare_images(tables[0], tables[1])
    progress("compared", 1, 1)
    return found


def drift(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """All runs beside the training set of a model; the page of the result is written too."""
    from plankter.workflow.drift import drift as run

    found = run(workspace, model=str(arguments["model"]), report=job.folder / "report.html", progress=progress)
    return {**found, "report": "report.html"}


def transform(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """A set made comparable, augmented or balanced; the new set as one zip."""
    from plankter.workflow.transform import transform as run

    out = job.folder / "set"
    shutil.rmtree(out, ignore_errors=True)
    like = arguments.get("like") or None
    if arguments.get("like_upload"):
        like = str(images_root(_set(workspace, {"upload": arguments["like_upload"]}, progress)))
    found = run(
        class_root(_set(workspace, arguments, progress)), out, like=like, copies=int(arguments.get("copies") or 0),
        balance=arguments.get("balance"), um_per_px=arguments.get("um_per_px"),
        like_um_per_px=arguments.get("like_um_per_px"), keep_jpeg=bool(arguments.get("keep_jpeg")),
        seed=int(arguments.get("seed") or 0), workspace=workspace, progress=progress,
    )  # fmt: skip
    return {**found, "out": "set", "manifest": "set/manifest.csv", "preview": "set/preview.png"}


def export(workspace: Workspace, job: JobFolder, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """The workspace's results by an exporter."""
    from plankter.workflow.export import export as run

    found = run(workspace, str(arguments["format"]), job.folder / "export")
    return {**found, "path": "export"}


KINDS = {
    "analyse": Kind("Analysis", analyse),
    "try": Kind("Analysis that is not kept", try_out),
    "register": Kind("Registration in MLflow", register),
    "ingest": Kind("Ingest", ingest_upload),
    "classify": Kind("Classification", classify_runs),
    "inspect": Kind("Look at a training set", inspect),
    "train": Kind("Training", train),
    "evaluate": Kind("Evaluation", evaluate),
    "compare": Kind("Comparison", compare),
    "drift": Kind("Drift", drift),
    "transform": Kind("Transformation", transform),
    "export": Kind("Export", export),
}
