"""Updates per second on the device at hand: eager, losses compiled, whole updates; precisions.

    python benchmarks/device.py [--accelerator auto] [--sizes S,L,XL] [--repeats 5]

On CUDA whole updates are replayed as a CUDA graph, and products are tried in float32, TF32 and
bfloat16; on the CPU in float32. XL: three layers of 1,024, 4,096 rows. What cannot be done says
why. Writes build/device.json.
"""

import argparse
import json
import sys
import time
from typing import Any

import torch
from chunks import chunk_of, microseconds
from results import BUILD
from shared import quiet
from sizes import SIZES, Size

from hindsight_rl.files import write_text

XL = Size("XL", 17, 6, (1024, 1024, 1024), 4096)
KINDS = {size.name: size for size in (*SIZES.values(), XL)}
WAYS = ("off", "losses", "update")
PRECISIONS: dict[str, tuple[str, str]] = {
    "float32": ("32-true", "highest"),
    "TF32": ("32-true", "high"),
    "bfloat16": ("bf16-mixed", "highest"),
}


def measure(size: Size, way: str, precision: str, device: str, repeats: int) -> dict[str, Any]:
    """Return the row of one way to train, or why there is none."""
    begun = time.perf_counter()
    mixed, products = PRECISIONS[precision]
    options = {"accelerator": device, "precision": mixed, "matmul_precision": products}

    def synchronised(run: Any) -> Any:
        def whole() -> None:
            run()
            if device == "gpu":
                torch.cuda.synchronize()

        return whole

    try:
        run = synchronised(chunk_of(size, way, threads=None, **options))
        rate = 1e6 / microseconds(run, repeats)
    except (ValueError, RuntimeError) as error:
        return {"name": f"{size.name} {way} {precision}", "why": str(error).splitlines()[0]}
    seconds = time.perf_counter() - begun
    numbers = {"mean": rate, "low": rate, "high": rate, "seeds": 1, "seconds": seconds}
    return {"name": f"{size.name} {way} {precision}"} | numbers


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--sizes", default=",".join(KINDS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    quiet()
    device = options.accelerator
    if device == "auto":
        device = "gpu" if torch.cuda.is_available() else "cpu"
    sys.stdout.write(f"{torch.cuda.get_device_name() if device == 'gpu' else 'CPU'}\n")
    precisions = list(PRECISIONS) if device == "gpu" else ["float32"]
    rows = []
    for name in options.sizes.split(","):
        for way in WAYS:
            for precision in precisions:
                row = measure(KINDS[name], way, precision, device, options.repeats)
                rows.append(row)
                said = f"{row['mean']:>10,.0f} updates/s" if "mean" in row else row["why"]
                sys.stdout.write(f"{row['name']:<24}{said}\n")
                sys.stdout.flush()
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "device.json", json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
