"""A learned reward in place of the log's: what a fitted ensemble gives for every step."""

import warnings
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_choices, check_ranges, within
from hindsight_rl.keys import ACTION, OBSERVATION, REWARD, TASK, Key, key_name
from hindsight_rl.maths.preferences import Aggregate, aggregate, standardised
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.kept_reward import kept_reward
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.file import read_checkpoint
from hindsight_rl.training.checkpoints.load import load_learner


@runtime_checkable
class Rewards(Protocol):
    """A model of rewards: ``RewardModel``, or whatever gives a reward for steps."""

    @property
    def spec(self) -> Spec | None:
        """What it takes; ``None`` for anything."""

    @property
    def takes_task(self) -> bool:
        """Whether rewards depend on the task of the row."""

    def rewards(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return what every member gives for steps, ``[E, N]``, in a unit of its own."""


RewardSource = str | Path | Rewards
"""Path of a checkpoint, from Python a model too."""

LEAST_ACCURACY = 0.6
"""Share of held-out answers that a model of rewards must have found right; chance finds .5."""

_TOGETHER = 8192  # rows judged together
_NUMBERS = 1 << 25  # of what is seen of them: images are judged fewer at a time


class LearnedReward(Relabeler):
    """The reward is that of a fitted model, standardised over the log.

    Answers about which segment is better fix neither the zero nor the unit of a reward. So each
    member of the ensemble is brought to mean 0 and standard deviation 1 over the rows that may be
    drawn, then all become one number, which is standardised again, cut at ``clip`` and shifted by
    ``alive``. Log and termination stay as they are.

    Where episodes end by a success or a failure, the zero matters: a reward of mean 0 says that
    ending is as good as going on. Set ``alive`` above 0 where ending is bad, below 0 where it is
    what is wanted.

    Args:
        checkpoint: Path of a checkpoint of a ``RewardModel``, or of a run with
            ``DiscriminatorReward``: then f counts, of AIRL g alone; from Python a model too.
        how: How members become one: ``"mean"``; ``"min"``, the worst of them; or ``"mean-std"``,
            the mean less ``coefficient`` standard deviations over members. The latter two doubt
            what the answers leave open.
        coefficient: Of ``"mean-std"``, at least 0.
        clip: Largest size before ``alive`` is added, standard deviations, above 0.
        alive: Added to every step, standard deviations, of any sign.
        least_accuracy: Share of held-out answers, in [0, 1], that a ``RewardModel`` must have found
            right in its last validation; a policy would find the places where it is wrong. One
            that was never validated is taken with a warning. 0 takes any.

    Raises:
        ValueError: An argument is out of range, the checkpoint cannot be read or is of no model of
            rewards, the model knows held-out answers too badly, or (``prepare``) it is of another
            kind of log.

    Reference:
        Christiano et al. 2017, arXiv 1706.03741, section 2.2.1; Coste et al. 2023, arXiv
        2310.02743, eq. 3 and 4.
    """

    in_keys = (ACTION,)
    out_keys = (REWARD,)

    def __init__(
        self,
        checkpoint: RewardSource,
        how: Aggregate = "mean",
        coefficient: float = 1.0,
        clip: float = 5.0,
        alive: float = 0.0,
        least_accuracy: float = LEAST_ACCURACY,
    ) -> None:
        super().__init__()
        check_choices(LearnedReward.__init__, locals())
        check_ranges(at_least(0, coefficient=coefficient), above(0, clip=clip))
        check_ranges(within("[0, 1]", least_accuracy=least_accuracy))
        stored = isinstance(checkpoint, (str, Path))
        self.name = str(checkpoint) if stored else type(checkpoint).__name__
        model = _loaded(self.name) if stored else checkpoint
        if not isinstance(model, Rewards):
            raise ValueError(
                f"{self.name}: {type(model).__name__} gives no rewards: give a checkpoint of "
                "RewardModel (hindsight fit --config reward_model), or of a run with "
                "DiscriminatorReward"
            )
        if hasattr(model, "accuracy"):
            _check_accuracy(self.name, model.accuracy, least_accuracy)
        self.model: Rewards = model
        self.how, self.coefficient, self.clip, self.alive = how, coefficient, clip, alive

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """Columns that the model is shown."""
        return (OBSERVATION, ACTION, *((TASK,) if self.model.takes_task else ()))

    def prepare(self, log: LogView) -> "LearnedReward":
        """Return a copy that carries the rewards.

        Args:
            log: The log, of the kind that the model was fitted to.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: The log is of another kind, or the model gives numbers that are not finite.
        """
        return self.bound(columns={REWARD: self.given(log)})

    def given(self, log: LogView) -> Tensor:
        """Return the reward of every row.

        Args:
            log: The log.

        Returns:
            ``[N]`` float32, standard deviations over the rows that may be drawn.

        Raises:
            ValueError: The log is of another kind, or the model gives numbers that are not finite.
        """
        members, rows = self.checked(log), log.drawable()
        one = aggregate(standardised(members, rows), self.how, coefficient=self.coefficient)
        reward = standardised(one, rows)
        if not reward.any():
            warnings.warn(
                f"{self.name} gives every row of the log the same reward: nothing can be learned "
                "from it. Fit it to more answers, or for longer",
                stacklevel=2,
            )
        return (reward.clamp(-self.clip, self.clip) + self.alive).float()

    def checked(self, log: LogView) -> Tensor:
        """Return :meth:`members`, after a check that the log is of the model's kind.

        Args:
            log: The log.

        Returns:
            ``[E, N]`` float64, finite.

        Raises:
            ValueError: The log is of another kind, or a number is not finite.
        """
        if self.model.spec is not None:
            _check_fits(self.name, self.model.spec, log)
        members = self.members(log)
        if not bool(torch.isfinite(members).all()):
            raise ValueError(f"{self.name} gives rewards that are not finite: fit it again")
        return members

    @torch.no_grad()
    def members(self, log: LogView) -> Tensor:
        """Return what every member gives for every row, as it is.

        Args:
            log: The log.

        Returns:
            ``[E, N]`` float64.
        """
        entries = list(log.info.get("entries") or ())
        keys: list[Key] = [("observation", name) for name in entries] or [OBSERVATION]
        width = sum(log.take(key, torch.zeros(1, dtype=torch.int64)).numel() for key in keys)
        together = max(1, min(_TOGETHER, _NUMBERS // max(width, 1)))
        start = int(log.info.get("action_start") or 0)
        found = []
        for rows in torch.arange(len(log)).split(together):
            seen = [log.take(key, rows) for key in keys]
            observation = dict(zip(entries, seen, strict=True)) if entries else seen[0]
            action = log.take(ACTION, rows)
            action = action if action.is_floating_point() else action - start
            task = log.take(TASK, rows) if self.model.takes_task else None
            found.append(self.model.rewards(observation, action, task).double())
        return torch.cat(found, dim=-1)


def _loaded(checkpoint: str) -> object:
    """Return the model of rewards of a run: what its data step learned, or its learner."""
    payload = read_checkpoint(Path(checkpoint))
    kept = kept_reward(payload, checkpoint)
    if kept is not None:
        return kept
    model = load_learner(checkpoint)
    if "accuracy" in payload["hindsight"]:
        vars(model)["accuracy"] = payload["hindsight"]["accuracy"]
    return model


def _check_accuracy(name: str, accuracy: float | None, least: float) -> None:
    """Raise where a model of rewards finds too few held-out answers right; warn of none at all."""
    if accuracy is None and least > 0:
        warnings.warn(
            f"{name} was never validated: nothing says whether it knows answers that it was not "
            "fitted to. Hold some out (data.validation) and validate it (trainer.val_check_interval"
            "), or set least_accuracy to 0 to take it as it is",
            stacklevel=3,
        )
    if accuracy is not None and accuracy < least:
        raise ValueError(
            f"{name} finds the better segment in {accuracy:.0%} of the answers that were held out "
            f"from it, and chance in 50%: less than least_accuracy, {least:g}. Fit it to more "
            "answers, or for less long where it finds those it was fitted to; hold out more where "
            "they were few (data.validation); or set least_accuracy to 0 to take it as it is"
        )


def _check_fits(name: str, spec: Spec, log: LogView) -> None:
    """Raise on a log of other observations, actions or tasks than a model takes."""
    for what, own, other in (*_observations(spec, log), *_actions(spec, log), *_tasks(spec, log)):
        if own != other:
            raise ValueError(
                f"{name}: its {what} is {own}, and that of the log {other}. Give a model that was "
                "fitted to answers about a log of the same robot and task"
            )


_Compared = tuple[str, object, object]
_ONE = torch.zeros(1, dtype=torch.int64)


def _observations(spec: Spec, log: LogView) -> list[_Compared]:
    entries, offsets = list(log.info.get("entries") or ()), log.info.get("offset") or {}
    keys: dict[str, Key] = {name: ("observation", name) for name in entries}
    keys = keys or {"observation": OBSERVATION}
    if set(spec.observation) != set(keys):
        return [("observation", sorted(spec.observation), sorted(keys))]
    found: list[_Compared] = []
    for name, key in keys.items():
        known, place = spec.observation[name], key_name(key)
        found.append((place, list(known.shape), list(log.take(key, _ONE).shape[1:])))
        offset = getattr(known, "offset", None)
        found.append((f"offset of {place}", list(offset or ()), list(offsets.get(place) or ())))
    return found


def _actions(spec: Spec, log: LogView) -> list[_Compared]:
    action = log.take(ACTION, _ONE)
    kind = "continuous" if action.is_floating_point() else "discrete"
    found: list[_Compared] = [("action", spec.action.kind, kind)]
    if not spec.action.discrete:
        found.append(("action", list(spec.action.shape), list(action.shape[1:])))
    elif log.info.get("discrete_actions"):
        there = f"{log.info['discrete_actions']} from {int(log.info.get('action_start') or 0)}"
        found.append(("number of choices", f"{spec.action.n} from {spec.action.start}", there))
    return found


def _tasks(spec: Spec, log: LogView) -> list[_Compared]:
    if spec.task is None:
        return []
    held = list(log.take(TASK, _ONE).shape[1:]) if TASK in log else "none"
    return [("task", list(spec.task.shape), held)]
