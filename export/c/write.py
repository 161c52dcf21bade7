"""Writes a policy file as C, once its self test has passed here."""

from pathlib import Path
from typing import Any

from hindsight_rl.export.c.compiler import compiler, tested
from hindsight_rl.export.c.graph import CodeError
from hindsight_rl.export.c.source import c_source
from hindsight_rl.files import write_whole


def write_c(data: bytes, path: str, output: Path) -> dict[str, Any]:
    """Write a policy file as ``NAME.c`` and ``NAME.h``, and return a report.

    The self test is compiled and run first, where this machine has a C compiler. Neither file
    appears unless it passes.

    Args:
        data: Bytes of the policy file.
        path: Where they came from, for messages.
        output: ``NAME.c``.

    Returns:
        ``path``, ``header``, ``bytes`` of both, ``learner``, ``memory`` (bytes of a state, nearly),
        ``compiler`` and ``self_test``, what it said; both ``None`` where there is no compiler.

    Raises:
        CodeError: The output is no ``.c``; the graph has no form in C; or the test does not pass.
        ContractError: The bytes are no policy file that may be run.
    """
    if output.suffix != ".c":
        raise CodeError(f"{output}: C is written to a file that ends in .c, such as policy.c")
    source = c_source(data, path, output.stem)
    found = compiler()
    said = None if found is None else tested(source, found)
    header, code = source.header.encode("ascii"), source.code.encode("ascii")
    place = output.with_name(f"{source.name}.h")
    write_whole(place, lambda file: file.write(header))
    write_whole(output, lambda file: file.write(code))
    return {
        "path": str(output),
        "header": str(place),
        "bytes": len(header) + len(code),
        "learner": source.learner,
        "memory": source.memory,
        "compiler": found,
        "self_test": said,
    }
