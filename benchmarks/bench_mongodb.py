"""The catalogue in MongoDB beside the one in SQLite, and an image database of a million documents connected.

    mongod --replSet rs0 ... ; python benchmarks/bench_mongodb.py catalogue mongodb://127.0.0.1:27017 --particles 2000000
    python benchmarks/bench_mongodb.py connect mongodb://127.0.0.1:27017 --documents 1000000 --kills 10

The first asks both the same questions in turn and compares every answer; the second kills `plankter connect` at random
moments and counts documents and particles. Both drop the databases ``plankter_bench*`` that they make.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from plankter.store.base import Catalogue, ParticleFilter
from plankter.store.locate import open_catalogue
from plankter.testing.examples import example_rows, example_run, run_id_of
from plankter.types import Annotation, Predictions, Source, Verdict
from plankter.workflow.migrate import migrate
from plankter.workflow.workspace import init_workspace, open_workspace

CLASSES = tuple(f"class_{number:02d}" for number in range(95))
ENDINGS = (50, 95, 100)


def percentiles(seconds: list[float]) -> str:
    return ", ".join(f"p{p} {np.percentile(seconds, p) * 1e3:.1f} ms" for p in ENDINGS)


def server_cpu_s(address: str) -> float:
    """Processor time that the server has used; on a busy machine it says more than the clock."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](address) as client:
        used = client.admin.command("serverStatus")["extra_info"]
    return float(used["user_time_us"] + used["system_time_us"]) / 1e6


def timed(work: Callable[[], Any], into: list[float]) -> Any:
    started = time.perf_counter()
    result = work()
    into.append(time.perf_counter() - started)
    return result


# -- catalogue
def predictions_of(name: str, count: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(CLASSES) + 1)
    first = rng.choice(len(CLASSES), count, p=share / share.sum())
    best = np.stack([first, *((first + shift) % len(CLASSES) for shift in range(1, 5))], axis=1).astype(np.int16)
    scores = np.sort(rng.random((count, 5)).astype(np.float32), axis=1)[:, ::-1]
    return Predictions("m1", run_id_of(name), "f32", np.arange(count), CLASSES, best, np.ascontiguousarray(scores))


def fill(catalogue: Catalogue, runs: int, each: int) -> None:
    for number in range(runs):
        name = f"run {number}"
        catalogue.put_run(example_run(name, sample_id=f"station {number // 4}"), example_rows(each, seed=number))
        catalogue.put_predictions(predictions_of(name, each, number))


def facts_of(run: int, start: int, turn: int) -> list[Annotation]:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=turn)
    class_id = CLASSES[turn % len(CLASSES)]
    run_id = run_id_of(f"run {run}")
    return [Annotation(run_id, start + i, class_id, Verdict.CORRECTED, "eva", at, on_model_id="m1") for i in range(500)]


def bar(what: str, limit_ms: float, measured: dict[str, list[float]]) -> None:
    """One of the bars, both beside each other: 95th percentiles."""
    p95 = {name: float(np.percentile(seconds, 95)) * 1e3 for name, seconds in measured.items()}
    said = ", ".join(f"{name} {ms:.1f} ms {'held' if ms < limit_ms else 'MISSED'}" for name, ms in p95.items())
    print(f"BAR {what}, p95 under {limit_ms:g} ms: {said}", flush=True)


