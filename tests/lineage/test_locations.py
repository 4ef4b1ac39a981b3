"""Tests of data in files: what dbt-duckdb reads and writes outside its database."""

from __future__ import annotations

from pathlib import Path

import pytest
from openlineage.client.naming import dataset as naming
from pipeline.floe.lineage.locations import name_relation

from tests.lineage.builds import Build, build, write_project

FOLDER = Path("/srv/shop/dbt")
FULL = "'abfss://box@acct.dfs.core.windows.net/in/o.parquet'"
# A relation as dbt puts it into SQL, and the class of the specification that names the same data.
STANDARD: list[tuple[str, naming.DatasetNaming]] = [
    ("'../data/x.csv'", naming.LocalFileSystem("/srv/shop/data/x.csv")),
    ("'/data/./x.csv'", naming.LocalFileSystem("/data/x.csv")),
    ("'file:///data/x%20y.csv'", naming.LocalFileSystem("/data/x y.csv")),
    ("'it''s.csv'", naming.LocalFileSystem("/srv/shop/dbt/it's.csv")),
    ("'data/*.csv'", naming.LocalFileSystem("/srv/shop/dbt/data/*.csv")),
    ("read_csv('x.csv', header=true, columns={'a': 'INT'})", naming.LocalFileSystem("/srv/shop/dbt/x.csv")),
    ("READ_JSON_AUTO ( 'x' )", naming.LocalFileSystem("/srv/shop/dbt/x")),
    ("read_parquet('s3://lake/in/*/o.parquet', hive_partitioning := true)", naming.S3("lake", "in/*/o.parquet")),
    ("'s3a://lake/in/o.parquet?s3_secret_access_key=hunter2'", naming.S3("lake", "in/o.parquet")),
    ("'gcs://lake/in/o.parquet'", naming.GCS("lake", "in/o.parquet")),
    ("'s3://lake/in/o.parquet?s3_region=eu'", naming.S3("lake", "in/o.parquet")),
    (FULL, naming.ABFSS("box", "acct", "in/o.parquet")),
    ("'abfss://acct.dfs.core.windows.net/box/in/o.parquet'", naming.ABFSS("box", "acct", "in/o.parquet")),
    ("'wasbs://box@acct.dfs.core.windows.net/in/o.parquet'", naming.WASBS("box", "acct", "in/o.parquet")),
]


@pytest.mark.parametrize(("text", "expected"), STANDARD, ids=lambda value: str(value)[:50])
def test_standard(text: str, expected: naming.DatasetNaming) -> None:
    """Where the specification names files and objects, so do we; a key in the address is not part of the name."""
    assert (expected.get_namespace(), expected.get_name()) == name_relation(text, FOLDER)


def test_http() -> None:
    """An address of the web is named by the specification's general rule: scheme and authority, then path."""
    assert ("https://example.com:8443", "/a/o.csv") == name_relation(
        "'https://u:hunter2@example.com:8443/a/o.csv'", FOLDER
    )


@pytest.mark.parametrize(
    "text",
    [
        "'orders'",  # a table as well as a file
        "read_csv(['a.csv', 'b.csv'])",
        "read_csv('a' || '.csv')",
        "read_csv('a.csv') union all select * from read_csv('b.csv')",
        "(select * from 'a.csv')",
        "read_csv('a.csv', 'b.csv')",
        "postgres_scan('password=hunter2', 'public', 'orders')",
        "my_macro('a.csv')",
        "'https://example.com/o.csv?sig=hunter2'",
        "'az://box/o.parquet'",  # of which account?
        "'abfss://box/o.parquet'",
        "'r2://bucket/o.parquet'",
        "'s3://bucket'",
        "'s3://bucket/o?.csv'",
        "'unclosed",
    ],
)
def test_no_certain_name(text: str) -> None:
    """What cannot be named with certainty has no name."""
    assert name_relation(text, FOLDER) is None


def test_real_path(tmp_path: Path) -> None:
    """A relative path starts where dbt really is, not at the symbolic link that leads there."""
    (tmp_path / "real" / "dbt").mkdir(parents=True)
    (tmp_path / "dbt").symlink_to(tmp_path / "real" / "dbt")

    assert ("file", str(tmp_path / "real" / "x.csv")) == name_relation("'../x.csv'", tmp_path / "dbt")


