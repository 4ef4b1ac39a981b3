{# The adapter knows the type's name: BigQuery needs NUMERIC without arguments, Spark only has DECIMAL. #}
{% macro decimal_type(precision, scale) -%}
    {{ api.Column.numeric_type('numeric', precision, scale) }}
{%- endmacro %}


{% macro amount(expression) -%}
    cast({{ expression }} as {{ decimal_type(16, 2) }})
{%- endmacro %}


{# Divides by a decimal, because an integer division would lose the cents on most engines. #}
{% macro cents_to_amount(expression) -%}
    {{ amount('(' ~ expression ~ ') / 100.0') }}
{%- endmacro %}