def ask(catalogues: dict[str, Catalogue], address: str, runs: int, turns: int) -> dict[str, list[float]]:
    """The same questions to both, in turn.

    Returns:
        Seconds of the pages by class and score, by catalogue.
    """
    rng = random.Random(1)
    server_s, own_s, pages = server_cpu_s(address), Counter[str](), 0
    questions: list[tuple[str, ParticleFilter]] = []
    for _ in range(turns):
        questions.append(("class by score, over all runs", ParticleFilter(predicted=rng.choice(CLASSES))))
        run_id = run_id_of(f"run {rng.randrange(runs)}")
        questions.append(("class by score, one run", ParticleFilter(run_id=run_id, predicted=rng.choice(CLASSES[:20]))))
        questions.append(("run by score", ParticleFilter(run_id=run_id)))
        questions.append(("sample by score", ParticleFilter(sample_id=f"station {rng.randrange(runs // 4)}")))
    times: dict[tuple[str, str], list[float]] = {}
    for kind, where in questions:
        after: Any = None
        for _ in range(3):  # three pages deep
            answers = {}
            pages += 1
            for name, c in catalogues.items():
                before = time.process_time()
                answers[name] = timed(
                    lambda c=c, w=where, a=after: c.page(w, sort="score", descending=True, after=a, limit=200),
                    times.setdefault((kind, name), []),
                )
                own_s[name] += time.process_time() - before
            first, *others = answers.values()
            assert all(other == first for other in others), (kind, where)
            after = first[1]
            if after is None:
                break
    for (kind, name), seconds in times.items():
        print(f"page of 200, {kind:<30}{name:<9}{percentiles(seconds)}", flush=True)
    server_ms = (server_cpu_s(address) - server_s) / pages * 1e3
    said = ", ".join(f"{name} {used / pages * 1e3:.1f} ms" for name, used in own_s.items())
    print(f"processor time a page: {said}; MongoDB's server {server_ms:.1f} ms (all its work meanwhile)", flush=True)
    of_class = {
        name: [s for (kind, of), all_s in times.items() if of == name and "class" in kind for s in all_s]
        for name in catalogues
    }
    return of_class


def status_is_validated(catalogue: Catalogue, run: int) -> int:
    return sum(label.source is Source.PERSON for label in catalogue.standing(run_id_of(f"run {run}")).values())


