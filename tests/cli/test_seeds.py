"""Many seeds from the command: fitted at once, tested each, one exported."""

import json
from pathlib import Path

import pytest
import torch
from command_fits import fit, hindsight, refused

from hindsight_rl.training.checkpoints.load import load_learner


def test_seeds_are_fitted_tested_and_exported(place: Path) -> None:
    done = fit("--run", "run", "--env", "CartPole-v1", "--model.init_args.seeds", 2)
    assert done.code == 0, done.err
    assert "updates: compile off (" in done.err
    report = json.loads(hindsight("test", "--run", "run", "--json").out)
    assert len(report["seeds"]) == 2 and report["returns"] == [
        each["return"] for each in report["seeds"]
    ]
    words = hindsight("test", "--run", "run").out
    assert "seed 0" in words and "seed 1" in words and "interval over seeds" in words
    last = Path("run/checkpoints/last.ckpt")
    for number in (0, 1):
        out = f"seed{number}.onnx"
        ended = hindsight("export", "--ckpt_path", last, "--seed-index", number, "--output", out)
        assert ended.code == 0, ended.err
    assert Path("seed0.onnx").read_bytes() != Path("seed1.onnx").read_bytes()
    ended = hindsight("export", "--ckpt_path", last, "--seed-index", 2, "--output", "no.onnx")
    assert "seed index 2: the checkpoint holds seeds 0 to 1" in refused(ended)
    assert not Path("no.onnx").exists()


def test_seeds_are_validated_all_and_one_predicts(place: Path) -> None:
    """The error on held-out episodes is the mean over the seeds."""
    done = fit("--run", "run", "--data.validation", 0.3, "--model.init_args.seeds", 2)
    assert done.code == 0, done.err
    held = json.loads(hindsight("validate", "--run", "run", "--json").out)
    last = place / "run" / "checkpoints" / "last.ckpt"
    errors = []
    for number in (0, 1):
        held_out = torch.load(last, weights_only=True)
        one = load_learner(last, seed_index=number)
        held_out["state_dict"] = one.state_dict()
        held_out["hyper_parameters"]["seeds"] = 1
        del held_out["hindsight"]["copies"], held_out["content_hash"]
        alone = place / f"seed{number}.ckpt"
        torch.save(held_out, alone)
        words = ("--run", "run", "--ckpt_path", alone, "--model.init_args.seeds", 1)
        found = json.loads(hindsight("validate", *words, "--json").out)
        errors.append(found["validation/value"])
    assert errors[0] != errors[1]
    assert held["validation/value"] == pytest.approx(sum(errors) / 2, rel=1e-5)
    assert hindsight("predict", "--run", "run").err.endswith("by seed 0 of 2\n")
