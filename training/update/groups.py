"""Parameter groups: which parameters share an optimiser's rate, and move at the same updates."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn


def parameter_groups(
    networks: Mapping[str, nn.Module], rates: Mapping[str, float], apart: Collection[str]
) -> list[dict[str, Any]]:
    """Return the groups an optimiser is built from.

    Networks with a rate, a decay or an interval of their own form a group each; the others share
    one, because every group costs a kernel call per update.

    Args:
        networks: What is trained, by name.
        rates: Learning rates of single networks, by name.
        apart: Names of further networks that need a group of their own.

    Returns:
        Groups with ``params``, ``name`` and, where it is given, ``lr``; the shared one first.
    """
    groups: list[dict[str, Any]] = []
    shared: dict[str, Any] = {"params": [], "name": "shared"}
    for name, network in networks.items():
        parameters = list(network.parameters())
        if name in rates:
            groups.append({"params": parameters, "name": name, "lr": rates[name]})
        elif name in apart:
            groups.append({"params": parameters, "name": name})
        else:
            shared["params"] += parameters
    return [shared, *groups] if shared["params"] else groups


def check_names(names: Collection[str], networks: Mapping[str, nn.Module]) -> None:
    """Refuse rates and decays of networks that a learner does not have.

    Args:
        names: Names that were given.
        networks: What is trained, by name.

    Raises:
        ValueError: A name is no network's.
    """
    for name in names:
        if name not in networks:
            raise ValueError(f"'{name}' is no network of this learner: it has {list(networks)}")
