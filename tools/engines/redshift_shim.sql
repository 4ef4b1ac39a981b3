-- What dbt-redshift asks of Redshift's catalog, and the functions of its cross-database macros, on PostgreSQL.
-- They stand in pg_catalog, where Redshift has them, so the server runs with allow_system_table_mods=on.

create function pg_catalog.getdate() returns timestamp
language sql stable as 'select localtimestamp(0)';

create function pg_catalog.dateadd(unit text, number numeric, moment timestamp) returns timestamp
language sql immutable as $$
    select moment + number::int * case unit
        when 'quarter' then interval '3 months'
        else ('1 ' || unit)::interval
    end
$$;

-- Redshift counts the boundaries that lie between, not whole units.
create function pg_catalog.datediff(unit text, earlier timestamp, later timestamp) returns bigint
language sql immutable as $$
    select case unit
        when 'year' then extract(year from later) - extract(year from earlier)
        when 'month' then
            (extract(year from later) - extract(year from earlier)) * 12
            + extract(month from later) - extract(month from earlier)
        when 'day' then later::date - earlier::date
        when 'hour' then
            extract(epoch from date_trunc('hour', later) - date_trunc('hour', earlier)) / 3600
    end::bigint
$$;

-- Late-binding views and external tables: PostgreSQL has none.
create function pg_catalog.pg_get_late_binding_view_cols() returns setof record
language sql stable as $$
    select null::name, null::name, null::name, null::varchar, null::int where false
$$;

create view pg_catalog.svv_external_columns as
select
    null::varchar as schemaname,
    null::varchar as tablename,
    null::varchar as columnname,
    null::varchar as external_type,
    null::int as columnnum,
    null::int as part_key
where false;
