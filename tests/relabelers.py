"""The relabelers of the house, found by walking their room, and one of each.

Imported as ``relabelers`` (``tests`` is on pytest's path). A new relabeler is tested without being
entered anywhere.
"""

import inspect
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from hindsight_rl.keys import TASK
from hindsight_rl.plugins import import_rooms
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.experts import ExpertSource
from hindsight_rl.relabel.learned_reward import RewardSource
from hindsight_rl.relabel.relabeler import Relabeler

# A relabeler for each key that tests of learners and relabelers need: the simplest that writes it.
WRITERS = {
    "return_to_go": "ReturnToGo",
    "weight": "ReturnWeight",
    "task": "FutureGoal",
    "discount": "NStep",
    "advantage": "LinearAdvantage",
    "label": "EpisodeLabel",
    "expert_action": "ExpertLabels",
}


class Sums:
    """A model of rewards for every log: the sum of what is observed, and minus that of actions."""

    spec = None
    takes_task = False

    def rewards(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return two members ``[2, N]``."""
        seen, done = observation.sum(-1), action.reshape(len(action), -1).sum(-1)
        return torch.stack([seen, seen - done])


# What stands for an argument without a default, by its type.
_STAND_INS: dict[Any, Any] = {
    float: 0.5,
    int: 3,
    Sequence[Sequence[float]]: [[0.0, 1.0], [1.0, 0.0]],
    ExpertSource: "stand_ins:first_numbers",
    RewardSource: Sums(),
    Sequence[RewardSource]: [Sums(), Sums()],
}
# What relabelers need to go with the logs of the tests: what tells two sides apart, and a bonus
# that may be on a log to which nothing is added.
_SIDES: dict[str, dict[str, Any]] = {
    "DiscriminatorReward": {"expert": "next.terminated"},
    "DynamicsGap": {"target": "next.terminated"},
} | {
    name: {"sign": "penalty"}
    for name in ("CountBonus", "RND", "DisagreementBonus", "StateMarginalMatching")
}


def relabelers() -> dict[str, type[Relabeler]]:
    """Return the classes by name, the base class left out."""
    import_rooms("relabel", "tasks")
    found: dict[str, type[Relabeler]] = {}
    todo = Relabeler.__subclasses__()
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        # Of the house only: other tests define relabelers too. Those with parts missing are bases.
        if kind.__module__.startswith("hindsight_rl.") and not _unfinished(kind):
            found[kind.__name__] = kind
    return found


def _unfinished(kind: type[Relabeler]) -> bool:
    """Return whether a class leaves methods to others."""
    return any(getattr(getattr(kind, n), "__isabstractmethod__", False) for n in dir(kind))


def words_of(function: Callable[..., Any]) -> list[str]:
    """Return the arguments that are one of a few words, those that may be something else too."""
    found = []
    for name, hint in get_type_hints(function).items():
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        found += [name for part in parts if get_origin(part) is Literal]
    return found


def example(kind: type[Relabeler], /, **changed: Any) -> Relabeler:
    """Return a relabeler with its defaults but for some, and stand-ins for what has none."""
    needed = [
        argument
        for argument in inspect.signature(kind).parameters.values()
        if argument.default is argument.empty
    ]
    odd = [argument.name for argument in needed if argument.annotation not in _STAND_INS]
    assert not odd, f"{kind.__name__}: give {odd} defaults, or a type that tests can stand in for"
    standing = {argument.name: _STAND_INS[argument.annotation] for argument in needed}
    return kind(**standing | _SIDES.get(kind.__name__, {}) | changed)


class SkillsOfEpisodes(Relabeler):
    """A log whose episodes each followed one of three skills."""

    def prepare(self, log: LogView) -> "SkillsOfEpisodes":
        """Return a copy with the tasks of the episodes."""
        skill = torch.nn.functional.one_hot(log.column("episode") % 3, 3).float()
        return self.bound(columns={TASK: skill})


def chain(kind: type[Relabeler]) -> list[Relabeler]:
    """Return one of a kind as the last part, behind those that write the columns it reads.

    Tasks are not among them: logs of the tests have tasks, if not of the kind that it takes.
    """
    last, known = example(kind), relabelers()
    needed = [WRITERS[key] for key in last.in_keys if key in WRITERS and key != "task"]
    skills = [SkillsOfEpisodes()] if kind.__name__ == "DIAYN" else []
    return [*(example(known[name]) for name in needed), *skills, last]
