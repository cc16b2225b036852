"""`python -m ssl_lab.shard data=folder data.root=… to=…`: pictures into tar files, for sets larger than memory."""

from typing import Any


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands; torch comes in here, so that an error before needs no second."""
    from pathlib import Path

    from ssl_lab.build import build
    from ssl_lab.data import ImageData, ShardSource, write_shards
    from ssl_lab.data.store import resolve
    from ssl_lab.say import say

    data: ImageData = build(config["data"], seed=0)
    if isinstance(data.source, ShardSource):
        raise ValueError("data=webdataset are tars already: choose data=folder, or another set")
    search = Path(data.search).expanduser() if data.search else None
    files = write_shards(resolve(data.source, data.root, search), Path(config["to"]).expanduser(), config["pictures"])
    place = files[0].parent
    say(f"{len(files)} tars in {place}\nnext: python -m ssl_lab.train data=webdataset data.root={place}")


if __name__ == "__main__":
    from ssl_lab import cli

    cli.enter("shard", run)
