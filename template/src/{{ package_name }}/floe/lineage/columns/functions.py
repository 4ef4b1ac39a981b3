"""Functions that sqlglot does not know, by engine: aggregates, and functions of single values.

A name in none of these lists may be anything, such as an aggregate or a generator of rows that the owner wrote.
"""

from __future__ import annotations

from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.databricks import Databricks
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.postgres import Postgres
from sqlglot.dialects.redshift import Redshift
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.dialects.spark import Spark

from .parsing import UNIT_FUNCTIONS
from .structures import UNKNOWN_ACCESSES, UNKNOWN_BUILDERS

SPARK_AGGREGATES = (
    "bitmap_and_agg count_min_sketch every histogram_numeric hll_sketch_agg hll_union_agg kll_merge_agg_bigint"
    " kll_merge_agg_double kll_merge_agg_float kll_sketch_agg_bigint kll_sketch_agg_double kll_sketch_agg_float mean"
    " measure schema_of_json_agg schema_of_variant_agg some std theta_intersection_agg theta_sketch_agg theta_union_agg"
    " try_avg try_sum tuple_intersection_agg_double tuple_intersection_agg_integer tuple_sketch_agg_double"
    " tuple_sketch_agg_integer tuple_union_agg_double tuple_union_agg_integer"
)
AGGREGATES = {
    BigQuery: "hll_count.init hll_count.merge hll_count.merge_partial kll_quantiles.init_float64"
    " kll_quantiles.init_int64 kll_quantiles.merge_float64 kll_quantiles.merge_int64 kll_quantiles.merge_partial"
    " kll_quantiles.merge_point_float64 kll_quantiles.merge_point_int64 st_centroid_agg st_extent st_union_agg",
    Databricks: SPARK_AGGREGATES,
    DuckDB: "arbitrary arg_max_null arg_max_nulls_last arg_min_null arg_min_nulls_last bitstring_agg combine_aggr"
    " count_star decimal_average entropy favg fsum geomean geometric_mean histogram histogram_exact json_group_array"
    " json_group_object json_group_structure kahan_sum kurtosis_pop lttb mad mean product reservoir_quantile sem"
    " sum_no_overflow sumkahan variant_group_array variant_group_object wavg weighted_avg",
    Postgres: "every json_agg_strict json_arrayagg json_object_agg_strict json_object_agg_unique"
    " json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg_strict jsonb_object_agg_unique"
    " jsonb_object_agg_unique_strict range_agg range_intersect_agg xmlagg",
    Redshift: "hll_combine hll_create_sketch",
    Snowflake: "datasketches_hll datasketches_hll_accumulate datasketches_hll_combine hll_accumulate hll_combine",
    Spark: SPARK_AGGREGATES,
}
AGGREGATE_NAMES: dict[type[Dialect], frozenset[str]] = {
    dialect: frozenset(names.split()) for dialect, names in AGGREGATES.items()
}
# Aggregates that return one of the values of their first argument and only compare those of the second.
CHOOSING_AGGREGATES = frozenset({"arg_max_null", "arg_max_nulls_last", "arg_min_null", "arg_min_nulls_last"})

