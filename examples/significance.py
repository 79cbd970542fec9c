"""Train in Python, compare two networks on the same events, choose a cut, quote a significance.

    python examples/significance.py data/hh4b

The folder is a dataset, made by `manyscale generate --out data/hh4b` or by `manyscale convert`.
"""

import argparse

import numpy as np

import manyscale as ms
from manyscale.statistics.metrics import auc_difference


def main() -> None:
    """Train, evaluate, cut, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--expected", type=float, nargs=2, default=(100.0, 1e5), metavar=("S", "B"))
    chosen = parser.parse_args()

    data = ms.Dataset.open(chosen.dataset)
    print(f"{len(data)} events, {data.class_counts}")
    test = data.test.events()
    weights = data.balanced_weights(test)  # each class sums to one

    scores = {}
    for preset in ("model-2", "kinematics-only"):
        network = ms.Classifier(preset=preset, epochs=chosen.epochs)
        network.fit(data.train, validation=data.validation)
        scores[preset] = network.predict_proba(data.test)[:, 1]
        figures = ms.evaluate(test.label, scores[preset], weights)
        print(f"{preset}: AUC {figures['auc']:.4f} ± {figures['auc_error']:.4f}")
    difference, error = auc_difference(test.label, *scores.values(), weights)
    print(f"difference on the same events: {difference:+.4f} ± {error:.4f}")

    # A cut that keeps half of the signal, and what is left of S and B expected events.
    of_signal = scores["model-2"][test.label == 1]
    kept = scores["model-2"] >= np.median(of_signal)
    share = [float(weights[kept & (test.label == label)].sum()) for label in (1, 0)]
    s, b = np.array(chosen.expected) * share
    z = ms.significance(s, b, background_error=0.1 * b)  # 10% known background
    print(f"cut at half of the signal: s = {s:.1f}, b = {b:.1f}, {z:.2f} sigma")


if __name__ == "__main__":
    main()
