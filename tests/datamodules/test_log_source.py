"""A log that experience is added to: it must name its entries as the environment does."""

import warnings
from types import SimpleNamespace

import pytest
from tiny_envs import Arms

from hindsight_rl.datamodules.sources.log import _check_names
from hindsight_rl.envs.interface import Interface
from hindsight_rl.logs.errors import LogError

ARMS = ["observations/arm/q", *(f"observations/arm-left[{i}]" for i in range(3))]


def check(names: list[str]) -> None:
    log = SimpleNamespace(info={"names": {"observation": names}})
    collector = SimpleNamespace(interface=Interface(Arms(), "Arms"), info={}, name="Arms")
    _check_names(log, collector, "log.npz")  # type: ignore[arg-type]  # stand-ins


def test_a_log_of_entries_in_another_order_is_refused() -> None:
    with pytest.raises(LogError, match=r"in another order: \[arm-left\[0\], .*, arm/q\]"):
        check(ARMS[1:] + ARMS[:1])


def test_a_log_of_the_same_entries_is_taken() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(ARMS)
