"""Fit robomimic's BC-RNN-GMM on a log of demonstrations, and test it (see against_robomimic.py).

Runs in a Python of its own that has robomimic and nothing of this library:

    python benchmarks/policies/peers_robomimic.py LOG.hdf5 SEED UPDATES SETTINGS.json OUTPUT.json

LOG holds ``data/demo_K/{obs/flat, actions, rewards, dones}``. The environment is Pendulum-v1, of
whose three numbers the policy sees two.
"""

import importlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch


def import_torchvision() -> None:
    """Import torchvision beside a torch without CUDA: its own operators, unused here, are named."""
    library = torch.library.Library("torchvision", "DEF")
    for _ in range(20):
        try:
            importlib.import_module("torchvision")
            return
        except RuntimeError as error:
            absent = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if absent is None:
                raise
            library.define(f"{absent[1]}(Tensor x) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]


def main() -> None:
    """Fit, test, write."""
    log, seed, updates, settings, output = sys.argv[1:]
    import_torchvision()
    from robomimic.algo import algo_factory
    from robomimic.config import config_factory
    from robomimic.utils import obs_utils
    from robomimic.utils.dataset import SequenceDataset

    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    np.random.seed(int(seed))  # robomimic samples with the global generators
    asked = json.loads(settings)
    config = config_factory("bc")
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = ["flat"]
        config.train.batch_size, config.train.seq_length = asked["batch"], asked["segment"]
        config.algo.gmm.enabled = config.algo.rnn.enabled = True
        config.algo.gmm.num_modes = asked["components"]
        config.algo.rnn.horizon = asked["segment"]
        config.algo.rnn.hidden_dim, config.algo.rnn.num_layers = asked["units"], asked["layers"]
        config.algo.actor_layer_dims = ()
        config.algo.optim_params.policy.learning_rate.initial = asked["rate"]
    config.lock()
    obs_utils.initialize_obs_utils_with_config(config)
    dataset = SequenceDataset(
        log,
        obs_keys=["flat"],
        dataset_keys=["actions"],
        seq_length=asked["segment"],
        hdf5_cache_mode="all",
        load_next_obs=False,
        hdf5_use_swmr=False,
    )
    model = algo_factory("bc", config, {"flat": (2,)}, 1, torch.device("cpu"))
    model.set_train()
    start, done = time.perf_counter(), 0
    while done < int(updates):
        loader = torch.utils.data.DataLoader(dataset, asked["batch"], shuffle=True, drop_last=True)
        for raw in loader:
            batch = model.process_batch_for_training(raw)
            model.train_on_batch(model.postprocess_batch_for_training(batch, None), epoch=0)
            done += 1
            if done == int(updates):
                break
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "returns": returns(model, asked)}
    Path(output).write_text(json.dumps(found))


def returns(model: Any, asked: dict[str, Any]) -> list[float]:
    """Return the returns of the test episodes; actions are shares of the torque."""
    model.set_eval()
    env, found = gymnasium.make("Pendulum-v1"), []
    for seed in asked["episodes"]:
        observation, _ = env.reset(seed=seed)
        model.reset()
        total, over = 0.0, False
        while not over:
            seen = torch.as_tensor(observation[None, :2], dtype=torch.float32)
            with torch.no_grad():
                action = model.get_action({"flat": seen})[0].numpy()
            observation, reward, terminated, truncated, _ = env.step(
                np.clip(2.0 * action, -2.0, 2.0)
            )
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return found


if __name__ == "__main__":
    main()
