"""`make bench`: what is promised about speed, measured now, on this machine, with nothing else running."""

import importlib
import sys

from ssl_lab.records.provenance import hardware

MODULES = (
    "commands",
    "augmentation",
    "nt_xent",
    "losses",
    "tables",
    "evaluation",
    "health",
    "microbatch",
    "survive",
    "pages",
    "loop",
)


def main() -> None:
    """Print one row a figure; name modules to run only those."""
    print(hardware())
    for name in sys.argv[1:] or MODULES:
        for row in importlib.import_module(f"benchmarks.{name}").measure():
            print(f"{row.name:66} {row.value:12,.4g} {row.unit:9} {row.target}", flush=True)


if __name__ == "__main__":
    main()
