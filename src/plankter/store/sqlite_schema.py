"""Tables of the embedded catalogue as SQLAlchemy Core sees them; `migrations` makes them."""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, MetaData, Table, Text

SCHEMA_VERSION_KEY = "schema_version"
INGESTING, DONE, OLD = "ingesting", "done", "old"

METADATA = MetaData()

meta = Table("meta", METADATA, Column("key", Text, primary_key=True), Column("value", Text))
migration = Table("migration", METADATA, Column("name", Text, primary_key=True), Column("applied_at", Text))
sample = Table("sample", METADATA, Column("sample_id", Text, primary_key=True), Column("facts", Text))
taxon = Table(
    "taxon", METADATA, Column("class_id", Text, primary_key=True), Column("position", Integer), Column("facts", Text)
)
model = Table(
    "model", METADATA, Column("model_id", Text, primary_key=True), Column("name", Text), Column("facts", Text)
)
# several rows a run_id while one is replaced; queries see the one whose state is DONE
run = Table(
    "run", METADATA,
    Column("run_key", Integer, primary_key=True), Column("run_id", Text), Column("state", Text),
    Column("sample_id", Text), Column("name", Text), Column("facts", Text), Column("particles", Integer),
    Column("vignettes", Integer), Column("masks", Integer), Column("failures", Integer), Column("predicted", Integer),
    Column("validated", Integer), Column("model_id", Text), Column("ingested_at", Text),
)  # fmt: skip
# predicted, score: of the newest predictions; label, status: of the standing label (a cache of the facts)
particle = Table(
    "particle", METADATA,
    Column("run_key", Integer, primary_key=True), Column("idx", Integer, primary_key=True), Column("run_id", Text),
    Column("width_px", Integer), Column("height_px", Integer), Column("esd_um", Float), Column("area_um2", Float),
    Column("has_vignette", Integer), Column("has_mask", Integer), Column("failure", Text),
    Column("predicted", Text), Column("score", Float), Column("label", Text), Column("status", Text),
)  # fmt: skip
annotation = Table(
    "annotation", METADATA,
    Column("seq", Integer, primary_key=True), Column("run_id", Text), Column("idx", Integer), Column("class_id", Text),
    Column("verdict", Text), Column("annotator", Text), Column("at", Text), Column("source", Text),
    Column("on_model_id", Text), Column("on_class_id", Text),
)  # fmt: skip
standing = Table(
    "standing", METADATA,
    Column("run_id", Text, primary_key=True), Column("idx", Integer, primary_key=True), Column("class_id", Text),
    Column("verdict", Text), Column("annotator", Text), Column("at", Text), Column("source", Text),
)  # fmt: skip
class_count = Table(
    "class_count", METADATA,
    Column("run_id", Text, primary_key=True), Column("class_id", Text, primary_key=True),
    Column("predicted", Integer), Column("validated", Integer),
)  # fmt: skip
