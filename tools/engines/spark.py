"""Spark: the real engine, Spark 3.5 with its Thrift server and Hive's metastore, in one process; needs Java.

Tables are Iceberg's, the sample project's default on Spark: Spark's own file formats can neither merge nor keep a
snapshot. Spark 4 would run the unit tests too, but PyPI has no Iceberg for it. There is no TLS and no password, and
the catalog is Iceberg's alone, so tables of other formats are not tried.
"""

from __future__ import annotations

from typing import ClassVar

from tools.engines import Engine, Rows, ask_driver
from tools.engines.environments import python_of, site_packages, version_of
from tools.engines.iceberg import SETTINGS, check_java, class_path
from tools.engines.process import Server, free_port

IS_SLOW = True  # `nox -s lanes` leaves it out

THRIFT_SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"


class Spark(Engine):
    """A Thrift server with a metastore and a warehouse of its own."""

    title = "Spark with Iceberg"
    real = True
    schema = "default"
    excluded: ClassVar = {
        "unit_test": "PyHive finds no result of the temporary view that dbt makes, on Spark 3.5; on 4 it does",
    }

    def __init__(self) -> None:
        super().__init__()
        self._server: Server | None = None
        self.port = free_port()

    def start(self) -> dict[str, str]:
        check_java()
        python = python_of("spark")
        home = site_packages(python) / "pyspark"
        settings = SETTINGS | {
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={self.folder}",
            "spark.sql.warehouse.dir": str(self.folder / "warehouse"),
            # A catalog of its own: beside tables of other formats Iceberg leaves files behind on `drop`.
            "spark.sql.defaultCatalog": "ice",
            "spark.sql.catalog.ice": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.ice.type": "hive",
            "spark.hadoop.hive.server2.thrift.port": str(self.port),
            "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
        }
        self._server = Server(
            home / "bin" / "spark-submit",
            *("--class", THRIFT_SERVER, "--master", "local[2]", "--driver-memory", "1g"),
            # Not --jars: those are loaded too late for a catalog.
            *("--driver-class-path", class_path(python, self.folder)),
            *(part for name, value in settings.items() for part in ("--conf", f"{name}={value}")),
            "spark-internal",
            port=self.port,
            log=self.folder / "spark.log",
            seconds=120,
            SPARK_HOME=str(home),
            SPARK_NO_DAEMONIZE="1",
            SPARK_LOCAL_IP="127.0.0.1",
            PYSPARK_PYTHON=str(python),
        )
        return {
            "SPARK_HOST": "127.0.0.1",
            "SPARK_PORT": str(self.port),
            "SPARK_USE_SSL": "false",
            "DBT_EXCLUDE_RESOURCE_TYPES": " ".join(self.excluded),
        }

    def version(self) -> str:
        return version_of(python_of("spark"), "pyspark")

    def query(self, sql: str) -> Rows:
        return ask_driver(self.python, "pyhive.hive", {"host": "127.0.0.1", "port": self.port, "username": "dbt"}, sql)

    def stop(self) -> None:
        if self._server:
            self._server.stop()
        super().stop()


ENGINE = Spark
