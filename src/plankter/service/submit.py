"""What is asked of a job, checked before it is put into the queue."""

from __future__ import annotations

from typing import Any

from plankter._errors import SettingsError
from plankter.service.evaluations import find_evaluation
from plankter.service.fetching import SECRETS, place_of
from plankter.service.job_kinds import KINDS, train_config
from plankter.service.jobs import Job
from plankter.service.state import Service
from plankter.workflow.classify import select_runs
from plankter.workflow.mlflow_registry import tracking_uri

NEEDS_FILES = ("analyse", "try", "ingest", "evaluate", "transform")
ARGUMENTS = {
    "try": {"upload", "folder", "remote", "model", "sample"}, "register": {"model"},
    "analyse": {"upload", "folder", "remote", "model", "sample"}, "ingest": {"upload", "folder", "remote"}, "classify": {"runs", "model"},
    "inspect": {"upload", "folder", "remote", "imported"},
    "train": {"upload", "folder", "imported", "config", "table", "estimate_only"},
    "evaluate": {"upload", "folder", "remote", "model", "against", "keep"}, "compare": {"first", "second"}, "drift": {"model"},
    "transform": {"upload", "folder", "remote", "like", "like_upload", "copies", "balance", "um_per_px", "like_um_per_px", "keep_jpeg", "seed"},
    "export": {"format"},
}  # fmt: skip


def submit(service: Service, kind: str, title: str, arguments: dict[str, Any]) -> Job:
    """A job in the queue.

    Raises:
        NotFound: an upload, a model or a run that is not there. Conflict: an upload that is not wholly here.
        SettingsError: arguments that the kind does not have, or that do not go together.
    """
    given = {name: value for name, value in arguments.items() if value not in (None, "")}
    if unknown := sorted(set(given) - ARGUMENTS[kind]):
        raise SettingsError(
            f"a job {kind!r} has no argument {unknown[0]!r}", hint=f"it has {', '.join(sorted(ARGUMENTS[kind]))}"
        )
    secret = _source(service, kind, given)
    for name in ("upload", "like_upload"):
        if name in given and not (name == "upload" and "remote" in given):
            service.uploads.complete(_text(given, name))
    for name in ("model", "against", "like"):
        if name in given:
            given[name] = service.model_key(_text(given, name))
    if kind in ("evaluate", "register") and "model" not in given:
        raise SettingsError("name the model")
    if kind == "register" and tracking_uri() is None:
        raise SettingsError("no MLflow server is named", hint="set MLFLOW_TRACKING_URI where the server runs")
    if kind == "drift":
        given.setdefault("model", service.model_key(str(service.workspace.settings["classify.model"])))
    if kind == "compare":
        for name in ("first", "second"):
            if not find_evaluation(service, _text(given, name) if name in given else "").job.kept:
                hint = "evaluate again and keep it, or evaluate both models at once"
                raise SettingsError("an evaluation that is not kept cannot be compared", hint=hint)
        if given["first"] == given["second"]:
            raise SettingsError("choose two different evaluations")
    _check_values(service, kind, given)
    if "remote" in given:
        given["upload"] = service.uploads.create("try" if kind == "try" or given.get("keep") is False else "remote").id
    return service.runner.submit(kind, title.strip() or KINDS[kind].words, given, secret)


def _source(service: Service, kind: str, given: dict[str, Any]) -> dict[str, str] | None:
    """Checks where the files come from: one of upload, folder and remote. The account of a remote address is taken out of
    what is kept, and given back."""
    named = [name for name in ("upload", "folder", "remote") if name in given]
    if len(named) > 1:
        raise SettingsError(f"a job reads one set of files, {' and '.join(named)} were named")
    if kind in NEEDS_FILES and not named:
        raise SettingsError(f"a job {kind!r} needs an upload")
    if "folder" in given:
        given["folder"] = str(service.sources.folder(_text(given, "folder")))
    if "remote" not in given:
        return None
    remote = given["remote"]
    if not isinstance(remote, dict) or set(remote) - {"address", "endpoint", "region", *SECRETS}:
        raise SettingsError(f"remote: expected an object with address, endpoint, region, {', '.join(SECRETS)}")
    secret = {name: str(remote[name]) for name in SECRETS if remote.get(name)}
    given["remote"] = place_of({**remote, "account": bool(secret)}, service.sources.hosts()).facts()
    return secret or None


def _check_table(service: Service, table: object) -> None:
    if table is None:
        return
    known = isinstance(table, dict) and not set(table) - {"job", "context", "group"}
    columns = table.get("context") or [] if isinstance(table, dict) else None
    if not known or not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise SettingsError("table: expected an object with job, context (a list of columns) and group (a column)")
    assert isinstance(table, dict)
    if table.get("job") is not None:
        service.jobs.folder(_text(table, "job"))
    if table.get("group") is not None:
        _text(table, "group")


def _text(given: dict[str, Any], name: str) -> str:
    if not isinstance(given[name], str):
        raise SettingsError(f"{name}: expected text, got {given[name]!r}")
    return str(given[name])


def _check_values(service: Service, kind: str, given: dict[str, Any]) -> None:
    if kind == "classify":
        runs = given.get("runs", [])
        if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
            raise SettingsError("runs: expected a list of run ids")
        select_runs(service.workspace, runs)
    if kind == "train":
        config = given.get("config", {})
        if not isinstance(config, dict):
            raise SettingsError("config: expected an object")
        config = given["config"] = {**config, "model": service.model_key(str(config.get("model", "flowcam")))}
        _check_table(service, given.get("table"))
        try:
            train_config(given)
        except TypeError as error:
            raise SettingsError(f"config: {error}") from error
    if kind == "export":
        from plankter._plugins import load

        load("plankter.exporters", _text(given, "format") if "format" in given else "")
    if kind == "transform":
        for name, low in (("copies", 0), ("balance", 1), ("seed", 0)):
            value = given.get(name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 100_000
            ):
                raise SettingsError(f"{name}: expected a whole number from {low}, got {value!r}")
        if not any(given.get(name) for name in ("like", "like_upload", "copies", "balance")):
            raise SettingsError(
                "nothing to do", hint="give a reference, a number of copies, or a number of images a class"
            )
    if not isinstance(given.get("keep", True), bool):
        raise SettingsError(f"keep: expected true or false, got {given['keep']!r}")
    if "sample" in given and not 0 < len(_text(given, "sample").strip()) <= 200:
        raise SettingsError("sample: expected a name of 1 to 200 signs")
