import io

from rich.console import Console

from heteromics import _progress
from heteromics._progress import bar, steps, track


def on_terminal(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(_progress, "stderr", Console(file=shown, force_terminal=True, width=120))
    return shown


def test_a_terminal_sees_the_step_its_words_and_the_bar_of_its_items(monkeypatch):
    shown = on_terminal(monkeypatch)
    with steps(2, "priors") as step:
        step("gene")
        step.say("reading genes")
        assert list(step.track(range(3), "genes", 3)) == [0, 1, 2]
        step("peak")
        step._progress.refresh()
    said = shown.getvalue()
    for words in ("priors: gene, reading genes", "  genes", "3/3", "priors: peak", "1/2"):
        assert words in said


def test_a_bar_of_items_goes_when_they_are_done_or_left(monkeypatch):
    on_terminal(monkeypatch)
    with steps(1, "work") as step:
        step("counting")
        for item in step.track(range(10), "numbers"):
            if item == 3:
                break
        assert len(step._progress.tasks) == 1
        assert [list(step.track("ab", "letters")) for _ in range(2)] == [["a", "b"]] * 2
        assert len(step._progress.tasks) == 1


def test_a_pipe_and_who_asks_for_none_see_nothing(capfd):
    with steps(1, "work", enabled=False) as step:
        step("quietly")
        step.say("so")
        assert list(step.track(range(2), "numbers")) == [0, 1]
    assert list(track(range(2), "numbers")) == [0, 1]
    with bar() as progress:
        assert progress.disable
    assert capfd.readouterr() == ("", "")
