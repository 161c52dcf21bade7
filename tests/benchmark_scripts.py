"""Scripts of ``benchmarks`` that tests run too, as modules.

Imported as ``benchmark_scripts`` (``tests`` is on pytest's path).
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def loaded(name: str) -> ModuleType:
    """Return a script as a module that finds those beside it.

    Args:
        name: Its path below ``benchmarks`` without ``.py``.
    """
    path = FOLDER / f"{name}.py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


triad = loaded("triad")
arm_tasks = loaded("hipi/arm_tasks")
