"""The diagrams of docs/, as SVG without anything from elsewhere. docs/generate.py writes them."""

from html import escape
from typing import Final, NamedTuple

from levada.resources.phases import ACTIVE_PHASES, RUN_TRANSITIONS, TERMINAL_PHASES, RunPhase

INK: Final = "#1f2933"
LINE: Final = "#52606d"
FILLS: Final = {"plain": "#f5f7fa", "ours": "#d5f0ec", "good": "#d8f3dc", "bad": "#fde2e1", "wait": "#fff3c4"}


class Box(NamedTuple):
    """A rectangle with lines of text; x and y are its upper left corner."""

    x: int
    y: int
    width: int
    height: int
    text: tuple[str, ...]
    fill: str = "plain"

    def draw(self) -> str:
        """The rectangle and its text, the first line heavier."""
        top = self.y + self.height / 2 - 8 * (len(self.text) - 1) + 4
        words = "".join(
            f'<text x="{self.x + self.width / 2:g}" y="{top + 16 * line:g}" text-anchor="middle" '
            f'font-weight="{400 if line else 600}">{escape(text)}</text>'
            for line, text in enumerate(self.text)
        )
        return (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="6" '
            f'fill="{FILLS[self.fill]}" stroke="{LINE}"/>{words}'
        )


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    """A whole picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">\n<title>{escape(title)}</title>\n'
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def arrow(path: str, label: str = "", at: tuple[float, float] = (0, 0), *, dashed: bool = False) -> str:
    """A line with a tip along `path`, and words beside it."""
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    line = f'<path d="{path}" fill="none" stroke="{LINE}"{dash} marker-end="url(#tip)"/>'
    return line + (
        f'<text x="{at[0]:g}" y="{at[1]:g}" font-size="11" fill="{LINE}">{escape(label)}</text>' if label else ""
    )


def flow_of_a_run() -> str:
    """Who writes what, from apply to the end of a run."""
    boxes = [
        Box(10, 20, 170, 56, ("You", "kubectl, levada, Git")),
        Box(240, 20, 190, 56, ("Deployment, Schedule", "how and when"), "ours"),
        Box(240, 130, 190, 56, ("FlowRun", "spec: the order"), "ours"),
        Box(240, 240, 190, 66, ("FlowRun.status", "phase, tasks, stages"), "ours"),
        Box(500, 130, 150, 56, ("operator", "facts → plan → apply")),
        Box(720, 130, 130, 56, ("Job", "one an attempt")),
        Box(720, 240, 130, 66, ("Pod: runner", "your flow")),
        Box(500, 340, 150, 50, ("storage", "results, logs")),
        Box(500, 20, 150, 56, ("metrics, Events", "notifications")),
    ]
    arrows = [
        arrow("M180 48H238"),
        arrow("M335 76V128", "a tick", (342, 106)),
        arrow("M95 76V158H238", "a run at once", (102, 150)),
        arrow("M430 158H498", "watch", (445, 150)),
        arrow("M650 158H718", "create", (663, 150)),
        arrow("M785 186V238"),
        arrow("M720 290H432", "reports of its own run", (520, 283)),
        arrow("M560 186V256H432", "what it cannot say", (442, 249)),
        arrow("M785 306V365H652"),
        arrow("M575 130V78"),
    ]
    return svg(870, 405, "How a run flows through Levada", [*arrows, *(box.draw() for box in boxes)])


P = RunPhase
# Where each phase stands in the picture; which arrows there are, the table of phases says.
PLACES: Final = {
    P.SCHEDULED: (20, 150),
    P.QUEUED: (170, 150),
    P.PENDING: (320, 150),
    P.RUNNING: (470, 150),
    P.RETRYING: (470, 40),
    P.PAUSED: (320, 260),
    P.CANCELLING: (620, 150),
}
WAYS: Final = {
    (P.SCHEDULED, P.QUEUED): "M130 170H168",
    (P.QUEUED, P.PENDING): "M280 163H318",
    (P.PENDING, P.QUEUED): "M320 178H282",
    (P.PENDING, P.RUNNING): "M430 170H468",
    (P.RUNNING, P.RETRYING): "M535 150V82",
    (P.RETRYING, P.RUNNING): "M515 80V148",
    (P.PENDING, P.RETRYING): "M395 150L478 82",
    (P.RETRYING, P.PENDING): "M468 62L375 148",
    (P.RETRYING, P.QUEUED): "M468 52C340 40 240 80 225 148",
    (P.RUNNING, P.QUEUED): "M500 192C460 238 290 238 240 192",
    (P.RUNNING, P.PAUSED): "M525 190C520 240 470 270 432 282",
    (P.PAUSED, P.RUNNING): "M432 268C460 258 495 230 505 192",
    (P.PENDING, P.PAUSED): "M385 190V258",
    (P.PAUSED, P.PENDING): "M365 258V192",
    (P.QUEUED, P.PAUSED): "M215 190C225 250 270 275 318 285",
    (P.PAUSED, P.QUEUED): "M318 270C280 262 245 235 232 192",
    (P.RUNNING, P.CANCELLING): "M580 170H618",
}


def phases() -> str:
    """The usual ways between phases, each of them checked against the table."""
    wrong = [f"{old} → {new}" for old, new in WAYS if new not in RUN_TRANSITIONS[old]]
    if wrong or set(PLACES) != ACTIVE_PHASES:
        raise ValueError(f"docs/pictures.py draws what resources/phases.py does not allow: {wrong or set(PLACES)}")
    waits = {P.SCHEDULED, P.QUEUED, P.PAUSED, P.RETRYING}
    boxes = [
        Box(x, y, 110, 40, (str(phase),), "wait" if phase in waits else "ours") for phase, (x, y) in PLACES.items()
    ]
    ends = [phase for phase in RunPhase if phase in TERMINAL_PHASES]
    boxes += [
        Box(
            40 + 115 * place,
            370,
            105,
            40,
            (str(phase),),
            "good" if phase == P.COMPLETED else "plain" if phase == P.SKIPPED else "bad",
        )
        for place, phase in enumerate(ends)
    ]
    frame = f'<rect x="25" y="355" width="{115 * len(ends) + 20}" height="70" rx="8" fill="none" stroke="{LINE}" stroke-dasharray="4 3"/>'
    words = f'<text x="150" y="345" font-size="11" fill="{LINE}">every phase above may end; an end is final</text>'
    ending = [arrow("M75 190V353", dashed=True), arrow("M550 190V353", dashed=True), arrow("M675 190V353", dashed=True)]
    return svg(
        750, 440, "Phases of a run", [frame, words, *ending, *map(arrow, WAYS.values()), *(box.draw() for box in boxes)]
    )


STAGES: Final = (
    ("queued", "due → Job made", 130, "wait"),
    ("start-up", "Job → Python runs", 150, "wait"),
    ("import", "code loaded", 100, "wait"),
    ("flow", "your code", 290, "good"),
    ("idle", "rest", 70, "wait"),
)


def stages() -> str:
    """The stages of a run on one line, and which of them are overhead."""
    parts, left = [], 15
    for name, text, width, fill in STAGES:
        parts.append(Box(left, 30, width, 54, (name, text), fill).draw())
        left += width
    parts.append(f'<text x="15" y="18" font-size="11" fill="{LINE}">time →</text>')
    parts.append(
        '<text x="15" y="108" font-size="12">overhead = (queued + start-up + import + idle) ÷ the whole</text>'
    )
    return svg(left + 15, 122, "Stages of a run", parts)


def all_of_them() -> dict[str, str]:
    """Every picture by its name."""
    return {"flow-of-a-run": flow_of_a_run(), "phases": phases(), "stages": stages()}
