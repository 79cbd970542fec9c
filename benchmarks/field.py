"""Model 1 against a network of the field, on the same 4,000 top and QCD jets, judged on the same others.

    python benchmarks/other_jets.py runs/other_jets
    python benchmarks/field.py runs/other_jets

A DeepSets network (M. Zaheer et al., arXiv:1703.06114; as particle flow network in P. Komiske, E. Metodiev,
J. Thaler, arXiv:1810.05165), our own expression of the papers, from fresh weights. It sees the features that
Model 1 sees. Differences are paired.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from manyscale.card import load_card
from manyscale.console import print_table
from manyscale.data.dataset import Dataset
from manyscale.deployment.scores import read_scores
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor, standardise
from manyscale.reporting.tables import Table
from manyscale.runs.fit import open_data
from manyscale.runs.folder import RunFolder
from manyscale.statistics.metrics import auc_difference, evaluate

EPOCHS, BATCH, RATE, MOST = 12, 128, 1e-3, 128


class DeepSets(nn.Module):
    """A sum over particles of what a perceptron makes of each, and a perceptron of it."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.each = nn.Sequential(
            nn.Linear(inputs, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 256)
        )
        self.together = nn.Sequential(
            nn.ReLU(), nn.Linear(256, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()
        )
        self.head = nn.Linear(100, 2)

    def forward(self, features: Tensor, real: Tensor) -> Tensor:
        """Map features (jets, n, inputs) to logits (jets, 2)."""
        summed = (self.each(features) * real[:, :, None]).sum(1)
        logits: Tensor = self.head(self.together(summed))
        return logits


def padded(part: Dataset, extractor: FeatureExtractor) -> tuple[Tensor, Tensor, Tensor]:
    """Features (jets, n, inputs), which tokens are real (jets, n), and labels (jets,)."""
    events = part.events()
    stream = events.streams["jet1"].leading(MOST, 0)
    numbers, classes = extractor(StreamBatch.of(stream))
    hot = [nn.functional.one_hot(one, 17) for one in classes.T]
    inputs = torch.cat([numbers, *hot], 1)
    real = torch.arange(MOST) < torch.from_numpy(stream.counts)[:, None]
    features = torch.zeros(*real.shape, inputs.shape[1])
    features[real] = inputs
    return features, real, torch.from_numpy(events.label)


@torch.no_grad()
def scores_of(network: nn.Module, arrays: tuple[Tensor, ...]) -> np.ndarray:
    """Signal probability of each jet."""
    network.eval()
    parts = zip(*(torch.split(array, 500) for array in arrays[:2]), strict=True)
    found = [torch.softmax(network(*part), 1)[:, 1] for part in parts]
    return torch.cat(found).numpy().astype(np.float64)


def trained(
    network: nn.Module, train: tuple[Tensor, ...], held_out: tuple[Tensor, ...]
) -> nn.Module:
    """Train with a one-cycle rate; keep the epoch of the lowest validation loss."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    steps = EPOCHS * -(-len(train[2]) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    best, kept = np.inf, {}
    for epoch in range(EPOCHS):
        network.train()
        order = torch.randperm(len(train[2]), generator=torch.Generator().manual_seed(epoch))
        for chosen in torch.split(order, BATCH):
            *inputs, label = (array[chosen] for array in train)
            # No token beyond the longest jet of the batch.
            longest = int(inputs[1].sum(1).max())
            logits = network(*(one[:, :longest] for one in inputs))
            loss = nn.functional.cross_entropy(logits, label)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            cycle.step()
        signal = scores_of(network, held_out)
        loss = evaluate(held_out[2].numpy(), signal)["loss"]
        print(f"epoch {epoch + 1}, validation loss {loss:.4f}", flush=True)
        if loss < best:
            best, kept = loss, {name: v.clone() for name, v in network.state_dict().items()}
    network.load_state_dict(kept)
    return network


def main() -> None:
    """Train it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    runs = parser.parse_args().runs / "top_qcd"
    folders = {name: RunFolder(runs / name / "size-4000") for name in ("model-1", "model-1-fresh")}
    data = open_data(load_card(folders["model-1"].card))
    extractor = FeatureExtractor.for_stream(data.schema.stream("jet1"))
    learned = data.train.events().streams["jet1"]
    standardise([{"jet1": extractor}], [{"jet1": StreamBatch.of(learned)}])
    train, held_out, test = (
        padded(part, extractor) for part in (data.train, data.validation, data.test)
    )
    columns = {name: read_scores(folder.scores).columns for name, folder in folders.items()}
    found = {name: of["score"].astype(np.float64) for name, of in columns.items()}
    found["trees"] = columns["model-1"]["score_trees"].astype(np.float64)
    sizes = {name: folder.read_metrics().parameters for name, folder in folders.items()}
    torch.manual_seed(1)
    network = DeepSets(train[0].shape[2])
    sizes["DeepSets"] = sum(one.numel() for one in network.parameters())
    found["DeepSets"] = scores_of(trained(network, train, held_out), test)
    label, weights = test[2].numpy(), data.balanced_weights(data.test.bookkeeping())
    rows = []
    for name, signal in found.items():
        figures = evaluate(label, signal, weights)
        difference, error = auc_difference(label, signal, found["model-1"], weights)
        rejection = figures["background_rejection"]["0.50"]["value"]
        rows.append(
            (
                name,
                f"{figures['auc']:.4f} ± {figures['auc_error']:.4f}",
                "" if name == "model-1" else f"{difference:+.4f} ± {error:.4f}",
                f"{rejection:.0f}" if rejection else "none left",
                f"{sizes[name]:,}" if name in sizes else "",
            )
        )
    header = ("classifier", "AUC", "minus model-1", "rejection at 0.50", "parameters")
    print_table(Table("top against QCD, 4,000 jets", header, rows))


if __name__ == "__main__":
    main()
