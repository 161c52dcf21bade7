"""One update: rates, decay, clipping by network, targets, and what the constructor refuses."""

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from lightning.pytorch.callbacks import Callback
from small_fits import data_for, equal, fit, learner_of, weights
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.relabel.returns import ScaleReward
from hindsight_rl.training.learner import Learner, LossTerms

SGD = functools.partial(torch.optim.SGD, lr=1.0)


def fitted(folder: Path, updates: int = 1, scale: float = 1.0, **arguments: Any) -> Any:
    """Return an IQL learner after some updates, and its weights before them."""
    callbacks = arguments.pop("callbacks", None)
    data = OfflineDataModule(episode_log(), [ScaleReward(scale)], batch_size=16, updates_per_step=8)
    learner = learner_of(IQL, data.spec, **arguments)
    before = weights(learner)
    fit(learner, data, folder, updates, callbacks=callbacks)
    return learner, before


def movement(learner: Learner, before: dict[str, Tensor], network: str) -> Tensor:
    """Return by how much the weights of a network moved, as one vector."""
    parts = [
        (value - before[name]).flatten()
        for name, value in learner.state_dict().items()
        if name.startswith(f"{network}.")
    ]
    return torch.cat(parts)


# --- clipping -------------------------------------------------------------------------------------


def test_networks_are_clipped_by_themselves(tmp_path: Path) -> None:
    """A huge gradient of the critic is cut to norm 2; the actor's, below 2, stays what it was.

    A plain gradient step at rate 1 moves by the gradient; rewards are about 1e6.
    """
    free, before = fitted(tmp_path, optimizer=SGD, scale=1e6)
    cut, _ = fitted(tmp_path, optimizer=SGD, scale=1e6, clip_norm=2.0)
    assert movement(free, before, "critic").norm() > 1e4
    assert movement(cut, before, "critic").norm().item() == pytest.approx(2.0, rel=1e-4)
    actor = movement(free, before, "actor")
    assert 0 < actor.norm() < 2.0
    torch.testing.assert_close(movement(cut, before, "actor"), actor)
    direction = [movement(learner, before, "critic") for learner in (free, cut)]
    cosine = torch.nn.functional.cosine_similarity(*direction, dim=0)
    assert cosine.item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0])
def test_limit_must_be_positive(clip_norm: float) -> None:
    with pytest.raises(ValueError, match=f"clip_norm is {clip_norm}, it must be above 0 or null"):
        learner_of(BC, data_for(BC).spec, clip_norm=clip_norm)


# --- rates ----------------------------------------------------------------------------------------


def rates(learner: Learner) -> dict[str, float]:
    """Return the rate of each trained network."""
    owner = {id(p): name for name, net in learner.networks().items() for p in net.parameters()}
    groups = learner.optimizers(use_pl_optimizer=False).param_groups
    return {owner[id(p)]: group["lr"] for group in groups for p in group["params"]}


class Rates(Callback):
    """Notes the rates after every update."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Note the rates."""
        self.seen.append(rates(pl_module))


def test_rates_of_single_networks(tmp_path: Path) -> None:
    plain = functools.partial(torch.optim.Adam, lr=1e-3)
    learner, _ = fitted(tmp_path, optimizer=plain, learning_rates={"actor": 1e-4, "value": 0.0})
    assert rates(learner) == {"actor": 1e-4, "critic": 1e-3, "value": 0.0}


def test_rate_0_holds_a_network(tmp_path: Path) -> None:
    learner, before = fitted(tmp_path, 10, learning_rates={"value": 0.0})
    assert (movement(learner, before, "value") == 0).all()
    assert (movement(learner, before, "actor") != 0).any()


def test_every_parameter_is_in_the_optimizer_once(tmp_path: Path) -> None:
    for arguments in ({}, {"decay": {"actor": 5}}, {"learning_rates": {"critic": 1.0, "value": 2}}):
        learner = learner_of(IQL, data_for(IQL).spec, **arguments)
        groups = learner.configure_optimizers().param_groups
        found = [id(p) for group in groups for p in group["params"]]
        expected = {id(p) for net in learner.networks().values() for p in net.parameters()}
        assert len(found) == len(set(found)) and set(found) == expected


@pytest.mark.parametrize("size", [1, 5])
def test_decay_is_a_cosine_to_0(size: int, tmp_path: Path) -> None:
    """Update number n, counted from 0, of horizon 10: rate / 2 * (1 + cos(pi n / 10)), then 0."""
    data = data_for(IQL, updates_per_step=size)
    rate = functools.partial(torch.optim.Adam, lr=1e-3)
    learner = learner_of(IQL, data.spec, optimizer=rate, decay={"actor": 10})
    seen = Rates()
    fit(learner, data, tmp_path, 15, callbacks=[seen])
    done = [update for update in range(15) if (update + 1) % size == 0]
    expected = [5e-4 * (1 + math.cos(math.pi * min(1.0, n / 10))) for n in done]
    assert [found["actor"] for found in seen.seen] == pytest.approx(expected, abs=1e-12)
    assert all(found["critic"] == found["value"] == 1e-3 for found in seen.seen)


