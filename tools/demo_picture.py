"""A picture of the demo page for the gallery, taken by Chromium.

    PYTHONPATH=tests python tools/demo_picture.py [build/demo] [docs/demo/rooms.webp]

Serves the folder that ``make demo`` wrote, points at the opposite room, and takes the picture once
the agent is there. Needs Chromium.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from browser import browser, served


def main() -> int:
    """Take it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("page", type=Path, nargs="?", default=Path("build/demo"))
    parser.add_argument("output", type=Path, nargs="?", default=Path("docs/demo/rooms.webp"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with served(options.page) as url, browser(Path(folder)) as page:
            page.sized(1040, 700)
            page.call("Emulation.setScrollbarsHidden", hidden=True)
            page.visit(f"{url}index.html")
            page.until("Boolean(window.walk)")
            page.value("walk.agent = walk.before = Float32Array.of(28.5, 29.5)")
            page.value("walk.picture.went(null)")
            page.mouse("mouseMoved", *page.value("walk.picture.place([4.5, 4.5])"))
            page.until("walk.there > 0")
            page.picture(options.output, options.output.suffix[1:], whole=False)
            faults = page.faults
    sys.stdout.write(f"{options.output}: {options.output.stat().st_size:,} bytes\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
