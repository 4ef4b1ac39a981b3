"""The projects that are measured: one generated dbt project, and what runs it.

The dbt project has tables in ten layers of equal size. The first layer makes its rows up (100 each); each later table
reads one table of the layer before and one of any layer before: two CTEs, a join, ten columns of which eight are worked
out. Every column is documented, every fourth table has two tests on its key.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import yaml

from tests.rendering import render, snapshot

LAYERS = 10
ROWS = 100
TESTED = 4  # every so many tables
NAME = "bench"
PROFILE = "warehouse"

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


def dbt_project(folder: Path, tables: int) -> Path:
    """Write the dbt project with so many tables; the same for the same number."""
    chance = random.Random(tables)  # noqa: S311 - the same graph each time
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
        "profile": PROFILE,
        "models": {NAME: {"+materialized": "table"}},
        "flags": {"send_anonymous_usage_stats": False},
    }
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


def _documented(name: str, *, tested: bool) -> dict[str, object]:
    columns: list[dict[str, object]] = [{"name": key, "description": text} for key, text in COLUMNS.items()]
    if tested:
        columns[0]["data_tests"] = ["unique", "not_null"]
    return {"name": name, "description": f"Orders as {name} has them.", "columns": columns}


def observed_project(folder: Path, tables: int) -> Path:
    """Render the template round the dbt project."""
    dbt_project(folder / "transform", tables)
    template = snapshot(folder.with_name(f"{folder.name}-template"))
    answers = {"project_name": NAME, "start_from": "existing", "dbt_profile_name": PROFILE}
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


def stock_project(folder: Path, tables: int, profiles: Path) -> Path:
    """Write a Dagster project round the dbt project, as Dagster's pages have it, with the given profile."""
    dbt_project(folder / "transform", tables)
    shutil.copytree(profiles, folder / "profiles")
    for name, text in STOCK.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def fetching(project: Path, *calls: str) -> None:
    """Let its assets fetch besides what dagster-dbt can fetch: `fetch_row_counts` and the like, in this order."""
    file = project / "src" / NAME / "defs" / "dbt.py"
    lines = file.read_text().splitlines()
    plain = lines[-1].partition(".fetch_")[0]
    file.write_text("\n".join([*lines[:-1], plain + "".join(f".{call}()" for call in calls), ""]))
