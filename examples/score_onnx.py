"""Score events with a model that `manyscale export` has written; neither manyscale nor torch is needed.

    python score_onnx.py model.onnx events.npz

The npz holds an array (events, tokens, columns) for each stream, named after it and padded with zeros.
"""

import argparse
import json

import numpy as np
import onnxruntime


def main() -> None:
    """Print what the model takes, then the signal probability of each event."""
    parser = argparse.ArgumentParser(description="Score an npz with an ONNX model.")
    parser.add_argument("model")
    parser.add_argument("events")
    options = parser.parse_args()

    session = onnxruntime.InferenceSession(options.model)
    about = session.get_modelmeta().custom_metadata_map
    streams = json.loads(about["streams"])
    for name, stream in streams.items():
        columns = (f"{of['name']} [{of['unit']}]".replace(" []", "") for of in stream["columns"])
        print(f"{name}: {', '.join(columns)}")

    with np.load(options.events) as stored:
        arrays = {name: stored[name].astype(np.float32) for name in streams}
    signal = json.loads(about["classes"]).index("signal")
    (probabilities,) = session.run(["probabilities"], arrays)
    for event, probability in enumerate(probabilities[:, signal]):
        print(f"{event} {probability:.6f}")


if __name__ == "__main__":
    main()
