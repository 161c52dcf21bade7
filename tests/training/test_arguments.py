"""Checkpoints and configurations of older layouts: arguments in another spelling, the same run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import data_for, equal, fit, learner_of, weights

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.crr import CRR
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.training.checkpoints.arguments import constructor_arguments, translated
from hindsight_rl.training.checkpoints.load import load_learner

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
    assert constructor_arguments({"tau": 0.1, "_name": "x"} | FORMER) == {
        "tau": 0.1,
        "evaluation": CURRENT,
    }
    nothing = {"env": None, "env_kwargs": None, "eval_task": None, "eval_every": 0}
    assert constructor_arguments(nothing) == {"evaluation": Evaluation()}


def test_the_spelling_of_today_is_left_alone_and_counts() -> None:
    today = {"tau": 0.1, "evaluation": {"every": 7}}
    assert translated(today) == today
    assert translated(today | {"eval_every": 1, "eval_seed": 2})["evaluation"] == {
        "every": 7,
        "seed": 2,
    }


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
    evaluation = constructor_arguments(former)["evaluation"]
    learner = rewritten(path, BC, {"evaluation": evaluation}, former)
    loaded = load_learner(path)
    assert loaded.evaluation == evaluation and equal(weights(loaded), weights(learner))
    changed = load_learner(path, evaluation={"env": "CartPole-v1", "test_episodes": 1})
    assert (changed.evaluation.env, changed.evaluation.test_episodes) == ("CartPole-v1", 1)
    assert (changed.evaluation.seed, changed.evaluation.task) == (5, [1.0])
    started = learner_of(BC, data_for(BC).spec, weights_from=str(path), weight_seed=4)
    fit(started, data_for(BC), tmp_path, 0 + 1)
    assert started.evaluation == Evaluation()


@pytest.mark.parametrize("acting", ["policy", "critic_weighted"])
def test_which_policy_of_crr_acts_had_the_name_of_the_evaluation(
    acting: str, tmp_path: Path
) -> None:
    path = tmp_path / "crr.ckpt"
    former = {"evaluation": acting, "eval_every": 3}
    arguments = {"acting": acting, "evaluation": Evaluation(every=3)}
    rewritten(path, CRR, arguments, former)
    loaded = load_learner(path)
    assert loaded.acting == acting and loaded.evaluation == Evaluation(every=3)


def test_python_takes_the_spelling_of_today_only() -> None:
    with pytest.raises(TypeError, match="eval_every"):
        BC(data_for(BC).spec, eval_every=5)
