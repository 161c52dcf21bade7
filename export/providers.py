"""Execution providers of onnxruntime: what else than the processor may run a graph.

A provider computes in its own way, often in fewer bits than float32. A policy that is given
providers is therefore proven on its probe rows before it acts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from hindsight_rl.export.contract import ContractError

Provider = str | tuple[str, Mapping[str, Any]]
"""A name of onnxruntime's, alone or with the provider's options."""
CPU = "CPUExecutionProvider"
_PACKAGES = {
    "TensorrtExecutionProvider": "onnxruntime-gpu, and TensorRT",
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
}
"""What brings a provider, by its name; each in the place of the package onnxruntime."""


def from_words(words: Sequence[str]) -> list[Provider]:
    """Return the providers that words of a command line name, ``NAME`` or ``NAME:KEY=VALUE,...``.

    Args:
        words: In the order in which they are tried.

    Returns:
        The providers.

    Raises:
        ValueError: An option has no value.
    """
    found: list[Provider] = []
    for word in words:
        name, colon, rest = word.partition(":")
        pairs = [pair.partition("=") for pair in rest.split(",")] if colon else []
        if any(not key or not value for key, _, value in pairs):
            raise ValueError(f"--providers {word}: options are written as {name}:KEY=VALUE,...")
        found.append((name, {key: value for key, _, value in pairs}) if pairs else name)
    return found


def installed(providers: Sequence[Provider]) -> list[Provider]:
    """Return providers that are all part of the onnxruntime that is installed.

    Args:
        providers: In the order in which they are tried.

    Returns:
        The same.

    Raises:
        ValueError: There are none, one is named twice, or is not installed.
    """
    names = [_name(each) for each in providers]
    if not names:
        raise ValueError("providers is empty: name at least one, or leave it out for the processor")
    if len(set(names)) < len(names):
        raise ValueError(f"providers names one twice: {', '.join(names)}")
    known = onnxruntime.get_available_providers()
    for name in names:
        if name not in known:
            package = _PACKAGES.get(name)
            advice = "" if package is None else f". It comes with {package}"
            raise ValueError(
                f"provider '{name}' is not part of the onnxruntime {onnxruntime.__version__} that "
                f"is installed, which has {', '.join(known)}{advice}"
            )
    return list(providers)


def check_used(
    session: onnxruntime.InferenceSession, providers: Sequence[Provider], path: object
) -> None:
    """Check that a session uses every provider it was given, and will not leave them later.

    onnxruntime drops a provider whose libraries do not load, with a line in its log.

    Args:
        session: The session.
        providers: What it was given.
        path: Of the policy file, for messages.

    Raises:
        ContractError: One was dropped.
    """
    session.disable_fallback()
    used = session.get_providers()
    dropped = [name for name in map(_name, providers) if name not in used]
    if dropped:
        raise ContractError(
            f"{path}: onnxruntime dropped {', '.join(dropped)}, and would run the policy with "
            f"{', '.join(used)}: it does not find the provider's libraries (driver, CUDA, cuDNN, "
            "TensorRT) or device, or knows no such option. Its log on stderr says which"
        )


def _name(provider: Provider) -> str:
    return provider if isinstance(provider, str) else provider[0]
