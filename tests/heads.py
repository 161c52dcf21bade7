"""Heads that keep several answers to one state apart, found by walking the words that name heads.

Imported as ``heads`` (``tests`` is on pytest's path).
"""

from importlib import import_module
from typing import get_args

from hindsight_rl.nets.network import HeadKind

SEVERAL: list[HeadKind] = [
    kind
    for kind in get_args(HeadKind)
    if import_module(f"hindsight_rl.nets.heads.{kind}").FAMILY.several
]
CHOICES = [
    (kind, acting)
    for kind in SEVERAL
    for acting in import_module(f"hindsight_rl.nets.heads.{kind}").FAMILY.choices
]
"""Each with the ways in which it chooses among them."""
