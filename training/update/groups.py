"""Groups: which parameters share an optimiser's rate and move at once, which seeds a thread."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from hindsight_rl.nets.encoders.entries import encoder_rates

Phases = tuple[tuple[str, ...], ...]
"""Names of networks that move together, in the order in which they do; () for all at once."""


def parameter_groups(
    networks: Mapping[str, nn.Module],
    rates: Mapping[str, float],
    apart: Collection[str],
    options: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the groups an optimiser is built from.

    Networks with a rate, a decay or an interval of their own form a group each; the others share
    one, because every group costs a kernel call per update. Encoders with a rate of their own are a
    further group of their network's name, which follows it. What is frozen is in none.

    Args:
        networks: What is trained, by name.
        rates: Learning rates of single networks, by name.
        apart: Names of further networks that need a group of their own.
        options: The optimiser's options for single networks, by name: ``betas``, ``weight_decay``.

    Returns:
        Groups with ``params``, ``name`` and what is their own; the shared one first.
    """
    groups: list[dict[str, Any]] = []
    shared: dict[str, Any] = {"params": [], "name": "shared"}
    for name, network in networks.items():
        slow = encoder_rates(network)
        parameters = [p for p in trained(network) if p not in slow]
        if name in rates or name in apart or name in options or slow:
            rate = {"lr": rates[name]} if name in rates else {}
            group = {"params": parameters, "name": name} | dict(options.get(name, {})) | rate
            groups += [group] if parameters else []
            for own in dict.fromkeys(slow.values()):
                groups.append(group | {"params": [p for p in slow if slow[p] == own], "lr": own})
        else:
            shared["params"] += parameters
    return [shared, *groups] if shared["params"] else groups


def trained(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network that are not frozen, in their order."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def followed(target: nn.Module, online: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters of a target network that move, and those that they follow."""
    pairs = zip(target.parameters(), online.parameters(), strict=True)
    moving = [(one, other) for one, other in pairs if other.requires_grad]
    return [one for one, _ in moving], [other for _, other in moving]


def check_names(names: Collection[str], networks: Mapping[str, nn.Module]) -> None:
    """Check that rates and decays are of networks that a learner has.

    Args:
        names: Names that were given.
        networks: What is trained, by name.

    Raises:
        ValueError: A name is no network's.
    """
    for name in names:
        if name not in networks:
            raise ValueError(f"'{name}' is no network of this learner: it has {list(networks)}")


def check_phases(phases: Phases, networks: Mapping[str, nn.Module]) -> None:
    """Check that phases move every network once in an update.

    Args:
        phases: Names of the networks of each phase.
        networks: What is trained, by name.

    Raises:
        ValueError: A network is in no phase or in two, or a name is no network's.
    """
    named = [name for phase in phases for name in phase]
    if phases and sorted(named) != sorted(networks):
        raise ValueError(
            f"phases is {phases}: each of the networks {sorted(networks)} must stand in it once"
        )


def shares(count: int, threads: int) -> list[slice]:
    """Return equal shares of the seeds for as many threads as can have one."""
    most = max(number for number in range(1, min(count, threads) + 1) if count % number == 0)
    share = count // most
    return [slice(start, start + share) for start in range(0, count, share)]
