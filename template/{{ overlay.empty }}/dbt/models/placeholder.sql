-- Dagster needs one model to load; replace this one by yours.
select 1 as id
