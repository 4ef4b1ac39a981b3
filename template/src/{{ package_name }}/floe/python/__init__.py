"""Steps of Python code, such as assets, asset checks and ops, which are observed as dbt's nodes are."""
