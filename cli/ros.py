"""``hindsight ros``: an exported policy as a node of ROS 2."""

import sys
from collections.abc import Sequence

from hindsight_rl.cli.errors import command_parser, run

_EXAMPLES = """\
example:
  hindsight ros arm.onnx --ros-args -p observation:="['/joint_states.position']" \\
      -p action:=/commands.data -r /joint_states:=/arm/joint_states

parameters:
  observation   fields of topics, in the contract's order; observation.NAME for an entry
  action        the field that takes the action; action_type its type of messages
  rate          steps a second (the contract's); task: numbers of the task
  oldest, hold  seconds that a sensor may be old (0.1); bad readings in a row that are bridged (3)
  missed_limit  deadlines missed in a row after which it ends (3); 0: they are only counted
  stamps        receive, or header: by which time a message is old
  wait          seconds in which every topic must have come (10); real_time: true asks for it

It publishes ~/status once a second, and ends with exit code 1 and no further command where sensors
stay bad or deadlines are missed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight ros``.

    Args:
        argv: Words after ``ros``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 ROS ended it, 1 a fault of sensors or deadlines, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_parser("ros", "Runs an exported policy as a node of ROS 2.", _EXAMPLES)
    parser.add_argument("file", metavar="FILE.onnx", help="the exported policy")
    given, arguments = parser.parse_known_args(argv)
    from hindsight_rl.export.ros import run_node

    report = run_node(given.file, arguments)
    sys.stderr.write(f"{report}\n")
    return 1 if report.fault else 0