def label_and_count(
    name: str, catalogue: Catalogue, address: str, server: str, runs: int, each: int, turns: int
) -> tuple[list[float], list[float]]:
    """500 labels ``turns`` times with a reader of counts beside; seconds of both."""
    labelling: list[float] = []
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(turns):
        timed(catalogue.class_counts, alone)
    ended = threading.Event()

    def count() -> None:
        with_own = open_catalogue(address)
        while not ended.is_set():
            timed(with_own.class_counts, beside)
            time.sleep(0.01)
        with_own.close()

    reader = threading.Thread(target=count)
    reader.start()
    server_s, own_s = server_cpu_s(server), time.process_time()
    try:
        for turn in range(turns):
            facts = facts_of(turn % runs, 500 * (turn // runs) % (each - 499), turn)
            timed(lambda facts=facts: catalogue.annotate(facts), labelling)
    finally:
        ended.set()
        reader.join()
    own_ms, server_ms = (time.process_time() - own_s) / turns * 1e3, (server_cpu_s(server) - server_s) / turns * 1e3
    print(
        f"processor time a 500 labels    {name:<9}{own_ms:.0f} ms with a reader beside; MongoDB's server {server_ms:.0f} ms"
    )
    counted = sum(count.validated for count in catalogue.class_counts())
    standing = sum(status_is_validated(catalogue, number) for number in range(runs))
    exact = counted == standing == sum(record.validated for record in catalogue.runs())
    print(f"500 labels with history        {name:<9}{percentiles(labelling)}")
    print(f"class counts, all runs         {name:<9}{percentiles(alone)}; while labelling {percentiles(beside)}")
    print(f"counts exact after labelling   {name:<9}{exact}", flush=True)
    return labelling, beside


def catalogue_bench(args: argparse.Namespace) -> None:
    each = args.particles // args.runs
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        folder = init_workspace(Path(scratch) / "w")
        url = f"{args.address.rstrip('/')}/plankter_bench"
        drop(args.address, "plankter_bench")
        started = time.perf_counter()
        with open_workspace(folder) as workspace:
            fill(workspace.catalogue, args.runs, each)
        print(f"SQLite filled: {args.particles / (time.perf_counter() - started):.0f} particles/s", flush=True)
        found = migrate(folder, url, switch=False)
        print(
            f"to MongoDB, compared row by row: {found['seconds']:.0f} s, differences {found['differences']}", flush=True
        )
        sqlite_file = f"sqlite:{folder / 'catalogue.sqlite'}"
        catalogues = {"SQLite": open_catalogue(sqlite_file), "MongoDB": open_catalogue(url)}
        pages = ask(catalogues, args.address, args.runs, args.turns)
        labelling, counts = {}, {}
        for name, address in (("SQLite", sqlite_file), ("MongoDB", url)):
            labelling[name], counts[name] = label_and_count(
                name, catalogues[name], address, args.address, args.runs, each, args.turns
            )
        bar("page of 200 by class and score", 20, pages)
        bar("class counts beside a labeller", 20, counts)
        bar("500 labels with history", 200, labelling)
        assert list(catalogues["SQLite"].annotations()) == list(catalogues["MongoDB"].annotations())
        assert catalogues["SQLite"].class_counts() == catalogues["MongoDB"].class_counts()
        started = time.perf_counter()
        for number in range(3):
            name = f"new {number}"
            catalogues["MongoDB"].put_run(example_run(name), example_rows(each))
            catalogues["MongoDB"].put_predictions(predictions_of(name, each, number))
        rate = 3 * each / (time.perf_counter() - started)
        print(f"MongoDB, new runs with predictions: {rate:.0f} particles/s", flush=True)
        for number in range(3):
            catalogues["MongoDB"].remove_run(run_id_of(f"new {number}"))
        for catalogue in catalogues.values():
            catalogue.close()
        migrate(folder, url)
        back = migrate(folder, "sqlite:back.sqlite")
        print(f"back to SQLite, compared row by row: {back['seconds']:.0f} s, differences {back['differences']}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"BAR migration without a difference: there {found['differences']}, back {back['differences']}; peak {peak:.0f} MB"
        )
        drop(args.address, "plankter_bench")


def drop(address: str, name: str) -> None:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](address) as client:
        client.drop_database(name)


# -- connect
def image(number: int) -> bytes:
    from plankter.vignettes.codec import encode_vignette

    rng = np.random.default_rng(number)
    pixels = np.full((48, 56), 215, np.uint8)
    pixels[14:32, 18:40] = rng.integers(20, 120, (18, 22))
    return encode_vignette(pixels)


def document(number: int, files: list[Any]) -> dict[str, Any]:
    """Three shapes of documents; one in a hundred is broken in one of four ways; 20,000 have an image."""
    station = number % 40
    found: dict[str, Any] = {
        "_id": number,
        "sample": {"cruise": f"2024-{station // 10}", "station": f"st{station}", "lat": 51 + station / 100, "lon": 2.5},
        "esd": 20 + number % 50, "updated_at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    }  # fmt: skip
    shape = number % 3
    if shape == 0:
        found["label"] = {"taxon": CLASSES[number % 95], "by": "eva", "at": datetime(2024, 2, 1, tzinfo=UTC)}
    elif shape == 1:
        found["label"] = {"taxon": CLASSES[number % 95], "at": "2024-02-01T10:00:00Z"}
        found["area"] = str(number % 700)
    if number % 50 == 0:
        found["image_id"] = files[(number // 50) % len(files)]
    if number % 100 == 99:
        broken: list[dict[str, Any]] = [
            {"image_id": "dead"}, {"label": {"taxon": {"an": "object"}}}, {"esd": "large"}, {"image_id": {"a": 1}},
        ]  # fmt: skip
        found |= broken[number // 100 % 4]
    return found


MAPPING = """
[source]
address = "{address}"
collection = "rois"
name = "bench"
[run]
by = ["sample.station"]
um_per_px = 0.5
[image]
kind = "gridfs"
field = "image_id"
[label]
class = "label.taxon"
annotator = "label.by"
at = "label.at"
[sample]
sample_id = "sample.station"
latitude_deg = "sample.lat"
longitude_deg = "sample.lon"
[measures]
source_esd = "esd"
"""


def make_source(address: str, documents: int, images: int) -> None:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](address) as client:
        database = client.plankter_bench_source
        if database.rois.estimated_document_count() == documents:
            return
        client.drop_database("plankter_bench_source")
        ids = list(range(images))
        now, size = datetime(2024, 1, 1, tzinfo=UTC), 255 * 1024
        for start in range(0, images, 1000):  # as GridFS writes them, a thousand at a time
            part = {key: image(key) for key in ids[start : start + 1000]}
            facts = {"chunkSize": size, "uploadDate": now}
            database.fs.files.insert_many([{"_id": key, "length": len(data), **facts} for key, data in part.items()])
            database.fs.chunks.insert_many([{"files_id": key, "n": 0, "data": data} for key, data in part.items()])
        database.fs.chunks.create_index([("files_id", 1), ("n", 1)], unique=True)
        for start in range(0, documents, 10_000):
            rows = [document(number, ids) for number in range(start, min(documents, start + 10_000))]
            database.rois.insert_many(rows, ordered=False)


def connect_bench(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    make_source(args.address, args.documents, args.images)
    print(f"source made: {time.perf_counter() - started:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        catalogue = args.catalogue or "sqlite:catalogue.sqlite"
        folder = init_workspace(Path(scratch) / "w", catalogue=catalogue)
        mapping = Path(scratch) / "bench.toml"
        mapping.write_text(MAPPING.format(address=f"{args.address.rstrip('/')}/plankter_bench_source"))
        command = [sys.executable, "-m", "plankter.cli", "connect", str(mapping), "-w", str(folder), "--json"]
        rng, kills, active = random.Random(5), 0, 0.0
        while kills < args.kills:
            began = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                try:
                    process.wait(rng.uniform(args.shortest, args.longest))
                    active += time.perf_counter() - began
                    print(f"done after {kills} kills, status {process.returncode}", flush=True)
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                    active += time.perf_counter() - began
        runs: list[tuple[float, dict[str, Any]]] = []
        for extra in ([], [], ["--dry-run"]):
            began = time.perf_counter()
            done = subprocess.run([*command, *extra], stdout=subprocess.PIPE, check=True)
            runs.append((time.perf_counter() - began, json.loads(done.stdout)))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        (last_s, last), (again_s, again), (dry_s, dry) = runs
        print(
            f"{kills} kills, {active + last_s:.0f} s at work in all; last: {last['total']}, peak memory {peak:.0f} MB"
        )
        print(
            f"second run over unchanged data: {again_s:.0f} s, {again['documents']} documents, {again['images_read']} images read, {again['new']} new"
        )
        print(f"dry run: {dry_s:.0f} s, problems { ({k: v['count'] for k, v in dry['problems'].items()}) }")
        with open_workspace(folder) as workspace:
            seen: Counter[str] = Counter()
            for record in workspace.catalogue.runs():
                seen.update(workspace.archive.open(record.run.run_id).particles().label)
            facts = [fact for _, fact in workspace.catalogue.annotations()]
            vignettes = sum(record.vignettes for record in workspace.catalogue.runs())
            print(f"documents in runs: {len(seen)} of {args.documents}, doubled: {sum(n > 1 for n in seen.values())}")
            print(f"labels: {len(facts)}, doubled: {len(facts) - len(set(facts))}; vignettes: {vignettes}")
            print(f"check: {workspace.catalogue.check() or 'sound'}")
            good = len(seen) == args.documents and max(seen.values()) == 1 and len(facts) == len(set(facts))
            print(f"BAR nothing doubled or lost after {kills} kills: {'held' if good else 'MISSED'}")
            print(f"BAR a second run reads no image: {'held' if again['images_read'] == 0 else 'MISSED'}")
            print(f"BAR bounded memory: {peak:.0f} MB at most")
    if not args.keep:
        drop(args.address, "plankter_bench_source")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("catalogue", "connect"))
    parser.add_argument("address")
    parser.add_argument("--particles", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--shortest", type=float, default=5)
    parser.add_argument("--longest", type=float, default=60)
    parser.add_argument("--catalogue", help="address of the catalogue that is filled; SQLite by default")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the source for another run")
    args = parser.parse_args()
    {"catalogue": catalogue_bench, "connect": connect_bench}[args.what](args)


if __name__ == "__main__":
    main()
