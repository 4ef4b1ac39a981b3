"""The engines that run the shapes: DuckDB and Spark in this process, PostgreSQL as a server."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pipeline.floe.lineage.columns.meanings import aggregates
from sqlglot import exp, parse_one

from tests.sql.oracle import DATA, Database, EngineRefusalError, Row
from tools.sql.shapes import TABLES, TYPES


class _SqlDatabase:
    """Tables filled by SQL: views of literals, which are made faster than tables."""

    dialect: ClassVar[str]

    def execute(self, sql: str) -> None:
        raise NotImplementedError

    def create(self) -> None:
        """Create all tables with their data."""
        for schema in ("shop", "archive"):
            self.execute(f"create schema if not exists {schema}")
        for table in TABLES:
            self.fill(table, DATA[table])

    def fill(self, table: str, rows: list[Row]) -> None:
        name, columns = TABLES[table]
        casts = ", ".join(f"cast({c} as {TYPES[self.dialect][kind]}) as {c}" for c, kind in columns.items())
        values = self.literal_table(self._values(rows), ", ".join(columns))
        self.execute(f"create or replace view {name} as select {casts} from {values}")

    def literal_table(self, values: str, columns: str) -> str:
        return f"(values {values}) as v ({columns})"

    def _values(self, rows: list[Row]) -> str:
        return ", ".join(f"({', '.join(self.literal(value) for value in row)})" for row in rows)

    def literal(self, value: Any) -> str:
        """Return the SQL of a value."""
        match value:
            case None:
                return "null"
            case dt.date():
                return f"date '{value}'"
            case list():
                return self.list_literal([self.literal(item) for item in value])
            case {"city": city, "zip": code}:
                return self.struct_literal(self.literal(city), self.literal(code))
            case dict():
                return self.map_literal(value)
            case str():
                return f"'{value}'"
        return str(value)

    def list_literal(self, items: list[str]) -> str:
        return f"array[{', '.join(items)}]"

    def struct_literal(self, city: str, code: str) -> str:
        raise NotImplementedError

    def map_literal(self, value: Mapping[str, int]) -> str:
        raise NotImplementedError


class DuckDB(_SqlDatabase):
    """DuckDB, in memory."""

    dialect = "duckdb"

    def __init__(self) -> None:
        import duckdb

        self._error: type[Exception] = duckdb.Error
        self._connection = duckdb.connect(config={"threads": 1})
        self.create()
        self.execute("create macro shop.clean(x) as upper(x)")
        self.execute("create macro shop.numbers(x) as unnest(range(x))")
        self.execute("create macro shop.total(x) as sum(x)")

    def execute(self, sql: str) -> None:
        self._connection.execute(sql)

    def names(self, sql: str) -> list[str]:
        self._query(f"create or replace table result as {sql}")
        return [row[0] for row in self._query("describe result")]

    def types(self, sql: str) -> list[str]:
        """Store a query as a table, and return the types of its columns."""
        self.names(sql)
        return [row[1] for row in self._query("describe result")]

    def rows(self, sql: str) -> list[Row]:
        return self._query(sql)

    def functions(self) -> dict[str, set[str]]:
        """Return the kinds of each function that is built in: `aggregate`, `scalar` or another."""
        functions: dict[str, set[str]] = {}
        for name, kind, definition in self._query(
            "select function_name, function_type, macro_definition from duckdb_functions() where schema_name = 'main'"
        ):
            functions.setdefault(name, set()).add("scalar" if kind == "macro" and _is_scalar(definition) else kind)
        return functions

    def _query(self, sql: str) -> list[Row]:
        try:
            return self._connection.execute(sql).fetchall()
        except self._error as error:
            raise EngineRefusalError(str(error)) from error

    def struct_literal(self, city: str, code: str) -> str:
        return f"{{'city': {city}, 'zip': {code}}}"

    def map_literal(self, value: Mapping[str, int]) -> str:
        return f"map {dict(value)}"


class PostgreSQL(_SqlDatabase):
    """A PostgreSQL server."""

    dialect = "postgres"

    def __init__(self, connection: Any, error: type[Exception]) -> None:
        self._connection = connection
        self._error = error
        self.execute("set client_min_messages = warning")
        self.execute("create schema shop")
        self.execute("create type shop.address as (city text, zip text)")
        self.create()
        self.execute("create function shop.clean(x text) returns text immutable return upper(x)")
        self.execute(
            "create function shop.numbers(x int) returns setof int language sql as 'select generate_series(1, x)';"
            "create aggregate shop.total(int) (sfunc = int4pl, stype = int, initcond = '0')"
        )

    def execute(self, sql: str) -> None:
        self._connection.execute(sql)

    def fill(self, table: str, rows: list[Row]) -> None:
        name, columns = TABLES[table]  # a table, because a view has no sample
        types = TYPES[self.dialect]
        kinds = ", ".join(f"{column} {types[kind]}" for column, kind in columns.items())
        self.execute(f"create table if not exists {name} ({kinds})")
        self.execute(f"delete from {name}; insert into {name} values {self._values(rows)}")

    def names(self, sql: str) -> list[str]:
        try:
            self.execute("drop table if exists pg_temp.result")
            self.execute(f"create temporary table result as {sql}")
        except self._error as error:
            raise EngineRefusalError(str(error)) from error
        return [column.name for column in self._connection.execute("select * from pg_temp.result").description]

    def types(self, sql: str) -> list[str]:
        """Store a query as a table, and return the types of its columns."""
        self.names(sql)
        types = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'pg_temp.result'::regclass"
        return [row[0] for row in self.rows(f"{types} and attnum > 0 order by attnum")]

    def rows(self, sql: str) -> list[Row]:
        try:
            rows: list[Row] = self._connection.execute(sql).fetchall()
        except self._error as error:
            raise EngineRefusalError(str(error)) from error
        return rows

    def functions(self) -> dict[str, set[str]]:
        """Return the kinds of each function that is built in: `aggregate`, `scalar` or another."""
        kind = "case when proretset then 'set' when prokind = 'a' then 'aggregate' when prokind = 'f' then 'scalar' end"
        functions: dict[str, set[str]] = {}
        for name, value in self.rows(
            f"select proname, {kind} from pg_proc where pronamespace = 'pg_catalog'::regnamespace"
        ):
            functions.setdefault(name, set()).add(value or "other")
        return functions

    def struct_literal(self, city: str, code: str) -> str:
        return f"row({city}, {code})::shop.address"

    def map_literal(self, value: Mapping[str, int]) -> str:
        return f"'{json.dumps(value)}'::jsonb"


class Spark(_SqlDatabase):
    """Spark in local mode, where a table is a view of literals: what reads it needs no job."""

    dialect = "spark"

    def __init__(self, session: Any, error: type[Exception]) -> None:
        self._session = session
        self._error = error
        self.create()

    def execute(self, sql: str) -> None:
        self._session.sql(sql)

    def literal_table(self, values: str, columns: str) -> str:
        return f"values {values} as v({columns})"

    def names(self, sql: str) -> list[str]:
        try:
            names: list[str] = self._session.sql(sql).columns
        except self._error as error:
            raise EngineRefusalError(str(error)) from error
        if len({name.lower() for name in names}) < len(names):
            msg = f"two columns of one name cannot be stored: {names}"
            raise EngineRefusalError(msg)
        return names

    def types(self, sql: str) -> list[str]:
        """Return the types of the columns of a query."""
        self.names(sql)
        return [field.dataType.simpleString() for field in self._session.sql(sql).schema.fields]

    def rows(self, sql: str) -> list[Row]:
        try:
            return [tuple(row) for row in self._session.sql(sql).collect()]
        except self._error as error:
            raise EngineRefusalError(str(error)) from error

    def functions(self) -> dict[str, set[str]]:
        """Return the kinds of each function that is built in: `aggregate`, `scalar` or another."""
        registry = self._session._jvm.org.apache.spark.sql.catalyst.analysis.FunctionRegistry.builtin()
        names = registry.listFunction()
        infos = {
            names.apply(position).funcName(): registry.lookupFunction(names.apply(position)).get()
            for position in range(names.size())
        }
        kinds = {"agg_funcs": "aggregate", "generator_funcs": "set", "window_funcs": "window"}
        return {name: {kinds.get(info.getGroup(), "scalar")} for name, info in infos.items()}

    def list_literal(self, items: list[str]) -> str:
        return f"array({', '.join(items)})"

    def struct_literal(self, city: str, code: str) -> str:
        return f"named_struct('city', {city}, 'zip', {code})"

    def map_literal(self, value: Mapping[str, int]) -> str:
        return f"map({', '.join(f'{key!r}, {item}' for key, item in value.items())})"


def _is_scalar(macro: str) -> bool:
    """Return whether a macro of DuckDB aggregates and generates no rows."""
    tree = parse_one(f"select {macro}", dialect="duckdb")
    return not any(isinstance(node, exp.Unnest | exp.Explode) or aggregates(node, "duckdb") for node in tree.walk())


@contextmanager
def duckdb() -> Iterator[Database]:
    """Open DuckDB."""
    yield DuckDB()


@contextmanager
def postgres() -> Iterator[Database]:
    """Start a PostgreSQL server and connect to it."""
    import psycopg

    from tools.engines.postgres import PASSWORD, USER
    from tools.engines.postgres import PostgreSQL as Server

    server = Server()
    try:
        server.start()
        address = {"host": "127.0.0.1", "port": server.port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
        with psycopg.connect(**address, autocommit=True, prepare_threshold=None) as connection:
            yield PostgreSQL(connection, psycopg.Error)
    finally:
        server.stop()


@contextmanager
def spark() -> Iterator[Database]:
    """Start Spark in this process's own Java machine."""
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    from tools.engines.iceberg import check_java

    check_java()
    builder = SparkSession.builder.master("local[1]")
    for key, value in {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",
        # Each query runs once, over five rows: compiling it takes longer than interpreting it.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    }.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    try:
        yield Spark(session, PySparkException)
    finally:
        session.stop()


DATABASES: dict[str, Callable[[], Any]] = {"duckdb": duckdb, "postgres": postgres, "spark": spark}
