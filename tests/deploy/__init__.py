"""Tests of what deploys a project: Dockerfile, compose.yaml, Dagster's settings, the values of Dagster's Helm chart."""
