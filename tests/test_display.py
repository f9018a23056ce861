"""What a search says while it runs."""

import pytest

from nas.display.live import SearchDisplay
from nas.pareto import RunningFront
from nas.progress import Passed, Progress


def test_time_left_is_not_told_from_the_reference_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """It is evaluated with the shared part: the first result is there at once."""
    progress = Progress(Passed({"loss": "minimize"}), RunningFront({"loss": "minimize"}, {}))
    display = SearchDisplay(trials=16, hours=None)
    said = []
    for progress.complete in range(3):
        display.search(progress, proposals=(0, 0))
        said.append(capsys.readouterr().err)
    assert [" left" in text for text in said] == [False, False, True]
