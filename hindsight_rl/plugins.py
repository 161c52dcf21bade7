"""Plug-ins: importing what is found by name, so that short class names are known."""

import importlib
import pkgutil


def import_rooms(*rooms: str) -> None:
    """Import every module of the named rooms, ``"relabel"`` say, those of folders below included.

    Args:
        *rooms: Names of packages below ``hindsight_rl``.
    """
    for room in rooms:
        package = importlib.import_module(f"hindsight_rl.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
