"""Databricks: Spark 3.5 stands in, behind a gateway (databricks_gateway.py) for Databricks' driver; needs Java.

The adapter, Databricks' driver, its Thrift over HTTPS (TLS and the token are checked) and Spark's SQL are the real
ones. Not real: tables are Iceberg's where dbt asks for Delta, in `hive_metastore`: Unity Catalog, which projects use
by default, is not tried, nor are SQL warehouses (this is a cluster, of runtime 13.3), OAuth, liquid clustering,
`optimize`, Python models and Photon.
"""

from __future__ import annotations

import json
from pathlib import Path

from tools.engines import Engine, Rows, ask_driver
from tools.engines.certificates import write_certificate
from tools.engines.environments import python_of, version_of
from tools.engines.iceberg import SETTINGS, check_java, class_path
from tools.engines.process import Server, free_port

IS_SLOW = True  # `nox -s lanes` leaves it out

HTTP_PATH = "sql/protocolv1/o/0/0101-000000-local000"
TOKEN = "of-a-throw-away-server"


class Databricks(Engine):
    """A gateway with Spark, a metastore and a warehouse of its own in its process."""

    title = "Spark with Iceberg behind a gateway"
    real = False
    schema = "hive_metastore.default"
    checks_secret = "DATABRICKS_TOKEN"

    def __init__(self) -> None:
        super().__init__()
        self._server: Server | None = None
        self.port = free_port()

    def start(self) -> dict[str, str]:
        check_java()
        python = python_of("databricks")
        certificate, key = write_certificate(self.folder)
        # The adapter has no key for a port; the driver takes a whole address.
        self.profile = {
            "connection_parameters": {
                "_connection_uri": f"https://localhost:{self.port}/{HTTP_PATH}",
                "_tls_trusted_ca_file": str(certificate),
                "enable_telemetry": False,
            }
        }
        settings = SETTINGS | {
            "spark.sql.warehouse.dir": str(self.folder / "warehouse"),
            "spark.sql.catalog.spark_catalog": "org.apache.iceberg.spark.SparkSessionCatalog",
            "spark.sql.catalog.spark_catalog.type": "hive",
            # What the adapter reads the runtime's version from.
            "spark.databricks.clusterUsageTags.sparkVersion": "13.3.x-scala2.12",
        }
        self._server = Server(
            python,
            "-P",
            Path(__file__).with_name("databricks_gateway.py"),
            str(self.port),
            certificate,
            key,
            TOKEN,
            class_path(python, self.folder),
            json.dumps(settings),
            port=self.port,
            log=self.folder / "gateway.log",
            seconds=120,
            PYSPARK_PYTHON=str(python),
            SPARK_LOCAL_IP="127.0.0.1",
        )
        return {
            "DATABRICKS_HOST": f"localhost:{self.port}",
            "DATABRICKS_HTTP_PATH": HTTP_PATH,
            "DATABRICKS_CATALOG": "hive_metastore",
            "DATABRICKS_SCHEMA": "default",
            "DATABRICKS_TOKEN": TOKEN,
            "REQUESTS_CA_BUNDLE": str(certificate),
        }

    def version(self) -> str:
        return version_of(python_of("databricks"), "pyspark")

    def query(self, sql: str) -> Rows:
        connection = {"server_hostname": "localhost", "http_path": HTTP_PATH, "access_token": TOKEN}
        return ask_driver(self.python, "databricks.sql", connection | self.profile["connection_parameters"], sql)

    def stop(self) -> None:
        if self._server:
            self._server.stop()
        super().stop()


ENGINE = Databricks
