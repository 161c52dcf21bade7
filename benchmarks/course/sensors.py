"""Sensors that differ: features that no domain can be told by (DANN), beside a few actions.

    python benchmarks/course/sensors.py [--seeds 5] [--choose]

A pendulum is seen by 16 sensors, each the tanh of a weighted sum of its state. 20 good episodes are
logged by the sensors of a source, with actions; of the target, whose numbers differ by a
fifth of their spread, 20 episodes without. Clones are scored by 20 episodes that the target's
sensors show. Ganin et al. 2016 (arXiv 1505.07818) learn features h(x) by which a second network
cannot tell the domain,

    min_(h, pi) max_D  E_source[(pi(h) - a)^2] + lambda E[log D(d | h)],
    lambda = w (2 / (1 + exp(-10 p)) - 1),

by a layer that turns the gradient round; p goes from 0 to 1 over the fit. No part of the package:
docs/transfer.md says why. Finished fits are kept in build/course/sensors; writes
build/course_sensors.json and a table of docs/transfer.md. w was chosen with ``--choose``, on seeds
that are not reported.
"""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import evidence  # noqa: E402
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, ROOT, spread, table  # noqa: E402

from hindsight_rl import Log, read_log  # noqa: E402
from hindsight_rl.cli.main import main as hindsight  # noqa: E402
from hindsight_rl.envs.rollout import rollout  # noqa: E402

worlds.HOME = BUILD / "course" / "sensors"
SENSORS, SHIFT, UPDATES, BATCH = 16, 0.2, 3_000, 128
STEPS = 200
HALF = 20 * STEPS  # rows of a side
WEIGHTS = (0.03, 0.1, 0.3, 1.0)  # tried, w
# Whether each side has its own mean and spread, w, whose actions are cloned, and how many.
METHODS: dict[str, tuple[bool, float, str, int]] = {
    "source": (False, 0.0, "source", HALF),
    "source, DANN": (False, 0.3, "source", HALF),
    "source, own normaliser": (True, 0.0, "source", HALF),
    "source, own normaliser, DANN": (True, 0.1, "source", HALF),
    "1 episode of the target": (True, 0.0, "target", STEPS),
    "20 episodes of the target": (True, 0.0, "target", HALF),
}


class Reversal(torch.autograd.Function):
    """Forward the identity, backward minus lambda times the gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        """Return the features."""
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient turned round."""
        return -ctx.strength * gradients[0], None


def sensors(seed: int, shift: float) -> Any:
    """Return what sensors show, ``[n, 16]`` of states ``[n, 3]``.

    Args:
        seed: Of the source's.
        shift: How far they differ from those, in standard deviations of their numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    own, other = (torch.randn(4, SENSORS, generator=generator) for _ in range(2))
    numbers = own + shift * other
    return lambda state: ((state / torch.tensor([1.0, 1.0, 4.0])) @ numbers[:3] + numbers[3]).tanh()


def net(*widths: int) -> nn.Sequential:
    """Return layers with ReLU between them."""
    layers: list[nn.Module] = []
    for wide, narrow in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def strength(progress: float) -> float:
    """Return lambda / w at a progress in [0, 1]."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def good_log(seed: int) -> Log:
    """Return 40 good episodes of a pendulum."""
    folder = worlds.HOME / "logs" / f"good-{seed}"
    words = ["collect", "--env", worlds.PENDULUM, "--good", "1", "--episodes", "40"]
    if not folder.exists() and hindsight([*words, "--seed", str(seed), "--output", str(folder)]):
        raise SystemExit(1)
    return read_log(folder)