FILES = {
    "data/plain.csv": "id,name\n1,a\n2,b\n",
    "data/in_table.csv": "id,name\n1,a\n",
    "data/y_1.csv": "id,name\n1,a\n",
    "models/sources.yml": """
sources:
  - name: meta
    schema: main
    meta: {external_location: "data/{name}.csv"}
    tables:
      - name: plain
        columns: [{name: id, data_type: BIGINT}, {name: name, data_type: VARCHAR, data_tests: [not_null]}]
      - name: in_table
        columns: &columns [{name: id}, {name: name}]
        meta: {external_location: "read_csv('data/in_table.csv', header = true)"}
      - name: orders  # called like a model
        columns: *columns
        meta: {external_location: "data/y_*.csv"}
      - name: listed
        columns: *columns
        meta: {external_location: "read_csv(['data/plain.csv', 'data/y_1.csv'])"}
  - name: config
    schema: main
    config: {external_location: "data/%(name)s.csv", formatter: oldstyle}
    tables: [{name: in_table, columns: *columns}]
  - name: template
    schema: main
    config: {external_location: "data/${name}.csv", formatter: template}
    tables: [{name: plain, columns: *columns}]
""",
    "models/orders.sql": """{{ config(schema='main') }}
        select id, upper(name) as name from {{ source('meta', 'plain') }}""",
    "models/many.sql": """select a.id, b.name as other, c.id as third, d.name as fourth
        from {{ source('meta', 'in_table') }} as a join {{ source('config', 'in_table') }} as b on a.id = b.id
        join {{ source('meta', 'orders') }} as c on a.id = c.id
        join {{ source('template', 'plain') }} as d on a.id = d.id""",
    "models/from_list.sql": """select l.id, o.name, l.name || o.name as both
        from {{ source('meta', 'listed') }} as l join {{ ref('orders') }} as o on l.id = o.id""",
    "models/written.sql": """{{ config(materialized='external', location='data/out/written.csv') }}
        select id, name from {{ ref('orders') }}""",
    "models/unsaid.sql": "{{ config(materialized='external') }} select id from {{ ref('written') }}",
    "models/rendered.sql": """{{ config(materialized='external', location="data/{{ this.name }}.parquet") }}
        select id from {{ ref('unsaid') }}""",
    "macros/schema.sql": "{% macro generate_schema_name(custom, node) %}{{ custom or target.schema }}{% endmacro %}",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a build of a project with sources and models in files."""
    folder = write_project(tmp_path_factory.mktemp("files"), FILES)
    (folder / "data" / "out").mkdir()
    made = build(folder, "build", runs_in=folder)
    assert [] == made.errors
    return made


def names(run: Build, unique_id: str) -> set[tuple[str, str]]:
    """Return what a node has read, by namespace and name, paths relative to the project."""
    return {
        (dataset["namespace"], dataset["name"].removeprefix(f"{run.folder}/"))
        for dataset in run.end(unique_id)["inputs"]
    }


def test_sources(run: Build) -> None:
    """A source is the file that dbt-duckdb reads for it, by any formatter, in `meta` or `config`; each file once."""
    assert {("file", "data/plain.csv")} == names(run, "model.shop.orders")
    assert {
        ("file", "data/in_table.csv"),
        ("file", "data/y_*.csv"),
        ("file", "data/plain.csv"),
    } == names(run, "model.shop.many")


def test_test_of_source(run: Build) -> None:
    """A test of a source reads the file as well."""
    (test,) = {event["job"]["name"] for event in run.events if event["job"]["name"].startswith("test.")}

    assert {("file", "data/plain.csv")} == names(run, test)


def test_called_like_a_model(run: Build) -> None:
    """A source in a file is not the model that has its name and schema."""
    assert ("duckdb:///data/warehouse.duckdb", "warehouse.main.orders") in names(run, "model.shop.written")
    assert ("duckdb:///data/warehouse.duckdb", "warehouse.main.orders") not in names(run, "model.shop.many")


def test_unnamed(run: Build) -> None:
    """A list of files is left out, and with it each column that is made of it; both are counted."""
    assert {("duckdb:///data/warehouse.duckdb", "warehouse.main.orders")} == names(run, "model.shop.from_list")
    assert "the location of source.shop.meta.listed has no certain name in OpenLineage" in "; ".join(
        run.left_out("model.shop.from_list")
    )


def origins(run: Build, unique_id: str) -> dict[str, set[tuple[str, str]]]:
    """Return what a node's columns are made of, paths relative to the project."""
    return {
        column: {(table.removeprefix(f"{run.folder}/"), field) for table, field in made_of}
        for column, made_of in run.origins(unique_id).items()
    }


def test_columns(run: Build) -> None:
    """Columns are followed into files, whatever the relation looks like, and through models that are files."""
    assert {"id": {("data/plain.csv", "id")}, "name": {("data/plain.csv", "name")}} == origins(run, "model.shop.orders")
    assert {("data/out/written.csv", "id")} == origins(run, "model.shop.unsaid")["id"]
    assert {
        "id": {("data/in_table.csv", "id")},
        "other": {("data/in_table.csv", "name")},
        "third": {("data/y_*.csv", "id")},
        "fourth": {("data/plain.csv", "name")},
    } == origins(run, "model.shop.many")
    assert [] == run.left_out("model.shop.orders")


def test_columns_of_unnamed(run: Build) -> None:
    """A column that is made, if only in part, of a file without a name is left out and counted."""
    assert {"name": {("warehouse.main.orders", "name")}} == origins(run, "model.shop.from_list")
    assert {
        "column lineage: the origin of id is not certain",
        "column lineage: the origin of both is not certain",
    } <= set(run.left_out("model.shop.from_list"))


def test_external_model(run: Build) -> None:
    """A model in a file is named after the file, and known by its view in DuckDB as well."""
    (written,) = run.end("model.shop.written")["outputs"]
    symlinks = written["facets"]["symlinks"]["identifiers"]

    assert ("file", str(run.folder / "data/out/written.csv")) == (written["namespace"], written["name"])
    assert [("duckdb:///data/warehouse.duckdb", "warehouse.dev.written")] == [
        (dataset["namespace"], dataset["name"]) for dataset in symlinks
    ]
    assert "FILE" == written["facets"]["datasetType"]["datasetType"]
    assert {("file", "data/out/written.csv")} == names(run, "model.shop.unsaid")
    assert Path(written["name"]).is_file()


def test_default_location(run: Build) -> None:
    """Without a location a model is in dbt-duckdb's default file; where only dbt knows the location, it is its view."""
    assert {("file", "unsaid.parquet")} == names(run, "model.shop.rendered")
    assert (run.folder / "unsaid.parquet").is_file()
    (rendered,) = run.end("model.shop.rendered")["outputs"]
    assert "warehouse.dev.rendered" == rendered["name"]


def test_data_source(run: Build) -> None:
    """A file's facets speak of the file's namespace."""
    (source,) = run.end("model.shop.orders")["inputs"]

    assert ("file", "file:///") == (source["facets"]["dataSource"]["name"], source["facets"]["dataSource"]["uri"])
    assert ["id", "name"] == [field["name"] for field in source["facets"]["schema"]["fields"]]
