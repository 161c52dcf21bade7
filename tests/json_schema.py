"""As much of JSON Schema as the contract's uses, so that the tests need no package for it.

Imported as ``json_schema``. An unknown keyword is an error, so nothing of a schema goes unchecked.
"""

import re
from typing import Any

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
_NOTES = {"$schema", "$defs", "title", "description"}


def errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Return what of a value breaks a schema; an empty list if nothing does."""
    found: list[str] = []
    for word, rule in schema.items():
        if word in _NOTES:
            continue
        found += _CHECKS[word](value, rule, schema, root, at)
    return found


def _ref(value: Any, rule: str, schema: Any, root: dict[str, Any], at: str) -> list[str]:
    return errors(value, root["$defs"][rule.removeprefix("#/$defs/")], root, at)


def _type(value: Any, rule: Any, schema: Any, root: Any, at: str) -> list[str]:
    kinds = [rule] if isinstance(rule, str) else rule
    fits = any(
        isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    )
    return [] if fits else [f"{at} is no {' or '.join(kinds)}"]


def _any_of(value: Any, rule: list[Any], schema: Any, root: Any, at: str) -> list[str]:
    tried = [errors(value, option, root, at) for option in rule]
    return [] if [] in tried else min(tried, key=len)


def _properties(value: Any, rule: dict[str, Any], schema: Any, root: Any, at: str) -> list[str]:
    shared = [name for name in rule if isinstance(value, dict) and name in value]
    return [e for name in shared for e in errors(value[name], rule[name], root, f"{at}.{name}")]


def _others(value: Any, rule: Any, schema: Any, root: Any, at: str) -> list[str]:
    names = set(value) - set(schema.get("properties", ())) if isinstance(value, dict) else ()
    return [e for name in names for e in errors(value[name], rule, root, f"{at}.{name}")]


def _items(value: Any, rule: Any, schema: Any, root: Any, at: str) -> list[str]:
    listed = value if isinstance(value, list) else []
    return [e for i, each in enumerate(listed) for e in errors(each, rule, root, f"{at}[{i}]")]


def _required(value: Any, rule: list[str], schema: Any, root: Any, at: str) -> list[str]:
    missing = [name for name in rule if isinstance(value, dict) and name not in value]
    return [f"{at}.{name} is missing" for name in missing]


def _compare(word: str, fits: Any, kind: Any) -> Any:
    def check(value: Any, rule: Any, schema: Any, root: Any, at: str) -> list[str]:
        judged = isinstance(value, kind) and not isinstance(value, bool)
        return [f"{at} breaks {word} {rule}"] if judged and not fits(value, rule) else []

    return check


_NUMBER, _LISTED, _TEXT = (int, float), list, str
_CHECKS: dict[str, Any] = {
    "$ref": _ref,
    "type": _type,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _others,
    "items": _items,
    "required": _required,
    "enum": lambda v, r, s, root, at: [] if v in r else [f"{at} is none of {r}"],
    "const": lambda v, r, s, root, at: [] if v == r else [f"{at} is not {r}"],
    "minimum": _compare("minimum", lambda v, r: v >= r, _NUMBER),
    "maximum": _compare("maximum", lambda v, r: v <= r, _NUMBER),
    "exclusiveMinimum": _compare("exclusiveMinimum", lambda v, r: v > r, _NUMBER),
    "minItems": _compare("minItems", lambda v, r: len(v) >= r, _LISTED),
    "maxItems": _compare("maxItems", lambda v, r: len(v) <= r, _LISTED),
    "minProperties": _compare("minProperties", lambda v, r: len(v) >= r, dict),
    "minLength": _compare("minLength", lambda v, r: len(v) >= r, _TEXT),
    "pattern": _compare("pattern", lambda v, r: re.search(r, v) is not None, _TEXT),
}
