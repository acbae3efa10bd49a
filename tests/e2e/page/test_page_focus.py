"""Who works by keyboard is never lost: after each action the focus is where one goes on, and never on nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from page_visit import MIB, Answers, Visit, Visitor

MakeFile = Callable[[str, int], Path]

UNDO = "Undo: back into this list"

# As often as something is drawn: for a moment nothing may have the focus, but nobody may see or hear that.
WATCH = """() => {
  window.lost = [];
  const look = () => {
    if (document.activeElement === document.body) lost.push(document.querySelector("main").innerText);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
HAS_FOCUS = "name => [document.activeElement.ariaLabel, document.activeElement.innerText].includes(name)"


class Keyboard:
    """Presses buttons of a page, and looks where the focus goes."""

    def __init__(self, tab: Visit) -> None:
        self._tab = tab
        self._file: Path | None = None
        tab.page.on("filechooser", lambda chooser: self._file and chooser.set_files(self._file))
        self.watch()

    def watch(self) -> None:
        """Also after a reload."""
        self._tab.page.keyboard.press("Tab")
        self._tab.page.evaluate(WATCH)

    def press(self, name: str, *, then: str, file: Path | None = None) -> None:
        self._tab.button(name).focus()
        self._file = file
        self._tab.page.keyboard.press("Enter")
        try:
            self._tab.page.wait_for_function(HAS_FOCUS, arg=name if then == "the same" else then, timeout=10_000)
        except Exception as error:
            error.add_note(f"after {name} has the focus: {self._tab.page.evaluate('document.activeElement.outerHTML')}")
            raise
        assert self._tab.page.evaluate("lost") == [], f"nothing had the focus after {name}"


def test_after_each_action_the_focus_is_where_one_goes_on(visit: Visitor, make_file: MakeFile) -> None:
    tab = visit()
    answers, keyboard = Answers(tab), Keyboard(tab)
    tab.choose(make_file("first.bin", MIB), make_file("second.bin", MIB))
    tab.wait_for_start("first.bin")
    tab.wait_for_start("second.bin")

    keyboard.press("Pause first.bin", then="Resume first.bin")
    keyboard.press("Resume first.bin", then="Pause first.bin")
    keyboard.press("Pause all", then="Resume all")
    keyboard.press("Resume all", then="Pause all")
    keyboard.press("Cancel first.bin", then="Keep it")
    keyboard.press("Keep it", then="Cancel first.bin")
    keyboard.press("Cancel first.bin", then="Keep it")
    keyboard.press("Stop and remove", then="Pause second.bin")
    keyboard.press("Pause second.bin", then="Resume second.bin")
    answers.how = "refuse"
    keyboard.press("Resume second.bin", then="Try again: second.bin")
    answers.how = "take"
    keyboard.press("Try again: second.bin", then="Copy link of second.bin")
    tab.wait_for("second.bin", "finished", check="same")

    keyboard.press("Copy link of second.bin", then="the same")
    keyboard.press("Copy the sha256 digest", then="the same")
    keyboard.press("Remove second.bin from this list", then=UNDO)
    keyboard.press(UNDO, then="Copy link of second.bin")
    keyboard.press("Clear list", then=UNDO)
    keyboard.press(UNDO, then="Copy link of second.bin")

    answers.how = "hold"
    third = make_file("third.bin", MIB)
    tab.choose(third)
    tab.wait_for_start("third.bin")
    tab.choose(third)
    keyboard.press("Dismiss", then="Choose files")
    keyboard.press("Cancel third.bin", then="Keep it")
    keyboard.press("Stop and remove", then="Choose files")
    tab.complaints.clear()  # what was refused


def test_when_a_file_is_chosen_again_the_focus_goes_on(visit: Visitor, make_file: MakeFile) -> None:
    path = make_file("thesis.zip", MIB)
    newer, other = make_file("newer/thesis.zip", 900), make_file("other.zip", MIB)
    choose, old, over = (f"{act} thesis.zip{again}" for act, again in (
        ("Choose file", " again"), ("Choose the old file:", ""), ("Start over:", ""),
    ))  # fmt: skip
    tab = visit()
    Answers(tab)
    tab.choose(path)
    tab.wait_for_start(path.name)
    tab.reload()
    keyboard = Keyboard(tab)
    tab.wait_for(path.name, "stopped")

    keyboard.press(choose, file=other, then="the same")
    tab.row(path.name).get_by_text("This is other.zip").wait_for()
    keyboard.press(choose, file=newer, then=old)
    keyboard.press(old, file=path, then="Pause thesis.zip")

    tab.reload()
    keyboard.watch()
    keyboard.press(choose, file=newer, then=old)
    keyboard.press(over, then="Pause thesis.zip")


def test_in_a_long_list_the_focus_goes_on_too(visit: Visitor) -> None:
    tab = visit()
    script = """() => {
      for (let number = 0; number < 62; number++) {
        const texts = { key: `k${number}`, url: `/files/${number}`, name: `${number}.bin`, path: "", type: "" };
        const numbers = { size: 5, lastModified: 1, chunkBytes: 0, saved: 5, addedAt: number, endedAt: number };
        const ends = { digest: `sha256:${"0".repeat(64)}`, verdict: "", isPaused: false, isFinished: true };
        localStorage.setItem(`tusd-py:/files/:upload:k${number}`, JSON.stringify({ ...texts, ...numbers, ...ends }));
      }
    }"""
    tab.page.evaluate(script)
    tab.page.route("**/api/events*", lambda route: route.abort())
    tab.reload()
    keyboard = Keyboard(tab)

    keyboard.press("Verify 61.bin: read it back and compare", then="Copy link of 61.bin")
    keyboard.press("Show 2 more", then="1.bin")
    keyboard.press("Remove 1.bin from this list", then=UNDO)
    keyboard.press("Remove 0.bin from this list", then=UNDO)
    tab.page.get_by_text("2 files are off this list. They stay on the server.").first.wait_for()
    tab.complaints.clear()  # there are no such uploads
