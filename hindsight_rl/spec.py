"""The spec: what a learner, an exporter and a robot must know of the data, typed.

An observation is a dictionary of entries; one flat vector is the simplest case, an entry that is
called ``observation``. Checkpoints hold a spec as plain values (``to_dict`` and ``from_dict``):
version 1 where the observation is that one entry, as every release wrote it, else version 2.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from hindsight_rl.spec_parts import WHOLE as WHOLE
from hindsight_rl.spec_parts import ActionSpec as ActionSpec
from hindsight_rl.spec_parts import Dataset as Dataset
from hindsight_rl.spec_parts import Discrete as Discrete
from hindsight_rl.spec_parts import Entry as Entry
from hindsight_rl.spec_parts import Image as Image
from hindsight_rl.spec_parts import Probe as Probe
from hindsight_rl.spec_parts import SpecError as SpecError
from hindsight_rl.spec_parts import TaskSpec as TaskSpec
from hindsight_rl.spec_parts import Vector as Vector
from hindsight_rl.spec_parts import describe as describe
from hindsight_rl.spec_reading import (
    action_of,
    dataset_of,
    entries_of,
    mapping,
    needed,
    of_kind,
    probe_of,
    task_of,
    vectors_of,
)

VERSIONS = (1, 2, 3)


@dataclass(frozen=True)
class Spec:
    """What the data look like.

    Args:
        observation: Its entries, in their order; one entry ``observation`` where it is no
            dictionary.
        action: The action.
        task: The task, where a policy is conditioned on one.
        control_rate_hz: Steps per second of the log.
        dataset: The log.
        probe: Rows for the export gate.
        beside: Columns of real numbers that no policy sees and a critic may read, by name.
    """

    observation: Mapping[str, Entry]
    action: ActionSpec
    task: TaskSpec | None = None
    control_rate_hz: float | None = None
    dataset: Dataset | None = None
    probe: Probe = field(default_factory=Probe)
    beside: Mapping[str, Vector] = field(default_factory=dict)

    @property
    def whole(self) -> Entry | None:
        """Return the one entry of an observation that is no dictionary, ``None`` of others."""
        return self.observation[WHOLE] if list(self.observation) == [WHOLE] else None

    @property
    def vector(self) -> Vector:
        """Return the observation as one flat vector ``[O]``.

        Raises:
            SpecError: It is something else.
        """
        entry = self.whole
        if isinstance(entry, Vector) and len(entry.shape) == 1:
            return entry
        if entry is None:
            what = f"the entries {', '.join(self.observation)}"
        else:
            what = f"shape {list(entry.shape)}"
        fix = ""
        if isinstance(entry, Image):
            fix = ". Name it as an entry in the column map: `observation: {camera: COLUMN}`"
        raise SpecError(f"observation has {what}: these networks take flat vectors [O]{fix}")

    @classmethod
    def of(cls, given: "Spec | Mapping[str, Any]") -> "Spec":
        """Return a spec that is given as one, or as a dictionary (of a checkpoint or contract)."""
        return given if isinstance(given, Spec) else cls.from_dict(given)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Return the spec that a dictionary holds.

        Args:
            facts: Of version 1 or 2; the contract of a policy file serves as well, of version 3
                too. Facts that are not known are left out.

        Returns:
            The spec.

        Raises:
            SpecError: Something is missing, or of the wrong kind.
        """
        facts = mapping(facts, "spec")
        version = facts.get("version")
        if type(version) is not int or version not in VERSIONS:
            raise SpecError(
                f"spec: version is {version!r}, and this release reads 1 to 3. Use the release "
                "that wrote it."
            )
        described = mapping(needed(facts, "observation", "spec"), "observation")
        observation = entries_of(described)
        task = facts.get("task")
        dataset = facts.get("dataset")
        rate = facts.get("control_rate_hz")
        return cls(
            observation=observation,
            action=action_of(mapping(needed(facts, "action", "spec"), "action")),
            task=None if task is None else task_of(mapping(task, "task")),
            control_rate_hz=None
            if rate is None
            else of_kind(rate, (int, float), "control_rate_hz"),
            dataset=None if dataset is None else dataset_of(mapping(dataset, "dataset")),
            probe=probe_of(mapping(facts.get("probe") or {}, "probe"), observation),
            beside=vectors_of(mapping(facts.get("beside") or {}, "beside")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values: what a checkpoint holds."""
        whole = self.whole
        probes: Any = {
            name: base64.b64encode(rows.tobytes()).decode() if rows.dtype == np.uint8
            else rows.tolist()
            for name, rows in self.probe.observation.items()
        }  # fmt: skip
        entries = {name: {"kind": e.kind} | describe(e) for name, e in self.observation.items()}
        task = self.task
        beside = {name: {"kind": v.kind} | describe(v) for name, v in self.beside.items()}
        return {
            "version": 2 if whole is None else 1,
            "observation": {"entries": entries} if whole is None else describe(whole),
            "action": describe(self.action),
            "task": None if task is None else describe(task),
            "control_rate_hz": self.control_rate_hz,
            "dataset": None if self.dataset is None else describe(self.dataset),
            "probe": {
                "observation": probes if whole is None else probes.get(WHOLE),
                "task": None if self.probe.task is None else self.probe.task.tolist(),
            },
            **({"beside": beside} if beside else {}),
        }


SpecLike = Spec | dict[str, Any]
"""A spec, or the dictionary of a checkpoint."""
