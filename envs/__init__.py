"""Environments: ours by Gymnasium id, and the one evaluator (``rollout``) with its statistics.

Importing this package registers ours (see ``hindsight_rl.envs.registration``). Nothing here
imports torch.
"""

from hindsight_rl.envs.registration import register

register()
