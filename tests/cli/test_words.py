"""Words of a command before they are parsed: ``--env`` reaches data that takes it."""

from pathlib import Path

import pytest
import yaml

from hindsight_rl.cli.words import packaged_config, spell_out

SHARED = ("gail", "airl", "darc", "rlpd", "redq", "iql_online", "awac_online", "sac_online")


def spelled(*words: str) -> list[str]:
    """Return the words of a ``fit`` as they are parsed, without the configuration."""
    command, *rest = spell_out(["fit", *words])[0]
    assert command == "fit"
    return [word for word in rest if not word.endswith(".yaml") and word not in ("--config", "-c")]


@pytest.mark.parametrize("config", SHARED)
@pytest.mark.parametrize("env", [["--env", "CartPole-v1"], ["--env=CartPole-v1"]])
def test_env_reaches_data_that_takes_it(config: str, env: list[str]) -> None:
    added = "--data.env=CartPole-v1"
    assert spelled("--config", config, *env) == [added, *env]
    assert spelled(*env, "-c", config) == [*env, added]
    path = packaged_config(config)
    assert spell_out(["fit", "--config", config, *env])[0] == [
        *("fit", "--config", path, added, *env)
    ]


def test_data_env_of_the_user_comes_later_and_wins() -> None:
    words = ("--env", "CartPole-v1", "--data.env", "Acrobot-v1")
    assert spelled("--config", "redq", *words) == ["--data.env=CartPole-v1", *words]


def test_nothing_is_added_without_need(tmp_path: Path) -> None:
    assert spelled("--config", "redq") == []
    assert spelled("--config", "iql", "--env", "CartPole-v1") == ["--env", "CartPole-v1"]
    for text in ("data: 3", "[1, 2]", "data: {init_args: {env: Pendulum-v1}}", "no: [yaml"):
        own = tmp_path / "own.yaml"
        own.write_text(text)
        assert spelled("--config", str(own), "--env", "A-v0") == ["--env", "A-v0"]


def test_any_argument_of_data_may_take_it(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("env: A-v0\ndata: {init_args: {env: '${env}', other: '${env}'}}")
    added = ["--data.env=B-v0", "--data.other=B-v0"]
    assert spelled("--config", str(own), "--env", "B-v0") == [*added, "--env", "B-v0"]


@pytest.mark.parametrize("name", ["env", "evaluation.env"])
def test_an_environment_of_the_learner_where_it_is_not_read_is_refused(
    name: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    arguments = "{env: A-v0}" if name == "env" else "{evaluation: {env: A-v0}}"
    own.write_text(f"model: {{class_path: BC, init_args: {arguments}}}")
    told = f"own.yaml: model.init_args.{name} is not read: write 'env: A-v0' at the top of the file"
    with pytest.raises(ValueError, match=told):
        spelled("--config", str(own))


def test_a_configuration_of_a_former_layout_is_read_in_the_spelling_of_today(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own.yaml"
    model = {
        "class_path": "CRR",
        "init_args": {"hidden": [8], "evaluation": "policy", "eval_every": 5, "env_kwargs": None},
    }
    own.write_text(yaml.safe_dump({"env": "A-v0", "model": model, "trainer": {"max_steps": 3}}))
    text = spell_out(["fit", "--config", str(own)])[0][2]
    assert yaml.safe_load(text) == {
        "env": "A-v0",
        "model": {
            "class_path": "CRR",
            "init_args": {
                "network": {"hidden": [8]},
                "candidates": 0,
                "evaluation": {"every": 5},
            },
        },
        "trainer": {"max_steps": 3},
    }


@pytest.mark.parametrize("part", ["", "init_args."])
def test_former_words_are_those_of_today(part: str) -> None:
    former = [f"--model.{part}eval_every", "5", f"--model.{part}eval_command=held"]
    today = [f"--model.{part}evaluation.every", "5", f"--model.{part}evaluation.command=held"]
    assert spelled(*former) == today == spelled(*today)
    assert spelled(f"--model.{part}evaluation.env", "A-v0") == ["--env", "A-v0"]


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["--model.history", "4"], ["--model.history.steps=4"]),
        (
            ["--model.history=4", "--model.history.actions=false"],
            ["--model.history.steps=4", "--model.history.actions=false"],
        ),
        (
            ["--model.history.actions=false"],
            ["--model.history.steps=0", "--model.history.actions=false"],
        ),
        (
            ["--model.head", "mixture", "--model.head.components=3"],
            ["--model.head.kind=mixture", "--model.head.components=3"],
        ),
        (
            ["--model.head.components=3"],
            ["--model.head.kind=gaussian", "--model.head.components=3"],
        ),
        (["--model.head", "{kind: laplace}"], ["--model.head={kind: laplace}"]),
    ],
)
def test_an_argument_given_by_one_field_goes_with_its_others(
    given: list[str], parsed: list[str]
) -> None:
    assert spelled("--config", "bc", *given) == parsed
