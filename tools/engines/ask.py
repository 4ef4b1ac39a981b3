"""A program that runs one query with a DB-API driver: JSON request on stdin, rows as JSON on stdout, values as text.

Runs by itself in the environment that has the driver, so it imports nothing of this repository.
"""

import json
import sys
from contextlib import closing
from importlib import import_module

if __name__ == "__main__":
    request = json.load(sys.stdin)
    with closing(import_module(request["module"]).connect(**request["connection"])) as connection:
        cursor = connection.cursor()
        cursor.execute(request["sql"])
        rows = [[None if value is None else str(value) for value in row] for row in cursor.fetchall()]
    json.dump(rows, sys.stdout)
