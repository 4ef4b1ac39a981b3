"""The facets of each kind of event: edit these lists when you add, rename or drop one in `floe/lineage/`.

They are those of the run in `everything.py`. An event is named by its job and its type.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid5

from . import names
from .everything import COMMIT, INCREMENTAL, NOT_NULL, OUTER_RUN_ID, PARTITION, ROOT_RUN_ID, SOURCE
from .package import settings
from .runs import FINISHED, HAS_UNIT_TEST, INVOCATION_ID, RECORDING, RUN_ID, UNIT_TEST

# The part of an event -> its facets.
Facets = dict[str, str]

DAGSTER_RUN = "nominalTime parent processing_engine tags"
DBT_RUN = "dbt_run dbt_version executionParameters nominalTime parent processing_engine"
NODE_RUN = f"{DBT_RUN} externalQuery"
JOB = "dbt_node jobType sourceCodeLocation"
OWNED_JOB = f"{JOB} documentation ownership tags"
SYMLINKS = "symlinks" if "orders" in names.OTHER_NAMES else ""
TABLE = f"dataSource datasetType dbt_model documentation ownership schema tags {SYMLINKS}"
TABLE_WITHOUT_COLUMNS = TABLE.replace("schema ", "")
WRITTEN = f"{TABLE} columnLineage lifecycleStateChange version"

FACETS: dict[str, Facets] = {
    "daily START": {"run": DAGSTER_RUN, "job": "jobType"},
    "daily FAIL": {"run": f"{DAGSTER_RUN} errorMessage", "job": "jobType"},
    "dbt.shop START": {"run": DBT_RUN, "job": "jobType"},
    "dbt.shop FAIL": {"run": f"{DBT_RUN} errorMessage", "job": "jobType"},
    "seed.shop.raw_customers START": {"run": f"{DBT_RUN} tags", "job": OWNED_JOB},
    "seed.shop.raw_customers COMPLETE": {
        "run": f"{NODE_RUN} tags",
        "job": OWNED_JOB,
        "output": f"{TABLE} floe_columnClassification lifecycleStateChange version",
        "result of output": "outputStatistics",
    },
    "model.shop.stg_customers COMPLETE": {
        "run": f"{NODE_RUN} tags",
        "job": f"{OWNED_JOB} sql",
        "input": f"{TABLE} floe_columnClassification version",
        "result of input": "inputStatistics",
        "output": f"{TABLE} columnLineage floe_columnClassification lifecycleStateChange",
    },
    "model.shop.orders START": {"run": f"{DBT_RUN} tags", "job": f"{OWNED_JOB} sql"},
    "model.shop.orders COMPLETE": {
        "run": f"{NODE_RUN} tags",
        "job": f"{OWNED_JOB} sql",
        "input": TABLE,
        "output": WRITTEN,
        "result of output": "outputStatistics",
    },
    "model.shop.daily_revenue COMPLETE": {
        "run": f"{NODE_RUN} tags",
        "job": f"{OWNED_JOB} sql",
        "input": f"{TABLE} version",
        "result of input": "inputStatistics",
        "output": f"{WRITTEN} dbt_exposures storage {'catalog symlinks' if names.CATALOG else ''}",
        "result of output": "outputStatistics",
    },
    # None of its columns is certain.
    "model.shop.customer_cohorts COMPLETE": {
        "run": f"{NODE_RUN} extractionError tags",
        "job": f"{OWNED_JOB} sql",
        "input": f"{TABLE} version",
        "result of input": "inputStatistics",
        "output": f"{TABLE_WITHOUT_COLUMNS} dbt_exposures lifecycleStateChange version",
        "result of output": "outputStatistics",
    },
    "snapshot.shop.customer_history COMPLETE": {
        "run": f"{NODE_RUN} tags",
        "job": f"{OWNED_JOB} sql",
        "input": f"{TABLE} floe_columnClassification",
        "result of input": "inputStatistics",
        "output": f"{TABLE} columnLineage floe_columnClassification version",
        "result of output": "outputStatistics",
    },
    "model.shop.broken FAIL": {
        "run": f"{DBT_RUN} errorMessage",
        "job": f"{JOB} ownership sql",
        "input": f"{TABLE} version",
    },
    f"{NOT_NULL} COMPLETE": {
        "run": f"{NODE_RUN} test",
        "job": f"{JOB} documentation",
        "input": f"{TABLE} version",
        "result of input": "dataQualityAssertions dataQualityMetrics inputStatistics",
    },
    "test.shop.fails FAIL": {
        "run": f"{NODE_RUN} errorMessage test",
        "job": f"{JOB} sql",
        "input": f"{TABLE_WITHOUT_COLUMNS} dbt_exposures version",
        "result of input": "dataQualityAssertions inputStatistics",
    },
    f"{SOURCE} COMPLETE": {
        "run": DBT_RUN.replace("executionParameters ", ""),
        "job": f"{JOB} documentation ownership",
        "input": TABLE.replace("dbt_model ", ""),
        "result of input": "dataQualityAssertions",
    },
}
if HAS_UNIT_TEST:
    FACETS[f"{UNIT_TEST} COMPLETE"] = {
        "run": f"{NODE_RUN.replace('executionParameters ', '')} test",
        "job": f"{JOB} documentation",
    }

CLIENT = version("openlineage-python")
DBT: str = RECORDING["metadata"]["dbt_version"]
NODES = RECORDING["nodes"]
ORDERS_RUN_ID = uuid5(UUID(INVOCATION_ID), "model.shop.orders")
DAGSTER_JOB = {"namespace": settings.namespace, "name": "daily"}
ROOT = {"run": {"runId": ROOT_RUN_ID}, "job": {"namespace": "airflow", "name": "nightly"}}


def tags(source: str, *pairs: tuple[str, str], field: str = "") -> list[dict[str, str]]:
    """Return tags of a table, or of one of its columns."""
    own = {"field": names.column(field)} if field else {}
    return [{"key": key, "value": value, "source": source, **own} for key, value in pairs]


def parameters(**values: str) -> dict[str, Any]:
    """Return the content of `executionParameters`."""
    return {"parameters": [{"key": key, "value": value} for key, value in values.items()]}


def owner(name: str) -> dict[str, Any]:
    """Return the content of `ownership`."""
    return {"owners": [{"name": name, "type": "OWNER"}]}


def job_type(kind: str, integration: str = "DBT") -> dict[str, str]:
    """Return the content of `jobType`."""
    return {"processingType": "BATCH", "integration": integration, "jobType": kind}


PII_NAME = {"classification": "pii", "pii_type": "name", "sensitivity": "medium"}
PII_EMAIL = {"classification": "pii", "pii_type": "email", "sensitivity": "high"}
NOT_NULL_RESULT = {
    "severity": "error",
    "description": "Each order has an identifier.",
    "expected": "0",
    "actual": "0",
    "params": {"where_not": ["web"]},
}
FAILS_RESULT = {"severity": "error", "expected": "0", "actual": str(FINISHED["test.shop.fails"]["num_failures"])}
WARNS_RESULT = FAILS_RESULT | {"severity": "warn"}

# Event, its part and a facet -> the content of that facet, without what is empty.
CONTENTS: dict[tuple[str, str, str], Any] = {
    # The Dagster run
    ("daily FAIL", "run", "nominalTime"): {
        "nominalStartTime": "2026-11-22T00:00:00+00:00",
        "nominalEndTime": "2026-11-23T00:00:00+00:00",
    },
    ("daily FAIL", "run", "parent"): {
        "run": {"runId": OUTER_RUN_ID},
        "job": {"namespace": "airflow", "name": "nightly.shop"},
        "root": ROOT,
    },
    ("daily FAIL", "run", "processing_engine"): {
        "version": version("dagster"),
        "name": "dagster",
        "openlineageAdapterVersion": CLIENT,
    },
    ("daily FAIL", "run", "tags"): {
        "tags": tags("DAGSTER", ("dagster/partition", PARTITION), ("dagster/schedule_name", "nightly"))
    },
    ("daily FAIL", "run", "errorMessage"): {
        "message": "dbt ended with exit code 1",
        "programmingLanguage": "SQL",
    },
    ("daily FAIL", "job", "jobType"): job_type("JOB", "DAGSTER"),
    # The dbt command
    ("dbt.shop FAIL", "run", "dbt_run"): {
        "invocation_id": INVOCATION_ID,
        "project_name": "shop",
        "dbt_runtime": "core",
        "project_version": "1.2.0",
        "profile_name": "shop",
        "full_refresh": True,
    },
    ("dbt.shop FAIL", "run", "dbt_version"): {"version": DBT},
    ("dbt.shop FAIL", "run", "executionParameters"): {
        "parameters": [
            {"key": "command", "value": "build"},
            {"key": "select", "value": "orders+"},
            {"key": "vars", "value": "[hidden]"},
            {"key": "full-refresh", "value": "true"},
        ]
    },
    ("dbt.shop FAIL", "run", "parent"): {"run": {"runId": RUN_ID}, "job": DAGSTER_JOB, "root": ROOT},
    ("dbt.shop FAIL", "run", "processing_engine"): {
        "version": DBT,
        "name": "dbt",
        "openlineageAdapterVersion": CLIENT,
    },
    ("dbt.shop FAIL", "job", "jobType"): job_type("JOB"),
    # The run and the job of a node
    ("model.shop.orders COMPLETE", "run", "parent"): {
        "run": {"runId": INVOCATION_ID},
        "job": {"namespace": settings.namespace, "name": "dbt.shop"},
        "root": ROOT,
    },
    ("model.shop.orders COMPLETE", "run", "tags"): {"tags": tags("DBT", ("finance", "true"))},
    ("model.shop.orders COMPLETE", "run", "externalQuery"): {
        "externalQueryId": "query-1",
        "source": names.NAMESPACE,
    },
    ("model.shop.daily_revenue COMPLETE", "run", "executionParameters"): parameters(
        materialized="incremental",
        incremental_strategy="microbatch",
        unique_key="['ordered_on']",
        batch_size="day",
        full_refresh="True",
    ),
    ("test.shop.warns COMPLETE", "run", "executionParameters"): parameters(materialized="test", severity="warn"),
    ("model.shop.customer_cohorts COMPLETE", "run", "extractionError"): {
        "totalTasks": 2,
        "failedTasks": 2,
        "errors": [
            {"errorMessage": "column lineage: not all columns are known by name", "task": "columnLineage"},
            {
                "errorMessage": "column lineage: the columns of elsewhere are not known; "
                "run `dbt docs generate`, document a source's columns, or build the table with `--full-refresh`",
                "task": "columnLineage",
            },
        ],
    },
    ("model.shop.broken FAIL", "run", "errorMessage"): {
        "message": FINISHED["model.shop.broken"]["message"],
        "programmingLanguage": "PYTHON",
    },
    ("model.shop.after_broken ABORT", "run", "errorMessage"): {
        "message": "dbt skipped this node: model.shop.broken failed",
        "programmingLanguage": "SQL",
    },
    ("model.shop.orders COMPLETE", "job", "jobType"): job_type("MODEL"),
    ("seed.shop.raw_customers COMPLETE", "job", "jobType"): job_type("SEED"),
    ("snapshot.shop.customer_history COMPLETE", "job", "jobType"): job_type("SNAPSHOT"),
    ("test.shop.fails FAIL", "job", "jobType"): job_type("TEST"),
    (f"{SOURCE} COMPLETE", "job", "jobType"): job_type("SOURCE_FRESHNESS"),
    ("model.shop.orders COMPLETE", "job", "dbt_node"): {
        "original_file_path": "models/marts/orders.sql",
        "alias": "orders",
        "unique_id": "model.shop.orders",
        **{key: value for key in ("database", "schema") if (value := NODES["model.shop.orders"][key])},
    },
    ("model.shop.orders COMPLETE", "job", "documentation"): {"description": NODES["model.shop.orders"]["description"]},
    ("model.shop.orders COMPLETE", "job", "ownership"): owner("team:analytics"),
    ("model.shop.broken FAIL", "job", "ownership"): owner(settings.owner),
    ("model.shop.orders COMPLETE", "job", "tags"): {"tags": tags("DBT", ("finance", "true"))},
    ("model.shop.orders COMPLETE", "job", "sourceCodeLocation"): {
        "type": "git",
        "url": f"https://git.example.com/shop/dbt/blob/{COMMIT}/models/marts/orders.sql",
        "repoUrl": "https://git.example.com/shop/dbt.git",
        "path": "models/marts/orders.sql",
        "version": COMMIT,
        "tag": "v1.2.0",
        "branch": "main",
    },
    # Tables
    ("model.shop.orders COMPLETE", "output", "dataSource"): {"name": names.NAMESPACE, "uri": names.NAMESPACE},
    ("model.shop.orders COMPLETE", "output", "datasetType"): {"datasetType": "TABLE"},
    ("model.shop.stg_customers COMPLETE", "output", "datasetType"): {"datasetType": "VIEW"},
    ("model.shop.stg_orders COMPLETE", "output", "datasetType"): {"datasetType": "MATERIALIZED_VIEW"},
    ("model.shop.stg_payments COMPLETE", "output", "datasetType"): {"datasetType": "MATERIALIZED_VIEW"},
    ("model.shop.orders COMPLETE", "output", "documentation"): {
        "description": NODES["model.shop.orders"]["description"]
    },
    ("model.shop.orders COMPLETE", "output", "ownership"): owner("team:analytics"),
    ("model.shop.daily_revenue COMPLETE", "output", "ownership"): owner("team:finance"),
    ("model.shop.orders COMPLETE", "output", "tags"): {
        "tags": [
            *tags("DBT", ("finance", "true"), ("classification", "confidential"), ("sla", "24h")),
            *tags("DBT", ("key", "true"), field="order_id"),
        ]
    },
    ("model.shop.stg_customers COMPLETE", "output", "tags"): {
        "tags": [
            *tags("DBT", ("customer", "true"), ("classification", "restricted")),
            *tags("DBT", *PII_NAME.items(), field="full_name"),
            *tags("DBT", *PII_EMAIL.items(), field="email"),
        ]
    },
    ("model.shop.stg_customers COMPLETE", "output", "floe_columnClassification"): {
        "classifications": {names.column("full_name"): PII_NAME, names.column("email"): PII_EMAIL}
    },
    ("model.shop.stg_customers COMPLETE", "output", "lifecycleStateChange"): {"lifecycleStateChange": "CREATE"},
    ("model.shop.orders COMPLETE", "output", "lifecycleStateChange"): {"lifecycleStateChange": "OVERWRITE"},
    ("seed.shop.raw_customers COMPLETE", "output", "lifecycleStateChange"): {"lifecycleStateChange": "OVERWRITE"},
    ("model.shop.daily_revenue COMPLETE", "output", "lifecycleStateChange"): {"lifecycleStateChange": "OVERWRITE"},
    ("model.shop.daily_revenue COMPLETE", "output", "dbt_model"): {
        "config": {
            "materialized": "incremental",
            "access": "protected",
            "owner": "finance",
            "group": "revenue",
            "incremental": {
                "strategy" if key == "incremental_strategy" else key: value for key, value in INCREMENTAL.items()
            },
        }
    },
    ("model.shop.daily_revenue COMPLETE", "output", "dbt_exposures"): {
        "exposures": [
            {
                "unique_id": "exposure.shop.revenue_dashboard",
                "name": "revenue_dashboard",
                "type": "dashboard",
                "url": "https://bi.example.com/1",
            }
        ]
    },
    ("model.shop.daily_revenue COMPLETE", "output", "storage"): {"storageLayer": "iceberg", "fileFormat": "parquet"},
    **{
        (f"model.shop.{table} COMPLETE", "output", "symlinks"): {"identifiers": [name]}
        for table, name in names.OTHER_NAMES.items()
    },
    ("model.shop.daily_revenue COMPLETE", "output", "catalog"): names.CATALOG or None,
    ("model.shop.orders COMPLETE", "output", "version"): {"datasetVersion": str(ORDERS_RUN_ID)},
    ("model.shop.daily_revenue COMPLETE", "input", "version"): {"datasetVersion": str(ORDERS_RUN_ID)},
    ("model.shop.orders COMPLETE", "result of output", "outputStatistics"): {"rowCount": 540},
    ("model.shop.stg_customers COMPLETE", "result of input", "inputStatistics"): {"size": 2048},
    # Tests
    (f"{NOT_NULL} COMPLETE", "run", "test"): {
        "tests": [{"name": NOT_NULL, "status": "pass", "type": "not_null", **NOT_NULL_RESULT}]
    },
    ("test.shop.fails FAIL", "run", "test"): {
        "tests": [{"name": "test.shop.fails", "status": "fail", "type": "singular", **FAILS_RESULT}]
    },
    ("test.shop.warns COMPLETE", "run", "test"): {
        "tests": [{"name": "test.shop.warns", "status": "fail", "type": "singular", **WARNS_RESULT}]
    },
    (f"{NOT_NULL} COMPLETE", "job", "dbt_node"): {
        "original_file_path": "models/marts/marts.yml",
        "alias": "not_null_orders_order_id",
        "unique_id": NOT_NULL,
        "test_type": "generic",
        **{key: value for key in ("database", "schema") if (value := NODES[NOT_NULL][key])},
    },
    (f"{NOT_NULL} COMPLETE", "result of input", "dataQualityAssertions"): {
        "assertions": [
            {
                "assertion": "not_null",
                "success": True,
                "column": "order_id",
                "name": "not_null_orders_order_id",
                **NOT_NULL_RESULT,
            }
        ]
    },
    (f"{NOT_NULL} COMPLETE", "result of input", "dataQualityMetrics"): {
        "columnMetrics": {"order_id": {"nullCount": 0}}
    },
    ("test.shop.fails FAIL", "result of input", "dataQualityAssertions"): {
        "assertions": [{"assertion": "fails", "success": False, "name": "fails", **FAILS_RESULT}]
    },
    ("test.shop.warns COMPLETE", "result of input", "dataQualityAssertions"): {
        "assertions": [{"assertion": "warns", "success": False, "name": "warns", **WARNS_RESULT}]
    },
    (f"{SOURCE} COMPLETE", "result of input", "dataQualityAssertions"): {
        "assertions": [{"assertion": "freshness", "success": False, "severity": "warn", "name": SOURCE}]
    },
}
if HAS_UNIT_TEST:
    CONTENTS[f"{UNIT_TEST} COMPLETE", "job", "jobType"] = job_type("UNIT_TEST")
    CONTENTS[f"{UNIT_TEST} COMPLETE", "run", "test"] = {
        "tests": [
            {
                "name": UNIT_TEST,
                "status": "pass",
                "type": "unit_test",
                "severity": "error",
                "description": RECORDING["unit_tests"][UNIT_TEST]["description"],
                "expected": "0",
                "actual": "0",
            }
        ]
    }
