"""Makes the figures of the README from those of a run: python docs/images/make.py RUN

Writes landscape.png and landscape.gif, reduced to less than 300 kB each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageSequence

HERE = Path(__file__).parent
LARGEST = 300_000  # bytes


def main(run: Path) -> None:
    still = Image.open(run / "plots" / "landscape_final.png").convert("RGB")
    still = still.resize((still.width * 3 // 4, still.height * 3 // 4), Image.Resampling.LANCZOS)
    still.quantize(256).save(HERE / "landscape.png", optimize=True)

    film = Image.open(run / "plots" / "landscape.gif")
    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
    size = (360, round(film.height * 360 / film.width))
    small = [
        f.resize(size, Image.Resampling.LANCZOS).quantize(64, dither=Image.Dither.NONE)
        for f in frames
    ]
    wait = [500] * (len(small) - 1) + [2500]
    small[0].save(
        HERE / "landscape.gif", save_all=True, append_images=small[1:], duration=wait, loop=0
    )
    for name in ("landscape.png", "landscape.gif"):
        n_bytes = (HERE / name).stat().st_size
        print(f"{name}: {n_bytes // 1000} kB")
        assert n_bytes < LARGEST, f"{name} is too large for the README"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
