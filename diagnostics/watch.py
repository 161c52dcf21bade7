"""Watch: warns before training goes wrong, while there is time to fix it.

It reads what the learner reports anyway, at logging intervals, and adds nothing to an update.

    Trainer(callbacks=[Watch()]).fit(learner, datamodule)

- **Value magnitude** (deadly triad). No value can exceed the largest return that the log's rewards
  make possible, max |r| / (1 - discount); bootstrapping from too large values makes them larger.
  Where that is 0 or tiny, nothing is said of values that an untrained network has too.
- **Effective sample size** of the policy's weights, (sum w)^2 / (B sum w^2): with a hard
  exponential a handful of rows is all that is cloned.
- **Clipped weights**: where most weights lie at their cap, they no longer separate good from bad.
- **Gradient norm** of each network before clipping.
- **Answers** about pairs of segments: all of them for the same side; a model of rewards that knows
  held-out ones little better than chance, or is sure of what is not so; a policy to which better
  segments became less likely too (contrastive losses can be lowered so).
- **Ratios** of policy and collecting policy where a round begins: both are one policy, and a ratio
  that is not 1 says that log-probabilities are of other units or of other actions.
- **Disagreement** of a model of the dynamics that says nothing of its errors on held-out rows.

A learner takes part by its metrics: ``critic/q_max`` (and an attribute ``discount``), whatever
:func:`hindsight_rl.maths.weights.weight_metrics` returns, under ``actor/``, ``reward/accuracy``,
``reward/calibration_error`` and ``reward/second_better``, ``actor/log_prob_better`` and ``_worse``,
``ensemble/correlation``; by a method ``log_ratio(batch)``.
"""

import math
import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from hindsight_rl.arguments import above, check_ranges, within
from hindsight_rl.attached import datamodule_of, learner_of, log_interval
from hindsight_rl.diagnostics.horizons import LEAST_CORRELATION
from hindsight_rl.maths.returns import largest_return
from hindsight_rl.ports import DataView, LearnerView

# Rows the rewards of a log are judged by; larger logs are sampled at even distances.
SAMPLE = 2**18
# Magnitude of Q up to which a critic may only not have been trained: networks start at values of
# about 1 for standardised inputs, whatever the unit of the rewards.
UNTRAINED = 3.0
# Held-out answers from which a calibration error is not chance alone: in ten bins, fewer lie .2 off
# whatever the model.
CALIBRATED = 50
_ACCURACY, _CALIBRATION = "reward/accuracy", "reward/calibration_error"
_CORRELATION = "validation/ensemble/correlation"
_SECOND, _BETTER, _WORSE = "reward/second_better", "actor/log_prob_better", "actor/log_prob_worse"
_Q, _SIZE, _CLIPPED = "critic/q_max", "actor/effective_sample_size", "actor/clipped"


