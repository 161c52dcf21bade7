"""Phases: networks that move one after the other within an update, compiled as they do alone."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit
from tensordict import TensorDict
from torch import nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.evaluation import Evaluation, episodes
from hindsight_rl.training.learner import Learner, LossTerms

RATE = 0.1


class Chase(Learner):
    """One number goes to 1, the other to the first number; no policy.

    L_lead = (lead - 1)^2 / 2,   L_chaser = (chaser - lead)^2 / 2
    """

    in_keys = ("observation",)
    acts = False

    def __init__(self, spec: Any = None, **learner: Any) -> None:
        super().__init__(
            spec, optimizer=lambda params: torch.optim.Adam(params, lr=RATE), **learner
        )
        self.lead = nn.Linear(1, 1, bias=False)
        self.chaser = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.lead.weight.fill_(0.0)
            self.chaser.weight.fill_(0.05)

    def losses(self, batch: TensorDict) -> LossTerms:
        one = torch.ones(len(batch), 1)
        lead, chaser = self.lead(one), self.chaser(one)
        terms = {
            "lead": 0.5 * (lead - 1.0).square().mean(),
            # Not detached on purpose: only the phase keeps it from pulling the lead back.
            "chaser": 0.5 * (chaser - lead).square().mean(),
        }
        return LossTerms(terms, {"gap": (lead - chaser).abs().mean().detach()})


class LeadFirst(Chase):
    """The chaser sees where the lead has gone."""

    phases = (("lead",), ("chaser",))


class ChaserFirst(Chase):
    """The chaser sees where the lead was."""

    phases = (("chaser",), ("lead",))


class Forgetful(Chase):
    """A network stands in no phase."""

    phases: ClassVar[Any] = (("lead",),)


def fitted(
    kind: type[Chase], folder: Path, updates: int = 1, seeds: int = 1, **options: Any
) -> Chase:
    data = OfflineDataModule(episode_log(), batch_size=4, updates_per_step=4)
    learner = kind(data.spec, seeds=seeds, **options)
    fit(learner, data, folder, updates)
    return learner


def numbers(learner: Chase) -> tuple[float, float]:
    return learner.lead.weight.item(), learner.chaser.weight.item()


@pytest.mark.parametrize("compile_", ["off", "update"])
@pytest.mark.parametrize(
    ("kind", "chaser"),
    [
        # Adam's first step is the rate, against the gradient's sign. The lead goes from 0 to 0.1.
        # Then 0.05 - 0.1 < 0: the chaser goes up, to 0.15.
        (LeadFirst, 0.15),
        # 0.05 - 0 > 0: the chaser goes down, to -0.05.
        (ChaserFirst, -0.05),
    ],
)
def test_order_matters(kind: type[Chase], chaser: float, compile_: str, tmp_path: Path) -> None:
    learner = fitted(kind, tmp_path, compile=compile_)
    assert numbers(learner) == pytest.approx((0.1, chaser), abs=1e-5)


def test_a_term_moves_no_network_of_another_phase(tmp_path: Path) -> None:
    """The chaser's term pulls at the lead; summed, the lead's first gradient is -1 - 0.05."""
    alone = fitted(LeadFirst, tmp_path / "a", 40, compile="off", clip_norm=None)
    assert alone.lead.weight.item() == pytest.approx(1.0, abs=0.2)
    apart, together = (
        numbers(fitted(kind, tmp_path / kind.__name__, 7, compile="off"))
        for kind in (LeadFirst, Chase)
    )
    assert apart[0] != pytest.approx(together[0], abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.3}, {"decay": {"lead": 12}}])
@pytest.mark.parametrize("kind", [LeadFirst, ChaserFirst])
def test_compiled_equals_eager(kind: type[Chase], options: Any, tmp_path: Path) -> None:
    eager = fitted(kind, tmp_path / "eager", 12, compile="off", **options)
    graph = fitted(kind, tmp_path / "graph", 12, compile="update", **options)
    assert numbers(graph) == pytest.approx(numbers(eager), abs=1e-6)
    assert graph.latest == pytest.approx(eager.latest, abs=1e-6)
    assert {"train/lead", "train/chaser", "train/gap"} <= set(graph.latest)


def test_several_seeds_have_phases_too(tmp_path: Path) -> None:
    alone = fitted(LeadFirst, tmp_path / "one", 5, compile="off")
    several = fitted(LeadFirst, tmp_path / "two", 5, seeds=2, compile="off")
    for _ in several.each_seed():
        assert numbers(several) == pytest.approx(numbers(alone), abs=1e-6)


def test_every_network_has_its_phase(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"each of the networks \['chaser', 'lead'\] must stand"):
        fitted(Forgetful, tmp_path)


def test_options_of_the_optimiser_are_those_of_a_network(tmp_path: Path) -> None:
    class Restless(LeadFirst):
        optimizer_options: ClassVar[Any] = {"chaser": {"betas": (0.0, 0.9)}}

    for compile_ in ("off", "update"):
        learner = fitted(Restless, tmp_path / compile_, 3, compile=compile_)
        groups = {group["name"]: group["betas"] for group in learner.optimizers().param_groups}
        assert groups == {"lead": (0.9, 0.999), "chaser": (0.0, 0.9)}
    plain = fitted(LeadFirst, tmp_path / "plain", 3, compile="off")
    assert numbers(learner)[1] != pytest.approx(numbers(plain)[1], abs=1e-4)


def test_a_learner_without_a_policy(tmp_path: Path) -> None:
    """It is fitted and validated; what needs a policy says that there is none."""
    data = OfflineDataModule(episode_log(), batch_size=4, updates_per_step=4, validation=0.3)
    learner = LeadFirst(data.spec)
    fit(learner, data, tmp_path, 4, val_check_interval=4)
    assert "validation/lead" in learner.latest
    assert "validation/action_error" not in learner.latest
    with pytest.raises(ValueError, match="LeadFirst fits no policy"):
        episodes(learner, 1, 0)
    with pytest.raises(ValueError, match="LeadFirst fits no policy: leave the environment"):
        LeadFirst(data.spec, evaluation=Evaluation(env="Pendulum-v1"))
