"""A word that is none of an argument's choices is refused by every learner, found by walking."""

import pytest
from relabelers import words_of
from small_fits import LEARNERS, data_for, learner_of

from hindsight_rl.agents.iql import IQL
from hindsight_rl.nets.network import Head
from hindsight_rl.nets.policy import Policy
from hindsight_rl.training.learner import Learner

CASES = [
    (kind, name)
    for kind in LEARNERS.values()
    for name in dict.fromkeys([*words_of(kind.__init__), *words_of(Learner.__init__)])
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{k.__name__}-{n}" for k, n in CASES])
def test_a_wrong_word_is_refused_with_the_choices(kind: type[Learner], name: str) -> None:
    spec = data_for(kind).spec
    with pytest.raises(ValueError, match=rf"^{name} is 'wrong', it must be '\w+'"):
        learner_of(kind, spec, **{name: "wrong"})


def test_the_walk_finds_what_learners_take() -> None:
    found = {(kind.__name__, name) for kind, name in CASES}
    assert {("MARWIL", "norm"), ("CRR", "rule"), ("IQL", "head"), ("IQL", "compile")} <= found


def test_words_of_a_base_class_are_checked_in_a_class_of_ones_own() -> None:
    class Mine(IQL):
        def __init__(self, spec: dict, **options: object) -> None:
            super().__init__(spec, **options)

    with pytest.raises(ValueError, match="head is 'gauss', .* Did you mean 'gaussian'?"):
        Mine(data_for(IQL).spec, head="gauss")


def test_a_policy_refuses_them_too() -> None:
    with pytest.raises(ValueError, match="spread is 'per-state', .* Did you mean 'per_state'?"):
        Policy(data_for(IQL).spec, head=Head(spread="per-state"))
