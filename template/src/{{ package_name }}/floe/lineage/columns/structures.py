"""Structures: values that the SQL itself builds of several parts, and access to their fields.

A field of a stored column counts as the whole column. Of a built value, such as `struct(a, b)`, a field has only some
of the origins: those of its part if the key proves which part it is, otherwise unknown ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from .model import UNKNOWN, ColumnLineage, combined
from .names import Names

BUILDERS = (
    *(exp.JSONArray, exp.JSONBObjectAgg, exp.JSONObject, exp.JSONObjectAgg, exp.Map, exp.MapCat, exp.MapInsert),
    *(exp.ObjectAgg, exp.ObjectInsert, exp.Struct, exp.ToMap, exp.Tuple, exp.VarMap, exp.ArraysZip, exp.JSONSet),
)
# The functions that sqlglot does not know.
UNKNOWN_BUILDERS = frozenset(
    [f"{kind}_{name}" for kind in ("json", "jsonb") for name in ("build_array", "build_object", "object", "array")]
    + ["array", "list_value", "list_zip", "map_from_arrays", "named_struct", "object"]
    + ["object_construct", "row", "row_to_json", "struct", "struct_insert", "struct_update"]
)
ACCESSES = (
    *(exp.GetExtract, exp.JSONBExtract, exp.JSONBExtractScalar, exp.JSONExtract, exp.JSONExtractArray),
    *(exp.JSONExtractScalar, exp.JSONKeys, exp.MapKeys, exp.MapPick, exp.StructExtract, exp.ArrayFirst, exp.ArrayLast),
    *(exp.ArraySlice, exp.JSONBDeleteAtPath, exp.JSONRemove, exp.MapDelete),
)
UNKNOWN_ACCESSES = frozenset(
    [f"{kind}_{name}" for kind in ("json", "jsonb") for name in ("extract_path", "extract_path_text", "query", "value")]
    + [f"{kind}_extract" for kind in ("array", "list", "map", "struct")]
    + ["element_at", "get", "get_ignore_case", "json_keys", "json_extract_string", "list_element", "list_first"]
    + ["list_last", "list_slice", "map_entries", "map_extract_value", "map_keys", "map_values", "object_delete"]
    + ["jsonb_set", "jsonb_set_lax", "json_replace", "map_filter"]  # these may drop a part
    + ["object_keys", "object_pick", "struct_keys", "struct_values", "try_element_at", "try_variant_get", "variant_get"]
)
# These return one of their values, or a list of them, as it is.
PASSES = (
    *(exp.AnyValue, exp.ArgMax, exp.ArgMin, exp.Array, exp.ArrayAgg, exp.First, exp.HavingMax, exp.Last, exp.Limit),
    *(exp.Order, exp.WithinGroup),
)


def with_structure(
    expression: exp.Expr, value: ColumnLineage, parts: Sequence[ColumnLineage], names: Names
) -> ColumnLineage:
    """Return the lineage of an expression of `parts`, which is `value` unless it accesses a field of a built value."""
    if not value.origins:
        return value
    name = expression.name.lower() if isinstance(expression, exp.Anonymous) else ""
    drops = names.minus_drops_fields and isinstance(expression, exp.Sub)
    is_access = drops or isinstance(expression, (exp.Bracket, *ACCESSES)) or name in UNKNOWN_ACCESSES
    if parts and parts[0].built and is_access:
        return _accessed(expression, parts[0], names)
    if isinstance(expression, exp.Struct):
        return replace(value, built=True, fields=_fields(expression, parts, names))
    is_built = isinstance(expression, BUILDERS) or name in UNKNOWN_BUILDERS
    if is_built or (isinstance(expression, exp.Array) and len(parts) > 1) or (name and _is_mixed(parts)):
        return replace(value, built=True)
    if isinstance(expression, PASSES):
        return replace(value, fields=_passed(parts))
    return value


def _accessed(expression: exp.Expr, base: ColumnLineage, names: Names) -> ColumnLineage:
    index = expression.args.get("expression") or next(iter(expression.args.get("expressions") or ()), None)
    if isinstance(index, exp.JSONPath) and not names.keeps_spelling:
        keys = [step for step in index.expressions if not isinstance(step, exp.JSONPathRoot)]
        is_plain = len(keys) == 1 and isinstance(keys[0], exp.JSONPathKey) and isinstance(keys[0].this, str)
        return base.field(keys[0].this) if is_plain else UNKNOWN
    if not isinstance(expression, exp.Bracket | exp.StructExtract) or not isinstance(index, exp.Literal):
        return UNKNOWN
    if index.is_string:
        return base.field(names.key(index.name))
    return base if base.fields else UNKNOWN


def _is_mixed(parts: Sequence[ColumnLineage]) -> bool:
    direct = {(o.table, o.column) for part in parts for o in part.origins if o.type == "DIRECT"}
    return len(direct) > 1


def _fields(struct: exp.Struct, parts: Sequence[ColumnLineage], names: Names) -> tuple[tuple[str, ColumnLineage], ...]:
    """Return the fields of a struct with a name, or none if a part may have several or an unknown one."""
    fields = []
    for item, part in zip(struct.expressions, parts, strict=False):
        key = item.this if isinstance(item, exp.PropertyEQ | exp.Column) else None
        if not isinstance(key, exp.Identifier | exp.Literal):
            return ()
        fields.append((names.key(key.name), part))
    return tuple(fields)


def _passed(parts: Sequence[ColumnLineage]) -> tuple[tuple[str, ColumnLineage], ...]:
    built = [part for part in parts if part.built]
    others = [part for part in parts if not part.built]
    if len(built) != 1 or any(origin.type == "DIRECT" for part in others for origin in part.origins):
        return ()
    return tuple((key, combined([part, *others])) for key, part in built[0].fields)
