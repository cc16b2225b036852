"""What signals do to a run: one is a request, two at once are still one, a later one ends it."""

import os
import signal
import subprocess
import sys

import pytest

from ssl_lab.records.interrupt import Asked

HANGS = """
import os, signal, time
from ssl_lab.records import interrupt
interrupt.AT_ONCE = {at_once}
asked = interrupt.Asked()
asked.listen(insistent={insistent})
for _ in range(2):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.05)
print("goes on, asked by", asked.number)
"""


@pytest.mark.parametrize(
    ("insistent", "at_once", "code"),
    [(True, 10.0, 0), (True, 0.01, -signal.SIGTERM), (False, 0.01, 0)],
    ids=["twice at once", "again later", "again, and passed on by a launcher"],
)
def test_a_second_signal(insistent: bool, at_once: float, code: int) -> None:
    line = [sys.executable, "-c", HANGS.format(insistent=insistent, at_once=at_once)]
    ended = subprocess.run(line, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ("" if code else f"goes on, asked by {signal.SIGTERM:d}\n")


def test_the_handlers_that_were_there_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    asked = Asked()
    asked.listen(insistent=True)
    os.kill(os.getpid(), signal.SIGINT)
    asked.restore()
    assert asked.number == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before
