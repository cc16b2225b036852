"""`python -m ssl_lab.report run=…` or `runs=…`: what was measured, as a page to look at that needs no network."""

from typing import Any


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands; torch comes in here, so that an error before needs no second."""
    from pathlib import Path

    from ssl_lab.pages import run_page, runs_page, write_pages
    from ssl_lab.records import baseline_results, find_run, run_folders
    from ssl_lab.say import say

    if (config["run"] is None) == (config["runs"] is None):
        raise ValueError("run, runs: give one of them: run=<folder of a run>, or runs='outputs/<experiment>/*'")
    out = Path(config["paths"]["out"])
    beside, unread = baseline_results(out)
    for line in unread:
        say(f"note  {line}")
    if config["run"] is not None:
        folder = find_run(config["run"])
        to = Path(config["to"] or folder.path / "report.html")
        content = run_page(folder, beside)
    else:
        to = Path(config["to"] or out / "report.html")
        folders = run_folders(config["runs"])
        write_pages(folders, beside)  # which the page of all leads to
        content = runs_page(folders, to)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(content)
    say(f"{to} ({len(content) / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    from ssl_lab import cli

    cli.enter("report", run)
