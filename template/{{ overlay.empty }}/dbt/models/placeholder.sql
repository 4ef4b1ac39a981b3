-- Dagster needs at least one model to load; replace this one with yours.
select 1 as id
