{#
    Differences between engines, resolved when dbt runs, so that the same project builds on DuckDB
    on a laptop and on the warehouse in production. Only the file format is set elsewhere, in
    dbt_project.yml, because YAML cannot call a macro.
#}


{# Each strategy replaces the rows of a key or day, so that a run can be repeated. #}
{% macro incremental_strategy() %}
    {%- if target.type == 'spark' -%}
        {{ return('merge' if spark_can_merge() else 'insert_overwrite') }}
    {%- elif target.type in ('bigquery', 'databricks', 'snowflake') -%}
        {{ return('merge') }}
    {%- else -%}
        {# PostgreSQL supports MERGE only from version 15 on. #}
        {{ return('delete+insert') }}
    {%- endif -%}
{% endmacro %}


{# A partition for the engines that prune or overwrite by partition; the others cluster on their own. #}
{% macro day_partition(column_name) %}
    {%- if target.type == 'bigquery' -%}
        {{ return({'field': column_name, 'data_type': 'date', 'granularity': 'month'}) }}
    {%- elif target.type == 'spark' and not spark_can_merge() -%}
        {{ return(column_name) }}
    {%- else -%}
        {{ return(none) }}
    {%- endif -%}
{% endmacro %}


{% macro spark_can_merge() %}
    {{ return(env_var('SPARK_FILE_FORMAT', 'iceberg') in ('delta', 'hudi', 'iceberg')) }}
{% endmacro %}