class Domains(nn.Module):
    """Features of what sensors show, and what is read off them: an action, and which side."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.policy = net(SENSORS, 64, 64), net(64, 64, 1)
        self.domain = net(64, 64, 1)

    def loss(self, rows: list[Tensor], labelled: Tensor, action: Tensor, turned: float) -> Tensor:
        """Return the error of cloned actions and of telling the sides apart, added.

        Args:
            rows: ``[B, 16]`` of the source and of the target.
            labelled: ``[B, 16]``, rows with actions.
            action: ``[B, 1]``.
            turned: lambda.
        """
        cloned = (self.policy(self.features(labelled)) - action).square().mean()
        told = torch.arange(len(rows)).repeat_interleave(BATCH)[:, None].float()
        seen = Reversal.apply(self.features(torch.cat(rows)), turned)
        apart = nn.functional.binary_cross_entropy_with_logits(self.domain(seen), told)
        return cast(Tensor, cloned + apart)


def carried(own: bool, weight: float, labelled: str, count: int, seed: int) -> float:
    """Return the score of a clone in the target.

    Args:
        own: Whether each side is standardised by its own mean and spread.
        weight: w.
        labelled: The side whose actions are cloned.
        count: Rows of it that have one.
        seed: Of logs, sensors and weights.
    """
    torch.manual_seed(seed)
    log = good_log(seed)
    state, action = log.column("observation"), log.column("action")
    halves = {"source": slice(0, HALF), "target": slice(HALF, None)}
    shown = {"source": sensors(seed, 0.0), "target": sensors(seed, SHIFT)}
    seen = {name: shown[name](state[half]) for name, half in halves.items()}
    scale = {name: seen[name if own else "source"] for name in seen}
    rows = {n: (x - scale[n].mean(0)) / scale[n].std(0) for n, x in seen.items()}
    labels = action[halves[labelled]][:count]
    parts = Domains()
    adam = worlds.adam(parts.parameters())
    for update in range(UPDATES):
        pair = [x[torch.randint(len(x), (BATCH,))] for x in rows.values()]
        picked = torch.randint(count, (BATCH,))
        turned = weight * strength(update / UPDATES)
        adam.zero_grad()
        parts.loss(pair, rows[labelled][picked], labels[picked], turned).backward()
        adam.step()
    mean, std = scale["target"].mean(0), scale["target"].std(0)

    @torch.no_grad()
    def act(observation: Any) -> Any:
        x = (shown["target"](torch.as_tensor(observation)) - mean) / std
        return parts.policy(parts.features(x)).numpy()

    found = rollout(act, worlds.PENDULUM, episodes=worlds.TESTS, seed=worlds.TEST_SEED)
    return float(found.returns.mean())


def rows_of(seeds: tuple[int, ...]) -> list[Any]:
    """Return a row for every method; one seed after the other is fitted."""
    found: dict[str, list[Any]] = {}
    for seed in seeds:
        for name, method in METHODS.items():
            one = worlds.kept("scores", name, seed, partial(carried, *method, seed))
            found.setdefault(name, []).append(one)
    return [worlds.row(name, each, seeds) for name, each in found.items()] + [
        worlds.row(f"gain of {plain}, DANN", gains(found[plain], found[f"{plain}, DANN"]), seeds)
        for plain in ("source", "source, own normaliser")
    ]


def gains(plain: list[Any], changed: list[Any]) -> list[Any]:
    """Return what a change gained with each seed, and its seconds."""
    pairs = zip(plain, changed, strict=True)
    return [new | {"value": new["value"] - old["value"]} for old, new in pairs]


def chosen(seeds: tuple[int, ...]) -> None:
    """Fit seeds that are not reported with every w."""
    rows_of(seeds)
    for seed in seeds:
        for own in (False, True):
            for weight in WEIGHTS:
                fit = partial(carried, own, weight, "source", HALF, seed)
                worlds.kept("chosen", f"w {weight}{', own normaliser' if own else ''}", seed, fit)


def document(rows: list[Any]) -> None:
    """Rewrite the table of docs/transfer.md."""
    lines = [[line["name"], spread(line), f"{line['seconds']:.0f}"] for line in rows]
    note = (
        f"Mean return of {worlds.TESTS} episodes by the target's sensors over "
        f"{len(rows[0]['seeds'])} seeds, Student's 95 % intervals."
    )
    shown = table(["actions of", "return", "s"], lines)
    replace_part(ROOT / "docs" / "transfer.md", "sensors", f"{note}\n\n{shown}")


if __name__ == "__main__":
    evidence.run("sensors", __doc__, rows_of, document, lambda: chosen(CHOICE_SEEDS))
