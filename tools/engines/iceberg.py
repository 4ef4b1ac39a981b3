"""The requirements of Spark for Iceberg tables: packages of the group `engine-spark`, and Java."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.engines import EngineError
from tools.engines.environments import site_packages
from tools.engines.relocate import relocated

JACKSON = "com.fasterxml.jackson"
EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
# As one process, small and silent: the tables have a thousand rows.
SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.sql.extensions": EXTENSIONS,
    # Else it waits for ever for locks that Derby's metastore does not grant.
    "spark.hadoop.iceberg.engine.hive.lock-enabled": "false",
}


def check_java() -> None:
    """Say how to get Java if it is not there.

    Raises:
        EngineError: `java` is not on PATH.
    """
    if shutil.which("java") is None:
        msg = "Spark needs Java 17 and there is no `java` on PATH: apt-get install default-jre-headless"
        raise EngineError(msg)


def class_path(python: Path, folder: Path) -> str:
    """Return the class path of Iceberg for the Spark of an environment; a jar made for it goes to `folder`."""
    packages = site_packages(python)
    # The folder has more jars, for another Scala, which must not be named.
    [iceberg] = (packages / "snowpark_connect_deps_iceberg" / "jars").glob("iceberg-spark-runtime-3.5_2.12-*.jar")
    jars = packages / "pyspark" / "jars"
    jackson = relocated(
        [jar for name in ("core", "databind", "annotations") for jar in jars.glob(f"jackson-{name}-2.*.jar")],
        JACKSON,
        f"org.apache.iceberg.shaded.{JACKSON}",
        folder / "iceberg-jackson.jar",
    )
    return f"{iceberg}:{jackson}"