def test_network_rests_after_its_decay(tmp_path: Path) -> None:
    done, _ = fitted(tmp_path, 10, decay={"actor": 10})
    later, _ = fitted(tmp_path, 30, decay={"actor": 10})
    assert equal(done.actor.state_dict(), later.actor.state_dict())
    assert not equal(done.value.state_dict(), later.value.state_dict())


def test_decay_starts_from_the_networks_own_rate(tmp_path: Path) -> None:
    seen = Rates()
    own = {"learning_rates": {"actor": 0.5}, "decay": {"actor": 2}}
    fitted(tmp_path, 2, optimizer=SGD, callbacks=[seen], **own)
    assert seen.seen[-1]["actor"] == pytest.approx(0.25)


@pytest.mark.parametrize("argument", ["learning_rates", "decay", "freeze"])
def test_unknown_network_is_refused(argument: str, tmp_path: Path) -> None:
    message = r"'policy' is no network of this learner: it has \['actor', 'value', 'critic'\]"
    with pytest.raises(ValueError, match=message):
        fitted(tmp_path, **{argument: {"policy": 1}})


def test_horizon_of_a_decay_must_be_positive() -> None:
    with pytest.raises(ValueError, match="decay of 'actor' is 0 updates, it must be at least 1"):
        learner_of(BC, data_for(BC).spec, decay={"actor": 0})
    with pytest.raises(ValueError, match="freeze of 'actor' is -1 updates, it must be at least 1"):
        learner_of(BC, data_for(BC).spec, freeze={"actor": -1})


class Tempered(BC):
    """Has a bare parameter, trained by a term of its own, every second update only."""

    def __init__(self, spec: Any = None, **arguments: Any) -> None:
        super().__init__(spec, **arguments)
        self.temperature = nn.Parameter(torch.tensor(4.0))
        self.calls = 0

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``actor`` and, when due, ``temperature``."""
        found = super().losses(batch)
        self.calls += 1
        if self.calls % 2:
            return found
        return LossTerms({**found.terms, "temperature": self.temperature.square()}, found.metrics)


def test_bare_parameter_is_trained_clipped_and_rated_as_a_network(tmp_path: Path) -> None:
    """The gradient 2 t = 8 is cut to 1, at rate 0.5, in updates 2 and 4 of 4: from 4 to 3."""
    data = data_for(BC, updates_per_step=4)
    options = {"optimizer": SGD, "learning_rates": {"temperature": 0.5}, "clip_norm": 1.0}
    learner = learner_of(Tempered, data.spec, **options)
    assert set(learner.networks()) == {"actor", "temperature"}
    fit(learner, data, tmp_path, 4)
    assert learner.temperature.item() == pytest.approx(3.0, abs=1e-5)


def test_term_that_is_not_due_leaves_its_network_alone(tmp_path: Path) -> None:
    """Adam would move on zeros by its momentum: after updates 2 and 3 the parameter is the same."""
    data = data_for(BC, updates_per_step=1)
    ends = []
    for updates in (2, 3):
        learner = learner_of(Tempered, data.spec)
        fit(learner, data, tmp_path, updates)
        ends.append(learner.temperature.item())
    assert ends[0] == ends[1] != 4.0


def test_target_has_no_rate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'target_critic' is no network of this learner"):
        fitted(tmp_path, learning_rates={"target_critic": 1.0})


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.005, 0.3, 1.0])
def test_target_moves_a_share_of_the_way(tau: float, tmp_path: Path) -> None:
    """After one update: (1 - tau) old + tau new, new being what follows the optimiser's step."""
    learner, before = fitted(tmp_path, tau=tau)
    for name, value in learner.target_critic.named_parameters():
        old, new = before[f"target_critic.{name}"], learner.get_parameter(f"critic.{name}")
        torch.testing.assert_close(value, (1 - tau) * old + tau * new, rtol=1e-6, atol=1e-7)
        assert not torch.equal(old, new)
    moved, way = (movement(learner, before, name).norm() for name in ("target_critic", "critic"))
    assert moved.item() == pytest.approx(tau * way.item(), rel=1e-2)


def test_target_is_moved_after_every_update(tmp_path: Path) -> None:
    """Three updates one by one follow the recursion exactly, three in one chunk the same."""
    target: dict[str, Tensor] = {}
    online = []
    for updates in range(4):
        learner, before = fitted(tmp_path, max(1, updates), tau=0.1)
        state = before if updates == 0 else learner.state_dict()
        online.append({name: value.clone() for name, value in state.items()})
    target = {name: online[0][f"target_{name}"] for name in online[0] if name.startswith("critic.")}
    for state in online[1:]:
        target = {name: torch.lerp(value, state[name], 0.1) for name, value in target.items()}
    for name, value in target.items():
        torch.testing.assert_close(online[-1][f"target_{name}"], value)


# --- precision ------------------------------------------------------------------------------------


class Watched(BC):
    """BC that notes the precision of matrix products its losses run under."""

    def losses(self, batch: TensorDict) -> LossTerms:
        self.seen = torch.get_float32_matmul_precision()
        return super().losses(batch)


def test_precision_of_products_holds_for_updates_only(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log(), batch_size=16, updates_per_step=8)
    learner = learner_of(Watched, data.spec, matmul_precision="medium")
    before = torch.get_float32_matmul_precision()
    fit(learner, data, tmp_path, 8)
    assert (learner.seen, torch.get_float32_matmul_precision()) == ("medium", before)
