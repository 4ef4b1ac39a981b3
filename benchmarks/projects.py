"""The measured projects: one generated dbt project, and the Dagster projects that run it.

The dbt project has tables in ten layers of equal size. Each table of the first layer generates 100 rows. Each later
table reads one table of the previous layer and one of any earlier layer: two CTEs, a join, and ten columns of which
eight are computed. Every column is documented, and every fifth table has two tests on its key.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import yaml

from tools.rendering import render, snapshot

LAYERS = 10
ROWS = 100
TESTED = 5  # every so many tables
NAME = "bench"

COLUMNS = {
    "id": "Key of the row.",
    "customer_id": "Who bought.",
    "product_id": "What was bought.",
    "ordered_on": "Day of the order.",
    "quantity": "How many were bought.",
    "price": "Price of one.",
    "amount": "Price of all.",
    "discount": "Share taken off, 0 to 1.",
    "status": "open, paid or returned.",
    "note": "Free text.",
}

FIRST = """select
    cast(i as integer) as id,
    cast(i % 17 as integer) as customer_id,
    cast(i % 29 as integer) as product_id,
    date '2026-01-01' + cast(i % 300 as integer) as ordered_on,
    cast(1 + i % 5 as integer) as quantity,
    cast(1.5 * (i % 11) as decimal(12, 2)) as price,
    cast(1.5 * (i % 11) * (1 + i % 5) as decimal(12, 2)) as amount,
    0.01 * (i % 10) as discount,
    case i % 3 when 0 then 'open' when 1 then 'paid' else 'returned' end as status,
    'row ' || i as note
from range({rows}) as made(i)
"""

LATER = """with orders as (

    select * from {{{{ ref('{first}') }}}}

),

changes as (

    select id, customer_id, quantity, price, discount, status, note
    from {{{{ ref('{second}') }}}}
    where status in ('open', 'paid', 'returned')

)

select
    orders.id,
    coalesce(changes.customer_id, orders.customer_id) as customer_id,
    orders.product_id,
    orders.ordered_on,
    greatest(orders.quantity, changes.quantity) as quantity,
    cast(round((orders.price + changes.price) / 2, 2) as decimal(12, 2)) as price,
    cast(orders.price * orders.quantity as decimal(12, 2)) as amount,
    least(orders.discount, changes.discount) as discount,
    case when changes.status = 'returned' then changes.status else orders.status end as status,
    coalesce(changes.note, orders.note) as note
from orders
left join changes on orders.id = changes.id
"""


MISTAKES = {
    "models/mistakes/broken.sql": "select no_such_column from {{ ref('t0_0000') }}\n",
    "models/mistakes/after_broken.sql": "select * from {{ ref('broken') }}\n",
    "models/mistakes/between.sql": "{{ config(materialized='ephemeral') }}\nselect * from {{ ref('after_broken') }}\n",
    "models/mistakes/after_between.sql": "select * from {{ ref('between') }}\n",
    "tests/fails.sql": f"select id from {{{{ ref('t{LAYERS - 1}_0000') }}}}\n",
}
"""A table that fails, two that are skipped for it, one of them through an ephemeral model, a test that fails."""
OTHERS = {
    "seeds/regions.csv": "id,region\n1,north\n2,south\n",
    "snapshots/history.yml": """snapshots:
  - name: history
    relation: ref('t0_0000')
    config: {strategy: check, unique_key: id, check_cols: all}
""",
    "models/others/short.sql": "{{ config(materialized='ephemeral') }}\nselect id, status from {{ ref('t1_0000') }}\n",
    "models/others/by_region.sql": """{{ config(materialized='view') }}
select regions.region, count(*) as orders, max(short.status) as status
from {{ ref('short') }} as short inner join {{ ref('regions') }} as regions on short.id % 2 + 1 = regions.id
group by regions.region
""",
    "models/others/known.sql": "select table_name, table_schema from {{ source('catalog', 'known_tables') }}\n",
    "models/others/others.yml": """sources:
  - name: catalog
    database: system
    schema: information_schema
    tables: [{name: known_tables, identifier: tables}]
