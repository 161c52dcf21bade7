"""The mark to reach: IQL in JAX, as many updates as wanted in one jitted scan over updates.

    python benchmarks/jax_iql.py S 4    # updates per second at size S, measured for 4 seconds

Same networks, losses and batch sizes as :mod:`plain_iql`, data resident, sampling inside the scan,
Adam written out. Needs JAX, the extra ``bench``; :mod:`bench` says so where it is missing.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from sizes import SIZES, make_log

RATE, ONE, TWO, EPSILON = 3e-4, 0.9, 0.999, 1e-8


def layers(key: Any, widths: Sequence[int]) -> list[tuple[Any, Any]]:
    """Return weights and biases of a ReLU network, uniform in +-1/sqrt(inputs)."""
    keys = jax.random.split(key, len(widths) - 1)
    found = []
    for each, inputs, outputs in zip(keys, widths[:-1], widths[1:], strict=True):
        weight = jax.random.uniform(each, (inputs, outputs), minval=-1, maxval=1) / inputs**0.5
        found.append((weight, jnp.zeros(outputs)))
    return found


def run_network(network: list[tuple[Any, Any]], features: Any) -> Any:
    """Return the outputs ``[B, D]``."""
    for weight, bias in network[:-1]:
        features = jax.nn.relu(features @ weight + bias)
    weight, bias = network[-1]
    return features @ weight + bias


def loss(networks: dict[str, Any], targets: Any, batch: dict[str, Any]) -> Any:
    """Return the sum of IQL's three losses."""
    both = jnp.concatenate([batch["observation"], batch["action"]], -1)
    q = jnp.minimum(*(run_network(target, both)[:, 0] for target in targets))
    value = run_network(networks["value"], batch["observation"])[:, 0]
    advantage = q - value
    value_loss = (jnp.where(advantage < 0, 0.3, 0.7) * advantage**2).mean()
    following = run_network(networks["value"], batch["next_observation"])[:, 0]
    aim = batch["reward"] + 0.99 * (1 - batch["terminated"]) * jax.lax.stop_gradient(following)
    critic_loss = sum(
        ((aim - run_network(critic, both)[:, 0]) ** 2).mean() for critic in networks["critics"]
    )
    mean = jnp.tanh(run_network(networks["actor"], batch["observation"]))
    log_std = jnp.clip(networks["log_std"], -5, 2)
    scaled = (batch["action"] - mean) / jnp.exp(log_std)
    log_prob = -0.5 * scaled**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    weight = jnp.minimum(jnp.exp(3.0 * jax.lax.stop_gradient(advantage)), 100.0)
    return value_loss + critic_loss - (weight * log_prob.sum(-1)).mean()


def update(state: Any, key: Any, data: dict[str, Any], batch_size: int) -> tuple[Any, None]:
    """Return the state after one update."""
    networks, targets, first, second, step = state
    rows = jax.random.randint(key, (batch_size,), 0, len(data["reward"]))
    batch = {name: column[rows] for name, column in data.items()}
    gradients = jax.grad(loss)(networks, targets, batch)
    step = step + 1
    over = partial(jax.tree_util.tree_map)
    first = over(lambda m, g: ONE * m + (1 - ONE) * g, first, gradients)
    second = over(lambda v, g: TWO * v + (1 - TWO) * g * g, second, gradients)
    bias, root = 1 - ONE**step, jnp.sqrt(1 - TWO**step)
    networks = over(
        lambda p, m, v: p - RATE / bias * m / (jnp.sqrt(v) / root + EPSILON),
        networks,
        first,
        second,
    )
    targets = over(lambda t, p: t + 0.005 * (p - t), targets, networks["critics"])
    return (networks, targets, first, second, step), None


def scan(
    data: dict[str, torch.Tensor], hidden: Sequence[int], batch_size: int, updates: int = 1024
) -> Callable[[int], int]:
    """Return a function that makes at least so many updates, and returns how many it made."""
    columns = {name: jnp.asarray(column.numpy()) for name, column in data.items()}
    observation, action = data["observation"].shape[1], data["action"].shape[1]
    keys = jax.random.split(jax.random.key(0), 4)
    critics = [layers(key, (observation + action, *hidden, 1)) for key in keys[:2]]
    networks = {
        "critics": critics,
        "value": layers(keys[2], (observation, *hidden, 1)),
        "actor": layers(keys[3], (observation, *hidden, action)),
        "log_std": jnp.zeros(action),
    }
    zeros = jax.tree_util.tree_map(jnp.zeros_like, networks)
    state = [(networks, critics, zeros, zeros, jnp.zeros(()))]

    @jax.jit
    def many(state: Any, key: Any) -> Any:
        one = partial(update, data=columns, batch_size=batch_size)
        return jax.lax.scan(one, state, jax.random.split(key, updates))[0]

    def run(wanted: int) -> int:
        calls = -(-wanted // updates)
        for number in range(calls):
            state[0] = many(state[0], jax.random.key(number))
        jax.block_until_ready(state[0])
        return calls * updates

    return run


def main() -> int:
    """Measure and print updates per second."""
    size, seconds = SIZES[sys.argv[1]], float(sys.argv[2])
    # About as many updates per call as take half a second, as a user would choose them.
    run = scan(make_log(size), size.hidden, size.batch_size, 8192 if size.name == "S" else 128)
    run(1)
    made, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        made += run(1)
    sys.stdout.write(f"{made / (time.perf_counter() - start)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
