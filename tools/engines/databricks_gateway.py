"""A Databricks cluster's SQL endpoint in front of Spark in this process; runs in the environment `engine-databricks`.

    databricks_gateway.py PORT CERTIFICATE KEY TOKEN CLASS_PATH SETTINGS

It speaks what databricks-sql-connector speaks: Thrift over HTTPS, with the connector's own generated classes
(databricks/sql/thrift_api), results as Arrow in the answer to the statement. Databricks itself has more: result links,
asynchronous statements, the REST API (here everything else is 404, at once, for clients repeat what hangs).
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
from databricks.sql.thrift_api.TCLIService import TCLIService
from databricks.sql.thrift_api.TCLIService import ttypes as thrift
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

CATALOG = "hive_metastore"
COMMENT = re.compile(r"^\s*/\*.*?\*/\s*", re.DOTALL)
# Databricks' SQL -> Spark's, whose tables are Iceberg's here.
RULES = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\busing\s+delta\b", "using iceberg"),
        (rf"`?\b{CATALOG}\b`?", "spark_catalog"),
        (r"^use\s+catalog\b", "set catalog"),
        (r"^optimize\s.*", "select 1"),
    )
]
INSERT = re.compile(r"^insert\s+(overwrite|into)\s+(?:table\s+)?(\S+)\s+values\s+(.*)$", re.IGNORECASE | re.DOTALL)
TYPES = {"decimal": "DECIMAL", "tinyint": "TINYINT", "smallint": "SMALLINT"} | {
    name: f"{name.upper()}" for name in ("boolean", "int", "bigint", "float", "double", "timestamp", "binary", "date")
}


def statement(session: SparkSession, sql: str) -> DataFrame:
    """Run a statement of Databricks' SQL."""
    sql = COMMENT.sub("", sql)
    for pattern, replacement in RULES:
        sql = pattern.sub(replacement, sql)
    if insert := INSERT.match(sql):
        # Delta casts what is inserted to the type of the column; Spark refuses where that could lose something.
        how, table, values = insert.groups()
        columns = session.table(table).schema
        casts = (f"cast(col{number} as {column.dataType.simpleString()})" for number, column in enumerate(columns, 1))
        sql = f"insert {how} {table} select {', '.join(casts)} from values {values}"
    result = session.sql(sql)
    if re.match(r"(describe|show)\b", sql, re.IGNORECASE):
        return result.replace("iceberg", "delta")
    return result


def ok() -> thrift.TStatus:
    """Return the status of a call that went well; a statement's own error stands in its operation."""
    return thrift.TStatus(statusCode=thrift.TStatusCode.SUCCESS_STATUS)


def column_description(position: int, field: Any) -> thrift.TColumnDesc:
    """Return a result column as Thrift describes it; what has no type there is a string, as on Databricks."""
    name = field.dataType.simpleString().partition("(")[0]
    qualifiers = None
    if name == "decimal":
        values = {"precision": field.dataType.precision, "scale": field.dataType.scale}
        qualifiers = thrift.TTypeQualifiers(
            {key: thrift.TTypeQualifierValue(i32Value=value) for key, value in values.items()}
        )
    entry = thrift.TPrimitiveTypeEntry(getattr(thrift.TTypeId, f"{TYPES.get(name, 'STRING')}_TYPE"), qualifiers)
    return thrift.TColumnDesc(field.name, thrift.TTypeDesc([thrift.TTypeEntry(entry)]), position, "")


def direct_results(frame: DataFrame) -> thrift.TSparkDirectResults:
    """Return all rows of a result, as Arrow."""
    schema = to_arrow_schema(frame.schema)
    batches = []
    for batch in frame._collect_as_arrow():
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
        data = pa.RecordBatch.from_arrays(columns, schema=schema).serialize().to_pybytes()
        batches.append(thrift.TSparkArrowBatch(batch=data, rowCount=batch.num_rows))
    columns = [column_description(number, field) for number, field in enumerate(frame.schema.fields, 1)]
    return thrift.TSparkDirectResults(
        operationStatus=thrift.TGetOperationStatusResp(ok(), thrift.TOperationState.FINISHED_STATE),
        resultSetMetadata=thrift.TGetResultSetMetadataResp(
            status=ok(),
            schema=thrift.TTableSchema(columns),
            resultFormat=thrift.TSparkRowSetType.ARROW_BASED_SET,
            lz4Compressed=False,
            arrowSchema=schema.serialize().to_pybytes(),
        ),
        resultSet=thrift.TFetchResultsResp(
            status=ok(),
            hasMoreRows=False,
            results=thrift.TRowSet(startRowOffset=0, rows=[], arrowBatches=[each for each in batches if each.rowCount]),
        ),
        closeOperation=thrift.TCloseOperationResp(ok()),
    )


