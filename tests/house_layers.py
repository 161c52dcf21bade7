"""Which room may import which: the table that ``test_house`` holds. ``cli`` may import all."""

# What a room may import from the house, itself apart. The longest matching name counts.
LAYERS: dict[str, set[str]] = {
    "maths": set(),
    "nets": {"maths"},
    "tasks": {"maths"},
    # A command that asks for an advantage needs the advantage; lowering one is the evaluator's.
    "tasks.commands": {"maths", "relabel.advantage", "envs.rollout"},
    "policies": {"nets", "maths"},
    # The queue of a chunk is executed by the same code for a learner and for its file.
    "policies.torch_actor": {"maths", "export.chunks", "export.signature"},
    "planners": {"maths"},
    "relabel": {"tasks", "nets", "maths"},
    "relabel.experts": {"export.runtime"},  # who labels a log may be a file
    "relabel.learned_reward": {"nets", "maths", "training.checkpoints"},
    "relabel.disagreement": {"nets", "maths", "training.checkpoints"},
    "training": {"nets", "policies", "maths", "diagnostics", "envs.rollout", "envs.playing"},
    "training.checkpoints.load": {"agents", "training"},
    # A policy that is judged may be a file.
    "training.given": {"training", "nets", "maths", "export.runtime"},
    "agents": {"nets", "policies", "maths", "training.learner", "training.policy_values"}
    | {f"training.{name}" for name in ("sweep", "given", "judged", "policy_iteration", "features")}
    | {f"training.{name}" for name in ("elites", "round_pass", "step_statistics", "drawing")}
    | {f"training.{name}" for name in ("proximal", "recurrent", "remembered")},
    "logs": {"configs", "maths"},
    "datamodules": {"maths", "logs", "relabel", "tasks", "planners", "envs.entry_spaces"}
    | {
        f"envs.{n}"
        for n in ("actions", "interface", "lockstep", "playing", "randomised", "rollout")
    },
    "datamodules.sources.opened_model": {"training.checkpoints"},  # a model is a learner's file
    "diagnostics": {"nets", "maths", "envs.rollout", "envs.statistics"},
    # A judgement fits values and a behaviour to the log.
    "diagnostics.ope": {"agents", "training", "datamodules", "logs", "nets", "maths"},
    "reports": {"logs", "relabel", "tasks", "maths", "datamodules.relabeled"}
    | {"datamodules.relabeled_rows"},
    "envs": set(),
    # Seeds become keys of noise by one function, whether a learner or its file is played.
    "envs.rollout": {"export.draws"},
    "export": set(),
    "export.onnx": {"training", "nets", "maths", "envs"},
    "configs": set(),
}
