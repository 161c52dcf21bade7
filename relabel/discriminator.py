"""Adversarial imitation: rewards from telling an expert's transitions from others."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_choices, check_ranges
from hindsight_rl.keys import COMPANION, DRAWS, NEXT_OBSERVATION, REWARD, TASK, TERMINATED, Key
from hindsight_rl.maths.draws import fork, uniform
from hindsight_rl.nets.discriminator import Discriminator, TransitionReward
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.learned import (
    choices_of,
    logged_rows,
    summed,
    transition_rows,
)
from hindsight_rl.relabel.relabeler import Values
from hindsight_rl.relabel.sides import TwoSides, spread_of, two_sides
from hindsight_rl.relabel.soft_scores import ranks
from hindsight_rl.relabel.telling import Form, Seen, Telling

_DISCRIMINATOR = Discriminator()
_RATE = 0.01  # of the running square of rewards


class DiscriminatorReward(TwoSides):
    """The reward says how much a transition looks like an expert's: GAIL, AIRL and their kin.

    A discriminator learns in every update to tell expert rows from others, one of each for every
    row of the batch; then the batch gets its rewards. Which method it is depends on the rest:

    - GAIL, off-policy: the expert's log as ``data.source`` of an ``IteratedDataModule`` with
      ``mix``, and SAC. Its others are the newest rows that the policy collected.
    - AIRL: the same with ``discriminator.shaped``.
    - ORIL: two sources of an ``OfflineDataModule``, the expert's first, and CRR or IQL.

    Where episodes terminate, a reward of one sign says by itself whether to end them. So what comes
    behind an end is a state like others, the absorbing one, and the last reward holds its rewards
    for ever after (DAC). The reward is not centred, for the same reason.

    Args:
        discriminator: The network, and how it learns.
        expert: Column that is above 0 in rows of the expert; ``None``: the rows of the first source
            are the expert's.
        reward: ``"f"``: what the discriminator keeps, the logit, or for AIRL f without log pi: for
            learners whose policy keeps an entropy; ``"logit"``; ``"survive"``: -log(1 - D), at
            least 0; ``"end"``: log D, at most 0.
        absorbing: Reward what follows an end, as above; ``None``: unless the network is shaped,
            which knows another rule: its potential is 0 there.
        newest: Others are the newest rows only, so many of them; ``None`` for all.
        train_on_expert: Whether the learner is served expert rows too.
        scale: Divide rewards by their running root mean square.
        clip: Largest reward of a row, in magnitude, after scaling; above 0.
        seed: Of the first weights.

    Raises:
        ValueError: An argument is out of range, two do not go together, (``prepare``) the log holds
            no second side, or rows of n steps, (``use``) AIRL's learner has no log pi.

    Reference:
        Ho and Ermon 2016, arXiv 1606.03476; Fu et al. 2018, arXiv 1710.11248; Kostrikov et al.
        2019, arXiv 1809.02925; Zolna et al. 2020, arXiv 2011.13885.

    Note:
        log pi is that of the policy at the start of a chunk, up to K updates old.
    """

    in_keys = ("observation", "action", NEXT_OBSERVATION, TERMINATED)
    out_keys = (REWARD,)
    learned, settings, judges = "discriminator", "discriminator and absorbing", "judges"
    of_own_task = True
    _telling: Telling

    def __init__(
        self,
        discriminator: Discriminator = _DISCRIMINATOR,
        expert: str | None = None,
        reward: Form = "f",
        absorbing: bool | None = None,
        newest: int | None = None,
        train_on_expert: bool = True,
        scale: bool = True,
        clip: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choices(DiscriminatorReward.__init__, locals())
        check_ranges(at_least(1, newest=newest))
        check_ranges(above(0, clip=clip))
        if absorbing and discriminator.shaped:
            raise ValueError(
                "absorbing and discriminator.shaped do not go together: behind an end the "
                "potential of AIRL is 0. Leave absorbing out"
            )
        self.discriminator, self.expert, self.reward = discriminator, expert, reward
        self.absorbing = not discriminator.shaped if absorbing is None else absorbing
        self.newest, self.train_on_expert = newest, train_on_expert
        self.scale, self.clip, self.seed = scale, clip, seed
        self._tasked = False
        self._square: Tensor | None = None
        self._values: Values | None = None

    @property
    def companion_reads(self) -> tuple[Key, ...]:
        """Keys it reads of the rows to tell apart."""
        return (*self.in_keys, TASK)

    def prepare(self, log: LogView) -> "DiscriminatorReward":
        """Return a copy that knows both sides, with a network at its first weights.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: A side has no rows, or rows are those of n steps.
        """
        self._check_steps(log)
        sides = two_sides(log, self.expert, "DiscriminatorReward", "expert")
        if not self.absorbing and self.reward in ("f", "logit"):  # the others were chosen for it
            _warn_of_ends(log, self.reward)
        other = self.bound(rows=None if self.train_on_expert or not len(sides.other) else sides[1])
        # Before anything is collected there are no others, and nothing is learned yet.
        newest = 0 if self.newest is None else max(0, len(sides.other) - self.newest)
        others = sides.other[newest:] if len(sides.other) else sides.own
        other._sides = {"expert": sides.own, "other": others}
        other._choices, other._tasked = choices_of(log), TASK in log
        halves = [logged_rows(log, rows, tasked=other._tasked) for rows in other._sides.values()]
        other._mean, other._std = spread_of(torch.cat(halves))
        observed = log.column("observation").shape[1]
        observed += log.column(TASK).shape[1] if other._tasked else 0
        acted = len(other._mean) - 2 * observed
        net = TransitionReward(
            self.discriminator, observed, acted, absorbing=self.absorbing, seed=self.seed
        )
        other._begin(net, self.discriminator.learning_rate)
        other._telling = Telling(
            net, self.absorbing, self.discriminator.discount, self.reward, self.clip
        )
        return other

    def use(self, values: Values | None) -> None:
        """Take the learner's log pi, which AIRL's logit needs.

        Args:
            values: ``soft_values`` of the learner.

        Raises:
            ValueError: It has none, and the logit needs them.
        """
        if values is None and self.discriminator.shaped:
            raise ValueError(
                "DiscriminatorReward with discriminator.shaped compares with log pi of the policy, "
                "and this learner does not say it: use SAC, IQL or AWAC, or set shaped to false"
            )
        self._values = values

    def _further_state(self) -> dict[str, Any]:
        """Return the statistics of inputs and rewards, and what the network was made of."""
        net = self._telling.net
        made: dict[str, Any] = {
            "observed": net.observed,
            "acted": net.acted,
            "choices": self._choices,
            "tasked": self._tasked,
        }
        made |= {"absorbing": self.absorbing, "reward": self.reward, "clip": self.clip}
        made |= asdict(self.discriminator) | {"scale": self.scale}
        return super()._further_state() | {"square": self._square, "made": made}

    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        super()._load_further_state(state)
        self._square = state["square"]

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with rewards of the discriminator as it is after each update.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows are shared by seeds.
        """
        teaching = self._teaching(batch)
        numbers = batch[DRAWS][:, 0, 1].tolist()
        share = uniform(fork(batch[DRAWS], "between"))
        draws, companions = batch[DRAWS], batch[COMPANION]
        expert, other = (self._seen(companions[name], draws) for name in ("expert", "other"))
        own, rewards = self._seen(batch, draws), []
        for k, (teaches, number) in enumerate(zip(teaching, numbers, strict=True)):
            if teaches and number % self.discriminator.every == 0:
                self.metrics = self._learn(expert.at(k), other.at(k), share[k])
            rewards.append(self._rewards(own.at(k), moves=teaches))
            if teaches:
                self._seen_updates = number + 1
        reward = torch.stack(rewards)
        self.metrics = self.metrics | {"reward": reward.mean()}
        return batch.copy().set("next", batch["next"].copy().set("reward", reward))

    @torch.no_grad()
    def _seen(self, batch: TensorDict, draws: Tensor) -> Seen:
        rows = transition_rows(batch, self._choices, tasked=self._tasked)
        rows = (rows - self._mean.to(rows.device)) / self._std.to(rows.device)
        real = rows.new_zeros(*rows.shape[:-1], 1)
        log_prob = real.squeeze(-1)
        if self.discriminator.shaped and self._values is not None:
            task = batch[TASK] if self._tasked else rows.new_empty(*rows.shape[:-1], 0)
            log_prob = self._values(batch, task, draws).log_prob
        return Seen(torch.cat([rows, real], -1), batch[TERMINATED], log_prob)

    def _learn(self, expert: Seen, other: Seen, share: Tensor) -> dict[str, Tensor]:
        """Take a step of Adam; return what to look at."""
        settings = self.discriminator
        with torch.enable_grad():
            loss, right = self._telling.sides_loss(expert, other, smoothing=settings.smoothing)
            if settings.penalty:
                slopes = self._telling.slope_penalty(expert, other, share)
                loss = loss + settings.penalty * slopes
        # Of several processes each told its own rows.
        right = summed(right) / ranks()
        if settings.stop_above == 1.0 or float(right) <= settings.stop_above:
            self._descend(loss)
        return {"discriminator_loss": loss.detach(), "told_apart": right}

    @torch.no_grad()
    def _rewards(self, seen: Seen, *, moves: bool) -> Tensor:
        """Return rewards ``[B]``; their running square moves with them where an update teaches."""
        steps = self._telling.step_rewards(seen)
        reward = steps[0]
        if moves:
            count = summed(reward.new_tensor(float(len(reward))))
            square = summed(reward.square().sum()) / count
            old = square if self._square is None else self._square.to(square.device)
            self._square = old + _RATE * (square - old)
        return self._telling.rewards(seen, steps, self._scale(reward))

    def _scale(self, reward: Tensor) -> Tensor:
        """Return what divides the reward of a step, ``[]``."""
        if not self.scale or self._square is None:
            return reward.new_ones(())
        return self._square.to(reward.device).sqrt().clamp_min(1e-6)


def _warn_of_ends(log: LogView, reward: str) -> None:
    if bool(log.column(TERMINATED)[log.drawable()].any()):
        warnings.warn(
            f"episodes terminate, and behind an end DiscriminatorReward gives 0: with reward "
            f"'{reward}' that alone may say whether to end. Set absorbing (without shaped), or "
            "reward to 'survive' where the task is to go on, 'end' where it is to finish",
            stacklevel=2,
        )