class Watch(Callback):
    """Logs ``watch/...`` and warns once of each thing that is going wrong, with the fix.

    Needs a learner (:class:`hindsight_rl.training.learner.Learner`); watches what that one reports.
    With several ranks it sees the first one's share of the batch.

    Args:
        q_ratio: Warn where the largest |Q| exceeds this multiple of the largest possible return.
        effective_sample_size: Warn where it falls below this share of the batch, in [0, 1].
        clipped: Warn where more than this share of the weights lies at the cap, in [0, 1].
        gradient_ratio: Warn where a network's gradient norm exceeds this multiple of ``clip_norm``.
        accuracy: Warn where a model of rewards ends below this share of held-out answers, in
            [0, 1].
        calibration_error: Warn where its probabilities end further from the answers, in [0, 1].
        fallen: Warn where steps of better and of worse segments have become this much less likely
            than they were, nats, above 0.
        correlation: Warn where a model's disagreement goes with its error by less, in [-1, 1].
        ratio_off: Warn where a ratio of an on-policy round begins this far from 1, above 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        q_ratio: float = 1.0,
        effective_sample_size: float = 0.05,
        clipped: float = 0.5,
        gradient_ratio: float = 100.0,
        accuracy: float = 0.6,
        calibration_error: float = 0.2,
        fallen: float = 1.0,
        correlation: float = LEAST_CORRELATION,
        ratio_off: float = 1e-3,
    ) -> None:
        if not q_ratio > 0 or not gradient_ratio > 0:
            raise ValueError(
                f"q_ratio {q_ratio} and gradient_ratio {gradient_ratio} must be above 0"
            )
        if not 0 <= effective_sample_size <= 1 or not 0 <= clipped <= 1:
            raise ValueError(
                f"effective_sample_size {effective_sample_size} and clipped {clipped} are shares: "
                "in [0, 1]"
            )
        check_ranges(above(0, fallen=fallen), above(0, ratio_off=ratio_off))
        check_ranges(within("[0, 1]", accuracy=accuracy, calibration_error=calibration_error))
        check_ranges(within("[-1, 1]", correlation=correlation))
        self.correlation, self.ratio_off = correlation, ratio_off
        self.accuracy, self.calibration_error, self.fallen = accuracy, calibration_error, fallen
        self.q_ratio, self.effective_sample_size = q_ratio, effective_sample_size
        self.clipped, self.gradient_ratio = clipped, gradient_ratio
        self._bound: float | None = None
        self._seen = 0
        self._warned: set[str] = set()
        self._likeliest = (-math.inf, -math.inf)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask for the gradient norms of each network, where the update is one compiled graph."""
        learner_of(trainer).watch_gradients = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew: a second fit may have other data."""
        self._bound, self._seen, self._warned = None, trainer.global_step, set()
        self._likeliest = (-math.inf, -math.inf)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leave updates that are not one graph alone: their gradients are measured afterwards."""
        learner = learner_of(trainer)
        learner.watch_gradients = False
        self._ratios(trainer, learner, batch)

    def _ratios(self, trainer: Trainer, learner: LearnerView, batch: Any) -> None:
        """Look at the ratios of the first update of an on-policy round: all must be 1."""
        log_ratio, data = getattr(learner, "log_ratio", None), datamodule_of(trainer)
        fresh = learner.log_pass is not None and learner.log_pass.pending
        if log_ratio is None or not fresh or not getattr(data, "on_policy", False):
            return
        with torch.no_grad():
            off = float((log_ratio(batch[0])[0].exp() - 1.0).abs().max())
        learner.report({"watch/actor/ratio_off": off}, trainer.global_step)
        if not off <= self.ratio_off:
            self._warn(
                "actor/ratio_off",
                f"a round begins with a ratio {off:.2g} off 1, and the policy is still the one "
                "that collected: the column action_log_prob is of other units or other actions "
                "than the loss takes. Collect and train on one device and in one precision; look "
                "for a wrapper or relabeler that changes actions",
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look at the numbers of this chunk if the learner has just reported them."""
        every, before, self._seen = log_interval(trainer), self._seen, trainer.global_step
        crossed = every and self._seen // every > before // every
        ended = self._seen == trainer.max_steps
        if not trainer.is_global_zero or not (crossed or ended):
            return
        learner = learner_of(trainer)
        self._answers(trainer, learner)
        found = self._q(trainer, learner) | self._weights(learner) | self._gradients(learner)
        named = {f"watch/{name}": value for name, value in found.items()}
        learner.report(named, self._seen)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what the last validation says of a model, of rewards or of the dynamics."""
        learner = learner_of(trainer)
        self._disagreement(trainer, learner)
        accuracy, error = (
            learner.latest.get(f"validation/{name}") for name in (_ACCURACY, _CALIBRATION)
        )
        if accuracy is None or error is None or not trainer.is_global_zero:
            return
        held_out = int(getattr(datamodule_of(trainer), "held_out", 0))
        if accuracy < self.accuracy:
            seen = learner.latest.get(f"train/{_ACCURACY}", math.nan)
            self._warn(
                _ACCURACY,
                f"the better segment is found in {accuracy:.0%} of {held_out} held-out answers "
                f"(chance: 50%), and in {seen:.0%} of those it was fitted to. Do not train on this "
                "reward: give more answers; fit for less long where it knows its own by heart; "
                "hold out more (data.validation) where they are few",
            )
        if error > self.calibration_error and held_out >= CALIBRATED:
            self._warn(
                _CALIBRATION,
                f"probabilities are off by {error:.2f} on {held_out} held-out answers: it is surer "
                "than it may be. Fit for less long, or set random_answers to the share of answers "
                "that were given by chance",
            )

    def _disagreement(self, trainer: Trainer, learner: LearnerView) -> None:
        """Warn of members that disagree elsewhere than where they are wrong."""
        found = learner.latest.get(_CORRELATION)
        if found is not None and found < self.correlation and trainer.is_global_zero:
            self._warn(
                "ensemble/correlation",
                f"disagreement goes with the error on held-out rows by {found:.2f} (rank "
                f"correlation), less than {self.correlation:g}: a penalty on it is mostly noise. "
                "Take another uncertainty ('hindsight inspect LOG --model CHECKPOINT' compares "
                "them), more members, or bootstrap: episodes",
            )

    def _answers(self, trainer: Trainer, learner: LearnerView) -> None:
        """Warn of answers that name one side only, and of segments that all become unlikely."""
        second, better, worse = (
            learner.latest.get(f"train/{name}") for name in (_SECOND, _BETTER, _WORSE)
        )
        # Of few answers in a chunk all may name one side by chance.
        given = getattr(datamodule_of(trainer), "preferences", None)
        if second in (0.0, 1.0) and (given is None or bool((given.label == second).all())):
            side = "second" if second else "first"
            self._warn(
                _SECOND,
                f"every answer says that the {side} segment is better: who answers may look at the "
                "side alone, or the file was written wrongly. Show half the pairs with their "
                "segments swapped ('hindsight compare' draws sides at random)",
            )
        if better is None or worse is None:
            return
        best = self._likeliest
        self._likeliest = best = (max(best[0], better), max(best[1], worse))
        if better < best[0] - self.fallen and worse < best[1] - self.fallen:
            self._warn(
                _BETTER,
                f"steps of better segments became less likely, {best[0]:.3g} to {better:.3g} nats, "
                "as those of worse ones did: the policy comes to do what neither shows. Lower bias "
                "or add cloning (CPL), raise beta (DPO), or stop earlier",
            )

    def _q(self, trainer: Trainer, learner: LearnerView) -> dict[str, float]:
        q = learner.latest.get(f"train/{_Q}")
        if q is None:
            return {}
        if self._bound is None:
            self._bound = largest_possible_return(
                datamodule_of(trainer), float(vars(learner)["discount"]), learner.device
            )
        bound = self._bound
        if q > max(self.q_ratio * bound, UNTRAINED):
            self._warn(
                _Q,
                f"|Q| reaches {q:.4g}, but no return of this log can exceed {bound:.4g}: the "
                "critic is diverging. Lower its learning rate (learning_rates), set clip_norm, "
                "lower tau or discount, or take a learner that stays near the log "
                "(docs/deadly-triad.md)",
            )
        return {_Q: q, "critic/largest_return": bound}

    def _weights(self, learner: LearnerView) -> dict[str, float]:
        size, clipped = (learner.latest.get(f"train/{name}") for name in (_SIZE, _CLIPPED))
        if size is not None and size < self.effective_sample_size:
            self._warn(
                _SIZE,
                f"{size:.1%} of a batch is all the policy effectively learns from: a few large "
                "weights hide the rest. Soften them (larger temperature, smaller "
                "inverse_temperature or beta, lower max_weight), or raise batch_size",
            )
        if clipped is not None and clipped > self.clipped:
            self._warn(
                _CLIPPED,
                f"{clipped:.1%} of the policy's weights lie at max_weight and no longer separate "
                "good actions from bad. Soften them (larger temperature, smaller "
                "inverse_temperature or beta), raise max_weight, or scale rewards (ScaleReward)",
            )
        found = {_SIZE: size, _CLIPPED: clipped}
        return {name: value for name, value in found.items() if value is not None}

    def _gradients(self, learner: LearnerView) -> dict[str, float]:
        found: dict[str, float] = {}
        for network, module in learner.networks().items():
            norm = learner.latest.get(f"train/{network}/gradient_norm", _norm(module))
            if norm is None:
                continue
            found[f"{network}/gradient_norm"] = norm
            if learner.clip_norm is None:
                continue
            ratio = found[f"{network}/gradient_ratio"] = norm / learner.clip_norm
            if ratio > self.gradient_ratio:
                self._warn(
                    f"{network}/gradient_ratio",
                    f"the gradient of network '{network}' is {ratio:.3g} times clip_norm "
                    f"({learner.clip_norm:g}): clipping sets the step of every update. Scale the "
                    "rewards (ScaleReward), lower the learning rate, or raise clip_norm",
                )
        return found

    def _warn(self, name: str, text: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"watch/{name}, update {self._seen}: {text}.", stacklevel=2)


def _norm(network: nn.Module) -> float | None:
    """Return the norm of the gradients that the last update left, if it left whole ones."""
    gradients = [p.grad for p in network.parameters() if type(p.grad) is Tensor]
    return float(nn.utils.get_total_norm(gradients)) if gradients else None


@torch.no_grad()
def largest_possible_return(
    datamodule: DataView, discount: float, device: torch.device | None = None
) -> float:
    """Return the largest magnitude of a return that the relabeled rewards of a log allow.

    Args:
        datamodule: Gives the log in order (``in_order``) and its relabeling.
        discount: In [0, 1], where rows have none of their own.
        device: Where to relabel.

    Returns:
        Reward units. Of a log of more than ``SAMPLE`` rows, what that many of them, at even
        distances, allow.
    """
    log = datamodule.log
    count = len(log) if log.rows is None else len(log.rows)
    kept = min(count, SAMPLE)
    at = torch.arange(kept) * count // kept
    rewards: list[Tensor] = []
    discounts: list[Tensor] = []
    longest = 1
    for chunk in datamodule.in_order(at if log.rows is None else log.rows[at], stream="watch"):
        batch = datamodule.on_after_batch_transfer(chunk.to(device), 0)
        reward = batch["next", "reward"].flatten()
        rewards.append(reward)
        own = batch.get("discount", None)
        discounts.append(torch.full_like(reward, discount) if own is None else own.flatten())
        # The last row of an episode need not be in the sample, but how far it lies is known.
        steps = batch["step"] + batch["episode_end"] - batch["index"] + 1
        longest = max(longest, int(steps.max()))
    return largest_return(torch.cat(rewards), torch.cat(discounts), longest)
