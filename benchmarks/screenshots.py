"""Pictures of a run's report for the docs: its top and its event display, on a desk and on a phone.

    python benchmarks/screenshots.py runs/demo

Writes docs/pictures/report_desktop.png, report_phone.png, events_desktop.png and events_phone.png.
It needs Debian's chromium and chromium-driver.
"""

import argparse
import base64
import io
import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from chromium import chromium, resize

PICTURES = Path("docs/pictures")
SCREENS = {"desktop": (1180, 820), "phone": (390, 800)}
SETTLED = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PLACE = "const r = document.getElementById('events').getBoundingClientRect(); return [r.x, r.y + scrollY, r.width, r.height]"
COLOURS = 200  # few enough for small files, enough for the shades of the marks


def take(browser: Chrome, place: tuple[float, float, float, float], name: str) -> None:
    """Write what stands at a place of the page, x, y, width and height in pixels."""
    clip = dict(zip(("x", "y", "width", "height"), place, strict=True)) | {"scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    path = PICTURES / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take all pictures of a run's report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that was explained and reported")
    report = parser.parse_args().run.resolve() / "report.html"
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        for screen, (width, height) in SCREENS.items():
            resize(browser, width, height)
            browser.get(report.as_uri())
            take(browser, (0, 0, width, height), f"report_{screen}")
            browser.execute_script("document.getElementById('events').scrollIntoView()")
            browser.execute_script(SETTLED)
            x, y, w, h = browser.execute_script(PLACE)
            edge = min(x, 12)
            take(browser, (x - edge, y, w + 2 * edge, min(h, 2 * height)), f"events_{screen}")


if __name__ == "__main__":
    main()
