"""Draw the terminal pictures of the documentation: python -m tests.terminal_pictures [FOLDER].

Runs a small sweep on the digits and other `steppe` commands in real terminals (tmux), and draws their screens
as docs/images/{run,watch,status,plan,show}.svg. It takes a few minutes.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.tmux import ROOT, Tmux

COLUMNS, ROWS = 104, 30
SWEEP = "-t digits-cnn -o 'sgd,sam[rho=0.05|0.1],lpf-sgd' -s 0-2"
_GREY, _PAPER = (222, 226, 232), (24, 27, 32)
_RED, _GREEN, _YELLOW, _BLUE = (255, 138, 128), (126, 211, 160), (240, 200, 90), (110, 170, 255)
_DARK = TerminalTheme(
    _PAPER, _GREY, [_PAPER, _RED, _GREEN, _YELLOW, _BLUE, (220, 150, 220), (110, 200, 220), _GREY]
)
_FRAME = """\
<svg class="terminal" viewBox="0 0 {terminal_width} {terminal_height}" width="100%" \
role="img" aria-label="{unique_id}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect fill="rgb(24,27,32)" width="{terminal_width}" height="{terminal_height}" rx="8"/>
<g transform="translate(14, 12)" clip-path="url(#{unique_id}-clip)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def picture(styled: str, name: str) -> str:
    """Draw a captured screen as SVG, in a common monospace font."""
    lines = styled.split("\n")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("\n").join(Text.from_ansi(line) for line in lines), no_wrap=True, crop=False)
    console.print()  # the frame leaves no space below the last line
    svg = console.export_svg(theme=_DARK, code_format=_FRAME, unique_id=f"steppe-{name}")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def in_work(lines: list[str]) -> bool:
    """Whether the screen shows two running runs past their first epoch."""
    return sum(bool(re.search(r" [1-9]\d?/20 .*running", line)) for line in lines) == 2


def take(folder: Path) -> dict[str, str]:
    """Run all commands in `folder` and return the screens by name."""
    screens: dict[str, str] = {}
    with Tmux(folder, COLUMNS, ROWS) as runner, Tmux(folder, COLUMNS, ROWS, COLUMNS=str(COLUMNS)) as other:

        def ask(name: str, command: str) -> None:
            told = shlex.quote(f"$ {command}")
            other.run(f"{command} > out 2>&1; clear; echo {told}; cat out; echo; echo ready {name}")
            other.until(lambda now: f"ready {name}" in now)
            screens[name] = other.styled().rpartition("\n\nready")[0]

        runner.run(f'clear; echo "$ steppe run {SWEEP}"; steppe run --wandb off {SWEEP} --workers 2')
        runner.until(lambda now: sum("  done  " in line for line in now) >= 4 and in_work(now), 600)
        screens["run"] = runner.styled()
        other.run("clear; echo '$ steppe status --watch'; steppe status --watch --interval 0.5")
        other.until(lambda now: in_work(now) and any("until" in line for line in now))
        screens["watch"] = other.styled()
        other.press("C-c")
        other.until(lambda now: now[-1].startswith("$"))
        ask("status", "steppe status")
        ask("plan", f"steppe plan {SWEEP.replace('0-2', '0-9')}")
        runner.until(lambda now: now[-1].startswith("$") and "12 done" in now, 600)
        run_id = next((folder / "runs" / "runs").iterdir()).name
        ask("show", f"steppe show {run_id[:8]} | tail -n 16")
    return screens


def main() -> int:
    """Write the pictures."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, styled in take(Path(folder)).items():
            (target / f"{name}.svg").write_text(picture(styled, name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