class Service:
    """The calls of TCLIService that the connector makes; names and arguments are the protocol's."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._sessions: dict[bytes, SparkSession] = {}

    def OpenSession(self, request: Any) -> Any:
        handle = thrift.THandleIdentifier(uuid.uuid4().bytes, uuid.uuid4().bytes)
        self._sessions[handle.guid] = self._spark.newSession()
        return thrift.TOpenSessionResp(
            status=ok(),
            serverProtocolVersion=thrift.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7,
            sessionHandle=thrift.TSessionHandle(handle),
            configuration={},
            initialNamespace=request.initialNamespace,
            canUseMultipleCatalogs=True,
        )

    def CloseSession(self, request: Any) -> Any:
        self._sessions.pop(request.sessionHandle.sessionId.guid, None)
        return thrift.TCloseSessionResp(ok())

    def ExecuteStatement(self, request: Any) -> Any:
        return self._answer(
            thrift.TExecuteStatementResp, request, lambda session: statement(session, request.statement)
        )

    def GetSchemas(self, request: Any) -> Any:
        pattern = re.compile((request.schemaName or "%").replace("\\", "").replace("%", ".*"), re.IGNORECASE)

        def schemas(session: SparkSession) -> DataFrame:
            names = [each.name for each in session.catalog.listDatabases() if pattern.fullmatch(each.name)]
            return session.createDataFrame(
                [(name, CATALOG) for name in names], "TABLE_SCHEM string, TABLE_CATALOG string"
            )

        return self._answer(thrift.TGetSchemasResp, request, schemas)

    def GetTables(self, request: Any) -> Any:
        schema = (request.schemaName or "default").replace("\\", "")

        def tables(session: SparkSession) -> DataFrame:
            rows = []
            if session.catalog.databaseExists(schema):
                views = {view.viewName for view in session.sql(f"show views in {schema}").collect()}
                names = [each.tableName for each in session.sql(f"show tables in {schema}").collect()]
                rows = [(CATALOG, schema, name, "VIEW" if name in views else "TABLE", "") for name in names]
            columns = ("TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS")
            return session.createDataFrame(rows, ", ".join(f"{name} string" for name in columns))

        return self._answer(thrift.TGetTablesResp, request, tables)

    def CloseOperation(self, _: Any) -> Any:  # results leave with the statement's answer
        return thrift.TCloseOperationResp(ok())

    def CancelOperation(self, _: Any) -> Any:  # a statement has ended when it is answered
        return thrift.TCancelOperationResp(ok())

    def _answer(self, response: Any, request: Any, run: Callable[[SparkSession], DataFrame]) -> Any:
        handle = thrift.TOperationHandle(
            operationId=thrift.THandleIdentifier(uuid.uuid4().bytes, uuid.uuid4().bytes),
            operationType=thrift.TOperationType.EXECUTE_STATEMENT,
            hasResultSet=True,
        )
        try:
            results = direct_results(run(self._sessions[request.sessionHandle.sessionId.guid]))
        except Exception as error:
            message = str(error).partition("JVM stacktrace")[0].strip()
            state = thrift.TGetOperationStatusResp(
                status=ok(),
                operationState=thrift.TOperationState.ERROR_STATE,
                displayMessage=message,
                diagnosticInfo=message,
            )
            results = thrift.TSparkDirectResults(operationStatus=state)
        return response(status=ok(), operationHandle=handle, directResults=results)


class Handler(BaseHTTPRequestHandler):
    """Hands Thrift messages of a client with the right token to the service."""

    protocol_version = "HTTP/1.1"
    processor: TCLIService.Processor
    token: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/sql/" not in self.path:
            self._reply(404, b'{"error_code": "NOT_FOUND"}')
        elif self.headers.get("Authorization") != f"Bearer {self.token}":
            self._reply(403, b"", **{"X-Thriftserver-Error-Message": "Invalid access token."})
        else:
            answer = TMemoryBuffer()
            self.processor.process(TBinaryProtocol(TMemoryBuffer(body)), TBinaryProtocol(answer))
            self._reply(200, answer.getvalue())

    def do_GET(self) -> None:
        self._reply(404, b'{"error_code": "NOT_FOUND"}')

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(port: str, certificate: str, key: str, token: str, class_path: str, settings: str) -> None:
    """Serve on 127.0.0.1 until the process is ended."""
    builder = SparkSession.builder.master("local[2]").config("spark.driver.extraClassPath", class_path)
    for name, value in json.loads(settings).items():
        builder = builder.config(name, value)
    Handler.processor = TCLIService.Processor(Service(builder.enableHiveSupport().getOrCreate()))
    Handler.token = token
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
