"""A word that is none of an argument's choices is refused by every relabeler and task family."""

from typing import Any

import pytest
from relabelers import example, relabelers, words_of

from hindsight_rl.tasks.family import TaskFamily

KINDS: list[type[Any]] = [
    *relabelers().values(),
    *(k for k in TaskFamily.__subclasses__() if k.__module__.startswith("hindsight_rl.")),
]
CASES = [(kind, name) for kind in KINDS for name in words_of(kind.__init__)]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{k.__name__}-{n}" for k, n in CASES])
def test_a_wrong_word_is_refused_with_the_choices(kind: type[Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is 'wrong', it must be '\w+'"):
        example(kind, **{name: "wrong"})


def test_the_walk_finds_what_relabelers_take() -> None:
    found = {(kind.__name__, name) for kind, name in CASES}
    assert {("ReturnLabel", "baseline"), ("TransitionInverseRL", "partition")} <= found
    assert {("GoalReaching", "kind"), ("ReturnTasks", "kind")} <= found
