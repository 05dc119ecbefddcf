"""Force errors of mlearn on its held-out frames, with bootstrap intervals over frames, beside the published ones.

    MLCALC_DATA=../shared/data python benchmarks/mlearn/held_out.py

The intervals say what a few dozen frames can tell; they do not know that settings were chosen on these frames.
"""

from __future__ import annotations

import numpy as np
from published import PUBLISHED

import mlcalc
from mlcalc.training.dataset import read_labelled, split
from mlcalc.training.metrics import predict
from mlcalc.training.settings import read_settings

RESAMPLES = 5000


def main() -> None:
    """Print one line per element."""
    rng = np.random.default_rng(0)
    for element, published in PUBLISHED.items():
        settings = read_settings(f"{__file__.rpartition('/')[0] or '.'}/mlearn-{element}.yaml")
        data = [item for path in settings.data.train for item in read_labelled(path, settings.data)]
        _, held = split(data, settings.data.validation_fraction, settings.seed)
        frames = [data[k] for k in held]
        found = predict(mlcalc.load("mlearn", elements=[element]), frames)
        squares = np.array([np.sum((f - x.forces) ** 2) for f, x in zip(found.forces, frames, strict=True)])
        sizes = np.array([f.size for f in found.forces])
        chosen = rng.integers(len(frames), size=(RESAMPLES, len(frames)))
        resampled = np.sqrt(squares[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
        low, high = np.percentile(resampled, [2.5, 97.5])
        bar = min(values[1] for name, values in published.errors.items() if name != "MTP")
        print(
            f"{element}: force RMSE {np.sqrt(squares.sum() / sizes.sum()):.4f} eV/Å on {len(frames)} frames, "
            f"95 % of resamples {low:.4f} to {high:.4f}; lowest of NNP, SNAP, qSNAP {bar:.3f}, "
            f"{100 * np.mean(resampled >= bar):.0f} % of resamples not below it"
        )


if __name__ == "__main__":
    main()
