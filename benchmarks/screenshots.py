"""Pictures of a run's report for the docs: its first screen and its event display, 1280 and 390 pixels wide.

    python benchmarks/screenshots.py runs/demo

Writes docs/pictures/report_desktop.png, report_phone.png, events_desktop.png and events_phone.png.
It needs Debian's chromium and chromium-driver.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from chromium import chromium, resize

PICTURES = Path("docs/pictures")
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
SETTLED = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
TO_THE_DISPLAY = "document.getElementById('events').scrollIntoView()"
PLACE = "const r = document.getElementById('events').getBoundingClientRect(); return [r.x, r.width, r.height]"
# What is far down is laid out when it is first scrolled to, which moves it.
SCROLLS = 3
COLOURS = 200  # few enough for small files, enough for the shades of the marks


def take(browser: Chrome, name: str, left: float = 0, width: float | None = None) -> None:
    """Write what the screen shows, or `width` pixels of it from `left` on."""
    shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    right = shot.width if width is None else min(shot.width, left + width)
    picture = shot.crop((int(left), 0, int(right), shot.height))
    path = PICTURES / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def show_display(browser: Chrome) -> list[float]:
    """Scroll to the event display; return its left edge, width and height in pixels."""
    for _ in range(SCROLLS):
        browser.execute_script(TO_THE_DISPLAY)
        browser.execute_script(SETTLED)
    place: list[float] = browser.execute_script(PLACE)
    return place


def main() -> None:
    """Take all pictures of a run's report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that was explained and reported")
    report = parser.parse_args().run.resolve() / "report.html"
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        for screen, (width, height) in SCREENS.items():
            resize(browser, width, height)
            browser.get(report.as_uri())
            take(browser, f"report_{screen}")
            _, _, tall = show_display(browser)
            resize(browser, width, min(int(tall), 2 * height))
            left, wide, _ = show_display(browser)
            edge = min(left, 12)
            take(browser, f"events_{screen}", left - edge, wide + 2 * edge)


if __name__ == "__main__":
    main()