""",
}
"""A seed, a snapshot, a source, an ephemeral model and a view."""


def dbt_project(folder: Path, tables: int, others: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write the dbt project with so many tables, and `others`; the same for the same number."""
    chance = random.Random(tables)
    width = tables // LAYERS
    layers = [[f"t{layer}_{i:04}" for i in range(width)] for layer in range(LAYERS)]
    for depth, layer in enumerate(layers):
        models = folder / "models" / f"layer_{depth}"
        models.mkdir(parents=True)
        before = [name for each in layers[:depth] for name in each]
        for name in layer:
            sql = FIRST.format(rows=ROWS)
            if depth:
                first = chance.choice(layers[depth - 1])
                second = chance.choice([each for each in before if each != first] or before)
                sql = LATER.format(first=first, second=second)
            (models / f"{name}.sql").write_text(sql)
        told = {"models": [_documented(name, tested=not i % TESTED) for i, name in enumerate(layer)]}
        (models / "models.yml").write_text(yaml.safe_dump(told, sort_keys=False))
    config = {
        "name": NAME,
        "version": "1.0",
        "profile": NAME,  # as the rendered profiles.yml has it
        "models": {NAME: {"+materialized": "table"}},
        "flags": {"send_anonymous_usage_stats": False},
    }
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    _write(folder, others)
    return folder


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _documented(name: str, *, tested: bool) -> dict[str, object]:
    columns: list[dict[str, object]] = [{"name": key, "description": text} for key, text in COLUMNS.items()]
    if tested:
        columns[0]["data_tests"] = ["unique", "not_null"]
    return {"name": name, "description": f"Orders as {name} has them.", "columns": columns}


def observed_project(folder: Path, tables: int, others: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Render the template round the dbt project."""
    dbt_project(folder / "transform", tables, others)
    template = snapshot(folder.with_name(f"{folder.name}-template"))
    answers = {"project_name": NAME, "start_from": "existing"}
    return render(template, folder, **answers)


STOCK = {
    "pyproject.toml": """[project]
name = "bench"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "bench"
""",
    "src/bench/__init__.py": "",
    "src/bench/definitions.py": """from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
    "src/bench/project.py": """from pathlib import Path

from dagster_dbt import DbtProject

root = Path(__file__).parents[2]
dbt_project = DbtProject(project_dir=root / "transform", profiles_dir=root / "profiles", target="local")
dbt_project.prepare_if_dev()
""",
    "src/bench/defs/__init__.py": "",
    "src/bench/defs/dbt.py": """from dagster import AssetExecutionContext
from dagster_dbt import DbtCliResource, dbt_assets

from ..project import dbt_project


@dbt_assets(manifest=dbt_project.manifest_path)
def dbt_models(context: AssetExecutionContext, dbt: DbtCliResource):
    yield from dbt.cli(["build"], context=context).stream()
""",
    "src/bench/defs/resources.py": """import dagster as dg
from dagster_dbt import DbtCliResource

from ..project import dbt_project


@dg.definitions
def resources():
    return dg.Definitions(resources={"dbt": DbtCliResource(project_dir=dbt_project)})
""",
}
"""What `create-dagster project` makes, with the code of dagster-dbt's page on `@dbt_assets`."""


def stock_project(folder: Path, tables: int, profiles: Path, others: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write a Dagster project round the dbt project, as Dagster's pages have it, with the given profile."""
    dbt_project(folder / "transform", tables, others)
    shutil.copytree(profiles, folder / "profiles")
    _write(folder, STOCK)
    return folder


def fetching(project: Path, *calls: str) -> None:
    """Let its assets fetch besides what dagster-dbt can fetch: `fetch_row_counts` and the like, in this order."""
    file = project / "src" / NAME / "defs" / "dbt.py"
    lines = file.read_text().splitlines()
    plain = lines[-1].partition(".fetch_")[0]
    file.write_text("\n".join([*lines[:-1], plain + "".join(f".{call}()" for call in calls), ""]))
