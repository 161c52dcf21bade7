"""Specs that differ in a few facts from another one.

Imported as ``specs`` (``tests`` is on pytest's path).
"""

from typing import Any

from hindsight_rl.spec import Spec


def changed(spec: Spec, **parts: Any) -> Spec:
    """Return a spec with other facts.

    Args:
        spec: The other one, left as it is.
        **parts: New facts of a part by name, such as ``action={"low": None}``; what is no
            dictionary replaces the whole part.

    Returns:
        The spec.
    """
    facts = spec.to_dict()
    for part, given in parts.items():
        facts[part] = facts[part] | given if isinstance(given, dict) else given
    return Spec.from_dict(facts)
