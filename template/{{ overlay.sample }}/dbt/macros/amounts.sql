{# BigQuery wants NUMERIC bare and Spark knows only DECIMAL: the adapter knows. #}
{% macro decimal_type(precision, scale) -%}
    {{ api.Column.numeric_type('numeric', precision, scale) }}
{%- endmacro %}


{% macro amount(expression) -%}
    cast({{ expression }} as {{ decimal_type(16, 2) }})
{%- endmacro %}


{# Divides by a decimal: an integer division would lose the cents on most engines. #}
{% macro cents_to_amount(expression) -%}
    {{ amount('(' ~ expression ~ ') / 100.0') }}
{%- endmacro %}