# Functions that compute one value from one row, in all engines that have them.
SCALARS = UNIT_FUNCTIONS | UNKNOWN_ACCESSES | UNKNOWN_BUILDERS | {"to_json", "to_jsonb", "trunc"}
SPARK_SCALARS = (
    "aes_decrypt aes_encrypt array_repeat array_union arrays_overlap assert_true bigint bin binary bround btrim"
    " cardinality conv crc32 date_part datepart decimal e expm1 find_in_set forall format_number from_csv hash"
    " hll_sketch_estimate hll_union hypot input_file_name isnotnull isnull java_method json_array_length log1p"
    " luhn_check make_date make_dt_interval make_timestamp_ltz make_timestamp_ntz make_ym_interval map_concat"
    " map_filter map_zip_with mask monotonically_increasing_id now octet_length pmod positive printf reflect regexp"
    " schema_of_csv schema_of_json sentences shiftrightunsigned smallint spark_partition_id timestamp_micros"
    " timestamp_millis timestamp_seconds tinyint to_csv to_timestamp_ltz to_timestamp_ntz to_varchar transform_keys"
    " transform_values try_aes_decrypt try_to_binary try_to_number try_to_timestamp url_decode url_encode version"
    " weekday xpath xpath_boolean xpath_double xpath_float xpath_int xpath_long xpath_number xpath_short xpath_string"
    " xxhash64 zip_with"
)
DUCKDB_SCALARS = (
    "age aggregate ago alias array_aggr array_aggregate array_apply array_cosine_distance array_cosine_similarity"
    " array_cross_product array_distance array_dot_product array_grade_up array_has_any array_indexof"
    " array_inner_product array_negative_dot_product array_negative_inner_product array_pop_back array_pop_front"
    " array_push_back array_push_front array_reduce array_resize array_reverse_sort array_select array_sort"
    " array_to_json array_transform array_unique array_value array_where array_zip bar base64 bin bit_count"
    " bit_position bitstring can_cast_implicitly cardinality cast_to_type century constant_or_null current_setting"
    " damerau_levenshtein date_part date_sub datepart datesub days_in_month decade divide enum_code enum_first"
    " enum_last enum_range enum_range_boundary epoch_ns epoch_us equi_width_bins era error even fdiv fmod format_bytes"
    " from_binary from_json_strict gamma gcd get_current_timestamp getvariable grade_up greatest_common_divisor"
    " hamming hash isfinite isoyear jaccard jaro_similarity json_array_length json_contains json_deep_merge"
    " json_exists json_insert json_merge_patch json_normalize json_pretty json_quote json_replace json_structure"
    " json_transform json_transform_strict json_valid julian lcm least_common_multiple left_grapheme length_grapheme"
    " lgamma list_aggr list_aggregate list_any_value list_apply list_approx_count_distinct list_avg list_bit_and"
    " list_bit_or list_bit_xor list_bool_and list_bool_or list_cat list_cosine_similarity list_count list_distinct"
    " list_dot_product list_entropy list_grade_up list_has_all list_histogram list_indexof list_inner_product"
    " list_intersect list_kurtosis list_mad list_median list_min list_mode list_negative_dot_product"
    " list_negative_inner_product list_pack list_position list_product list_reduce list_resize list_reverse"
    " list_reverse_sort list_select list_sem list_skewness list_sort list_stddev_pop list_stddev_samp list_string_agg"
    " list_sum list_unique list_var_pop list_var_samp list_where make_timestamp_ms make_timestamp_ns make_timestamptz"
    " map_concat map_contains map_contains_entry map_contains_value md5_number md5_number_lower md5_number_upper"
    " microsecond millennium millisecond mismatches multiply nanosecond nextafter nextval nfc_normalize now"
    " octet_length ord parse_dirname parse_dirpath parse_filename parse_formatted_bytes parse_path path_join prefix"
    " printf regexp_escape regexp_split_to_array replace_type right_grapheme round_even roundbankers set_bit signbit"
    " st_asgeojson st_astext st_geomfromgeojson st_geomfromwkb stats strip_accents strlen struct_concat"
    " struct_contains struct_extract_at struct_has struct_indexof struct_position substring_grapheme subtract suffix"
    " timezone timezone_hour timezone_minute to_base to_centuries to_decades to_hours to_microseconds to_millennia"
    " to_milliseconds to_minutes to_months to_quarters to_seconds to_weeks to_years transaction_timestamp try_strptime"
    " txid_current unbin union_extract union_tag union_value url_decode url_encode uuid_extract_timestamp"
    " uuid_extract_version uuidv4 uuidv7 variant_extract variant_typeof weekday yearweek"
)
POSTGRES_SCALARS = (
    "acosd age area array_dims array_fill array_lower array_ndims array_positions array_replace array_sample"
    " array_shuffle array_to_json array_to_tsvector array_upper asind atan2d atand box broadcast cardinality center"
    " clock_timestamp convert_from convert_to cosd cotd currval datemultirange daterange diagonal diameter erf erfc"
    " family format_type gcd get_byte height hostmask is_normalized isclosed isempty isfinite isopen json_array_length"
    " json_populate_record json_to_record json_to_tsvector json_typeof jsonb_array_length jsonb_insert"
    " jsonb_path_exists jsonb_path_match jsonb_path_query_array jsonb_path_query_first jsonb_populate_record"
    " jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_tsvector jsonb_typeof lastval"
    " lcm lower_inc lower_inf make_date make_timestamptz masklen min_scale netmask nextval npoints num_nonnulls"
    " num_nulls nummultirange numnode numrange octet_length parse_ident phraseto_tsquery plainto_tsquery quote_ident"
    " quote_literal quote_nullable radius random_normal regexp_match regexp_split_to_array scale set_bit set_byte"
    " set_masklen setweight sind slope statement_timestamp strip tand to_ascii to_oct to_tsquery to_tsvector"
    " transaction_timestamp trim_array trim_scale ts_delete ts_filter ts_headline ts_rank ts_rank_cd ts_rewrite"
    " tsquery_phrase tsrange tstzmultirange tstzrange tsvector_to_array txid_current unistr upper_inc upper_inf"
    " websearch_to_tsquery width xml_is_well_formed xmlcomment xmlexists xpath xpath_exists"
)
# Only of engines in which a function may also generate rows.
SCALAR_NAMES: dict[type[Dialect], frozenset[str]] = {
    Databricks: frozenset(SPARK_SCALARS.split()),
    DuckDB: frozenset(DUCKDB_SCALARS.split()),
    Postgres: frozenset(POSTGRES_SCALARS.split()),
    Spark: frozenset(SPARK_SCALARS.split()),
}
