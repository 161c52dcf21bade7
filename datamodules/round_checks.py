"""What must fit together where a policy collects while it is trained."""

from typing import Any

from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.mixture import check_mix
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.logs.errors import LogError
from hindsight_rl.ports import LearnerView
from hindsight_rl.spec import Spec


def check_arguments(
    collection: Collection,
    source: Any,
    columns: Any,
    mix: dict[str, float] | None,
    imagined: ImaginedRows | None = None,
) -> None:
    """Raise where arguments of an ``IteratedDataModule`` do not go together.

    Args:
        collection: What is collected.
        source: A log, ``None`` for none.
        columns: Column map of it.
        mix: Shares of the origins.
        imagined: What a model imagines, ``None`` for nothing.

    Raises:
        ValueError: Naming the two, and the fix.
    """
    if columns is not None and source is None:
        raise ValueError("columns are those of a source, and none is given: set source too")
    if source is None and collection.initial_episodes < 1:
        raise ValueError(
            f"collection.initial_episodes is {collection.initial_episodes}, it must be at least 1, "
            "or 0 with a source (give --data.source LOG)"
        )
    if collection.epochs is not None and mix is not None:
        raise ValueError(
            "collection.epochs serves the rows of the last round alone, and mix gives other rows a "
            "share: leave one of the two out"
        )
    if imagined is not None and mix is None:
        raise ValueError(
            "imagined rows need a share of each batch: mix {collected: 0.05, imagined: 0.95}"
        )
    if imagined is not None and collection.expert is not None:
        raise ValueError(
            "nobody asks collection.expert what to do in imagined states: leave one of the two out"
        )
    if mix is not None:
        played = ["collected"] if source is None else ["log", "collected"]
        check_mix(mix, played if imagined is None else [*played, "imagined"])


def check_entries(collector: Collector, source: Any, mix: Any, memory_map: str | None) -> None:
    """Raise where observations with images meet what does not take them.

    Args:
        collector: What plays the episodes.
        source: A log that comes before them.
        mix: Shares of the origins.
        memory_map: Folder of the replay.

    Raises:
        ValueError: Naming the argument to leave out.
    """
    given = {"source": source, "mix": mix, "memory_map": memory_map}
    for name, value in given.items():
        if collector.interface.entries and value is not None:
            raise ValueError(
                f"{collector.name} shows the entries {list(collector.interface.entries)}, an image "
                f"among them, and {name} does not take images: leave it out"
            )


def check_task(spec: Spec, collector: Collector) -> None:
    """Raise where rows have tasks that nothing gives the policy while it collects.

    Args:
        spec: What the rows look like.
        collector: What plays the episodes.

    Raises:
        LogError: The task of the rows is another than that of the episodes.
    """
    given, name = collector.task_shape, collector.name
    taken = None if spec.task is None else spec.task.shape
    if given is None and taken is not None:
        raise LogError(
            "the relabelers give every row a task, but nothing gives the policy one while it "
            "collects",
            "Give collection.command, or an environment whose observation has a desired_goal.",
            path=name,
        )
    if given != taken:
        raise LogError(
            f"the relabelers write tasks of shape {taken}, and the policy is given {given} while "
            "it collects",
            "Let both be of the same kind: another relabeler, or another environment.",
            path=name,
        )


def check_learner(
    learner: LearnerView, seed: int, processes: int, *, on_policy: bool = False
) -> None:
    """Raise where several replays would be needed, or evaluation would judge what was trained on.

    Args:
        learner: The learner.
        seed: Of the episodes that are collected.
        processes: How many fit together.
        on_policy: Whether only the last round is held: each process plays all of it.

    Raises:
        ValueError: Naming the argument at fault.
    """
    if processes > 1 and not on_policy:
        raise ValueError(
            f"{processes} processes would each collect episodes of their own: set trainer.devices "
            "to 1"
        )
    if learner.seeds > 1:
        raise ValueError(
            f"model.seeds is {learner.seeds}, but each seed would need experience of its own: set "
            "it to 1 and start one run per seed"
        )
    if seed in (learner.evaluation.seed, learner.evaluation.test_seed):
        raise ValueError(
            f"data.seed is {seed}, which is the seed of evaluation episodes too: they would be "
            "those that are trained on. Choose another one"
        )


def check_resumed(saved: dict[str, Any], own: dict[str, Any], first: list[Any], name: str) -> None:
    """Raise where a checkpoint belongs to other data.

    Args:
        saved: State of the datamodule in the checkpoint.
        own: Its state now: ``log_hash``, ``seed`` and ``mix``.
        first: The rounds that were collected when it was made.
        name: The environment, for messages.

    Raises:
        LogError: Naming what differs.
    """
    if saved.get("log_hash") != own["log_hash"]:
        raise LogError(
            f"the run was started with {_named(saved.get('log_hash'))}, and this is "
            f"{_named(own['log_hash'])}",
            "Resume with the same source and columns, or start a new run.",
            path=name,
        )
    if saved["seed"] != own["seed"] or saved["history"][: len(first)] != first:
        raise LogError(
            "the first episodes are not those of the checkpoint",
            f"Resume with the same environment and data options (seed {saved['seed']}).",
            path=name,
        )
    if (mix := saved.get("mix")) != own["mix"]:
        raise LogError(
            f"the run was started with mix {mix}, and this is mix {own['mix']}",
            "Resume with the same shares, or start a new run.",
            path=name,
        )


def _named(log_hash: str | None) -> str:
    return "no log" if log_hash is None else f"a log with hash {log_hash}"
