"""Episodes of a fitted policy for ``hindsight collect``: of a run, a checkpoint, or a file."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.datamodules.sources.deciding import Deciding, Random
from hindsight_rl.envs.interface import Env, Interface
from hindsight_rl.envs.playing import Asking, Limit, Playing
from hindsight_rl.envs.recording import Keeping, Recording, record_episode
from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.export.draws import seed_key
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.maths.draws import fork_key
from hindsight_rl.ports import Actor
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.load import load_learner


class PolicyEpisodes:
    """Episodes of a policy in one environment, one after another.

    Args:
        path: An exported file (``.onnx``), a checkpoint, or the folder of a run: its best
            checkpoint, or its newest one.
        env: The environment.
        name: Its name, for messages.
        sample: Draw actions from the policy's distribution; else its likeliest ones.
        explore: Share of actions that are drawn uniformly instead, in [0, 1].
        seed: Of the episodes and every draw, not negative.
        limit: Where episodes are cut.

    Raises:
        ValueError: The policy does not go with the environment, or cannot be drawn from.

    Attributes:
        unstated: Why it is not known how likely executed actions are, "" where it is.
    """

    def __init__(
        self,
        path: Path,
        env: Env,
        name: str,
        *,
        sample: bool,
        explore: float,
        seed: int,
        limit: Limit,
    ) -> None:
        if not 0 <= explore <= 1:
            raise ValueError(f"--explore is {explore}, it must lie in [0, 1]")
        policy, spec = _loaded(path, sample=sample, seed=seed)
        self._env, self._seed, self._limit = env, seed, limit
        self._interface = Interface(env, name, spec)
        self._interface.check_fit(spec)
        if spec.task is not None and self._interface.task_shape is None:
            raise ValueError(
                f"{path} takes a task and {name} gives none: hindsight run POLICY.onnx --task ... "
                "--record LOG.npz records episodes of a task"
            )
        self._key = fork_key(seed_key(seed), "collect")
        random = Random(self._interface.actions, name, self._key) if explore else None
        self._deciding = Deciding(policy, random, explore, self._interface)
        self.unstated = self._deciding.unstated()

    def record(self, numbers: Iterable[int]) -> Iterator[Recording]:
        """Yield whole episodes.

        Args:
            numbers: Of the episodes, from 0.

        Yields:
            Each episode, as the environment gave it.
        """
        interface = self._interface
        asking = Asking(self._deciding, interface, self._key, stating=not self.unstated)

        def sent(playing: Sequence[Playing]) -> list[object]:
            return [interface.actions.sent(action) for action in asking(playing)]

        for number in numbers:
            episode = Playing(number, episode_seed(self._seed, number))
            keeping = Keeping(interface)
            yield record_episode(
                self._env, episode, self._limit, keeping, sent, lambda action: action
            )


def _loaded(path: Path, *, sample: bool, seed: int) -> tuple[Actor, Spec]:
    """Return what acts, and its spec."""
    if path.suffix == ".onnx":
        policy = OnnxPolicy(path, seed=seed)
        if sample and policy.signature.distribution is None:
            raise ValueError(
                f"--sample draws from a distribution, which {path} does not hold: it acts as it "
                "was exported. Give the run or the checkpoint it was exported from, or export it "
                "with --drawn"
            )
        return policy, Spec.of(policy.contract)
    learner = load_learner(chosen_checkpoint(path) if path.is_dir() else path)
    if learner.seed_states is not None:
        sys.stderr.write(f"seed 0 of {learner.seed_states.count} plays\n")
    learner.eval()
    return learner.collecting(sample), learner.spec
