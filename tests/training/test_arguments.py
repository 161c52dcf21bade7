"""Checkpoints and configurations of older layouts: arguments in another spelling, the same run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import data_for, equal, fit, learner_of, weights

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.bcq import BCQ
from hindsight_rl.agents.crr import CRR
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.marwil import MARWIL
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.nets.network import Head, History, LatentNetwork, Network
from hindsight_rl.training.checkpoints.arguments import constructor_arguments, translated
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner

FORMER: dict[str, Any] = {
    "env": "CartPole-v1",
    "env_kwargs": {"sutton_barto_reward": True},
    "eval_task": [1.0],
    "eval_command": "lowered",
    "eval_max_steps": 9,
    "eval_every": 20,
    "eval_episodes": 3,
    "test_episodes": 4,
    "eval_seed": 5,
    "test_seed": 6,
}
CURRENT = Evaluation(
    env="CartPole-v1",
    env_kwargs={"sutton_barto_reward": True},
    task=[1.0],
    command="lowered",
    max_steps=9,
    every=20,
    episodes=3,
    test_episodes=4,
    seed=5,
    test_seed=6,
)


def test_former_arguments_become_the_evaluation() -> None:
    found = constructor_arguments({"tau": 0.1, "_name": "x"} | FORMER, IQL)
    assert found == {"tau": 0.1, "evaluation": CURRENT}
    nothing = {"env": None, "env_kwargs": None, "eval_task": None, "eval_every": 0}
    assert constructor_arguments(nothing, IQL) == {"evaluation": Evaluation()}
    assert translated({"eval_every": 3}, None) == {"evaluation": {"every": 3}}


def test_the_spelling_of_today_is_left_alone_and_counts() -> None:
    today = {"tau": 0.1, "evaluation": {"every": 7}, "network": {"hidden": [3]}, "head": "laplace"}
    for kind in (None, BC):
        assert translated(today, kind) == today
    former = {"eval_every": 1, "eval_seed": 2, "hidden": [4], "frequencies": 2}
    found = translated(today | former, BC)
    assert found["evaluation"] == {"every": 7, "seed": 2}
    assert found["network"] == {"hidden": [3], "frequencies": 2}


# As checkpoints before 2026-11 hold them, and what is made of them.
NETWORK: dict[str, Any] = {"hidden": [8, 8], "frequencies": 1}
CASES: list[tuple[type[Learner], dict[str, Any], dict[str, Any]]] = [
    (
        BC,
        NETWORK
        | {"head": "laplace", "spread": "per_state", "squash_mean": False, "relative_to": [1, 0]}
        | {"task_scale": None, "gate_task": False, "history": 0, "past_actions": True},
        {
            "network": Network(hidden=(8, 8), frequencies=1),
            "head": Head("laplace", spread="per_state", squash_mean=False, relative_to=(1, 0)),
        },
    ),
    (
        BC,  # beside a history frequencies did nothing
        NETWORK | {"head": "gaussian", "history": 2, "past_actions": True},
        {"network": Network(hidden=(8, 8)), "history": 2},
    ),
    (
        BC,
        NETWORK | {"past_actions": False, "history": 2},
        {"network": Network(hidden=(8, 8)), "history": History(2, actions=False)},
    ),
    (
        BCQ,
        NETWORK | {"behavior_hidden": [9], "latent": 3},
        {
            "network": Network(hidden=(8, 8), frequencies=1),
            "behavior": LatentNetwork(hidden=(9,), frequencies=1, latent=3),
        },
    ),
    (
        CRR,
        NETWORK | {"rule": "binary", "baseline": "max", "acting": "policy", "candidates": 5},
        {"network": Network(hidden=(8, 8), frequencies=1), "rule": "binary_max", "candidates": 0},
    ),
    (
        CRR,
        NETWORK | {"rule": "binary", "baseline": "mean", "acting": "critic_weighted", "tau": 0.5},
        {"network": Network(hidden=(8, 8), frequencies=1), "rule": "binary", "tau": 0.5},
    ),
    (
        MARWIL,
        NETWORK | {"target": "monte_carlo", "lambda_": 0.5},
        {"network": Network(hidden=(8, 8), frequencies=1), "lambda_": None},
    ),
    (
        MARWIL,
        NETWORK | {"target": "td_lambda", "lambda_": 0.5},
        {"network": Network(hidden=(8, 8), frequencies=1), "lambda_": 0.5},
    ),
]


@pytest.mark.parametrize(("kind", "former", "today"), CASES)
def test_former_arguments_make_the_same_learner(
    kind: type[Learner], former: dict[str, Any], today: dict[str, Any], tmp_path: Path
) -> None:
    found = constructor_arguments(former, kind)
    assert {name: found[name] for name in today} == today
    data = data_for(kind, None, {"lambda_": today["lambda_"]} if "lambda_" in today else None)
    learner = learner_of(kind, data.spec, **today)
    fit(learner, data, tmp_path, 3).save_checkpoint(tmp_path / "last.ckpt")
    payload = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del payload["content_hash"]
    kept = ("spec", "evaluation", "optimizer")
    held = {name: v for name, v in payload["hyper_parameters"].items() if name in kept}
    payload["hyper_parameters"] = held | former
    if kind is CRR and "candidates" in today:  # it was kept, though nothing was valued
        payload["state_dict"]["weighted.noise"] = torch.zeros(5, 1, 2)
    torch.save(payload, tmp_path / "former.ckpt")
    assert equal(weights(load_learner(tmp_path / "former.ckpt")), weights(learner))


@pytest.mark.parametrize(
    ("kind", "former", "message"),
    [
        (CRR, {"acting": "both"}, "acting is 'both': write candidates, 0 for the cloned policy"),
        (CRR, {"baseline": 3}, "baseline is 3: write rule, such as binary or binary_max"),
        (MARWIL, {"target": "n"}, "target is 'n': write lambda_, null for Monte Carlo returns"),
    ],
)
def test_former_values_that_never_were_raise(
    kind: type[Learner], former: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        translated(former, kind)


def test_arguments_of_a_learner_of_ones_own_keep_their_meaning() -> None:
    class Mine(Learner):
        def __init__(self, spec: Any = None, *, hidden: int = 3, **learner: Any) -> None:
            super().__init__(spec, **learner)

    own = {"hidden": 5, "target": "n", "spread": 1.0, "evaluation": {"every": 2}}
    assert translated(own, Mine) == own
    assert translated({"hidden": 5}, None) == {"hidden": 5}


def rewritten(path: Path, kind: type[Any], arguments: dict[str, Any], former: Any) -> Any:
    """Return a learner and write its checkpoint with the arguments of a former layout."""
    data = data_for(kind)
    learner = learner_of(kind, data.spec, **arguments)
    fit(learner, data, path.parent, 3).save_checkpoint(path)
    payload = torch.load(path, weights_only=True)
    del payload["content_hash"]
    for name in arguments:
        del payload["hyper_parameters"][name]
    payload["hyper_parameters"] |= former
    torch.save(payload, path)
    return learner


def test_a_checkpoint_of_the_former_layout_loads(tmp_path: Path) -> None:
    path = tmp_path / "former.ckpt"
    former = {**FORMER, "env": None}
    evaluation = constructor_arguments(former, BC)["evaluation"]
    learner = rewritten(path, BC, {"evaluation": evaluation}, former)
    loaded = load_learner(path)
    assert loaded.evaluation == evaluation and equal(weights(loaded), weights(learner))
    changed = load_learner(path, evaluation={"env": "CartPole-v1", "test_episodes": 1})
    assert (changed.evaluation.env, changed.evaluation.test_episodes) == ("CartPole-v1", 1)
    assert (changed.evaluation.seed, changed.evaluation.task) == (5, [1.0])
    started = learner_of(BC, data_for(BC).spec, weights_from=str(path), weight_seed=4)
    fit(started, data_for(BC), tmp_path, 0 + 1)
    assert started.evaluation == Evaluation()


@pytest.mark.parametrize(("acting", "candidates"), [("policy", 0), ("critic_weighted", 33)])
def test_which_policy_of_crr_acts_had_the_name_of_the_evaluation(
    acting: str, candidates: int, tmp_path: Path
) -> None:
    path = tmp_path / "crr.ckpt"
    former = {"evaluation": acting, "eval_every": 3}
    arguments = {"candidates": candidates, "evaluation": Evaluation(every=3)}
    rewritten(path, CRR, arguments, former)
    loaded = load_learner(path)
    assert loaded.hparams.candidates == candidates and loaded.evaluation == Evaluation(every=3)


def test_python_takes_the_spelling_of_today_only() -> None:
    with pytest.raises(TypeError, match="eval_every"):
        BC(data_for(BC).spec, eval_every=5)
