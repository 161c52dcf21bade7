"""Settings that Optuna draws: where earlier runs were good, more are tried (TPE).

What is known of earlier settings is a file of this sweep, and the sampler of each draw has a seed
of its own: a sweep that goes on draws from what was finished, and needs no database.

Reference: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hindsight_rl.cli.sweep_values import Range, Setting, Values, name_of
from hindsight_rl.files import write_text

_EXTRA = 'Drawing settings needs Optuna: pip install "hindsight-rl[sweep]"'


class Search:
    """Draws settings, and keeps a file of them and of what they were worth.

    Args:
        over: Values or ranges by name.
        path: The file; the settings that it holds are known from the start.
        count: How many settings to draw, those in the file included.
        least: Whether the smallest number is best.

    Raises:
        ValueError: The file is of a search over other values, or Optuna is not installed.
    """

    def __init__(self, over: Mapping[str, Values], path: Path, count: int, *, least: bool) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ValueError(_EXTRA) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._path, self._count, self._least = optuna, path, count, least
        self._kinds = {
            name: _distribution(optuna.distributions, values) for name, values in over.items()
        }
        self._over = {name: _plain(values) for name, values in over.items()}
        self.trials: list[dict[str, Any]] = []
        """``drawn`` and ``value`` (``None`` where not finished or failed), in order."""
        self._looked, self._given = 0, set[str]()
        if path.exists():
            self._read()

    def next(self) -> Setting | None:
        """Return a setting that is not known yet, ``None`` once all trials have theirs."""
        while (number := self._open()) is not None:
            setting = self.setting(number)
            name = name_of(setting)
            if name in self._given:
                continue
            self._given.add(name)
            return setting
        return None

    def tell(self, setting: Setting, value: float) -> None:
        """Keep what a setting was worth, in every trial that drew it."""
        for number, trial in enumerate(self.trials):
            if self.setting(number) == setting:
                trial["value"] = value
        self._write()

    def setting(self, number: int) -> Setting:
        """Return the options of a trial."""
        drawn = self.trials[number]["drawn"]
        # A choice is drawn as its place in the list.
        return {
            name: values[drawn[name]] if isinstance(values, list) else drawn[name]
            for name, values in self._over.items()
        }

    def _open(self) -> int | None:
        """Return the next trial to look at: of an earlier sweep, or newly drawn."""
        if self._looked == len(self.trials):
            if len(self.trials) >= self._count:
                return None
            self.trials.append({"drawn": self._draw(), "value": None})
            self._share_values()
            self._write()
        self._looked += 1
        return self._looked - 1

    def _draw(self) -> dict[str, Any]:
        optuna = self._optuna
        sampler = optuna.samplers.TPESampler(seed=len(self.trials))
        direction = "minimize" if self._least else "maximize"
        study = optuna.create_study(direction=direction, sampler=sampler)
        for trial in self.trials:
            if trial["value"] is not None:
                study.add_trial(
                    optuna.trial.create_trial(
                        params=trial["drawn"], distributions=self._kinds, value=trial["value"]
                    )
                )
        drawn: dict[str, Any] = study.ask(self._kinds).params
        return drawn

    def _share_values(self) -> None:
        """Give the newest trial the value of an earlier one that drew the same."""
        same = [t["value"] for t in self.trials[:-1] if t["drawn"] == self.trials[-1]["drawn"]]
        self.trials[-1]["value"] = next((value for value in same if value is not None), None)

    def _read(self) -> None:
        kept = json.loads(self._path.read_text())
        worth = any(trial["value"] is not None for trial in kept["trials"])
        if kept["over"] != self._over:
            if not worth:
                return
            raise ValueError(
                f"{self._path} is of a search over other values: choose another --folder, or give "
                "--over as before"
            )
        self.trials = kept["trials"]

    def _write(self) -> None:
        kept = {"over": self._over, "trials": self.trials}
        write_text(self._path, json.dumps(kept, indent=1) + "\n")


def _distribution(kinds: Any, values: Values) -> Any:
    """Return values as a distribution of Optuna's module of them."""
    if not isinstance(values, Range):
        # By their numbers: Optuna's choices are no lists.
        return kinds.CategoricalDistribution(list(range(len(values))))
    if values.whole:
        return kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
    return kinds.FloatDistribution(values.low, values.high, log=values.log)


def _plain(values: Values) -> Any:
    return values._asdict() if isinstance(values, Range) else values
