"""The same networks in PyTorch; needs the environment of requirements/torch.txt."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from tests.bench import worker


class Tutorial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.bn = nn.BatchNorm2d(64)
        self.fc1, self.fc2 = nn.Linear(64 * 12 * 12, 256), nn.Linear(256, worker.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        x = torch.max_pool2d(torch.relu(self.bn(self.conv2(x))), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Compact(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32)
        self.fc1, self.fc2 = nn.Linear(32 * 5 * 5, 128), nn.Linear(128, worker.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.conv4, self.bn4 = nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)
        self.conv5, self.bn5 = nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128)
        self.conv6, self.bn6 = nn.Conv2d(128, 128, 3), nn.BatchNorm2d(128)
        self.fc = nn.Linear(128 * 3 * 3, worker.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = torch.relu(self.bn3(self.conv3(x)))
        x = torch.max_pool2d(torch.relu(self.bn4(self.conv4(x))), 2)
        x = torch.relu(self.bn5(self.conv5(x)))
        x = torch.relu(self.bn6(self.conv6(x)))
        return self.fc(x.flatten(1))


NETWORKS: dict[str, type[nn.Module]] = {"tutorial": Tutorial, "compact": Compact, "deep": Deep}


class Torch(worker.Framework):
    """One network and its optimizer."""

    def build(
        self, network: str, weights: str, compiled: bool = False, channels_last: bool = False
    ) -> None:
        """Make the network with the weights in the file `weights`."""
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.plain: Any = NETWORKS[network]()
        arrays = {name: torch.from_numpy(a) for name, a in np.load(weights).items()}
        missing, unexpected = self.plain.load_state_dict(arrays, strict=False)
        if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
            raise ValueError(f"weights differ in name: {missing} are missing, {unexpected} extra")
        self.plain.to(memory_format=self.layout)
        self.network: Any = torch.compile(self.plain) if compiled else self.plain
        self.optimizer = torch.optim.SGD(
            self.plain.parameters(), worker.LEARNING_RATE, worker.MOMENTUM, 0, worker.WEIGHT_DECAY
        )

    def matrix_product(self, size: int, times: int) -> worker.Products:
        """Seconds that each of some products of square matrices took, and the cores they used."""
        a, b = torch.rand(size, size), torch.rand(size, size)
        return worker.products(lambda: a @ b, times)

    def _images(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).contiguous(memory_format=self.layout)

    def mode(self, training: bool) -> None:
        self.network.train(training)

    def infer(self, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result: np.ndarray = self.network(self._images(images)).numpy()
        return result

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        logits = self.network(self._images(images))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}


if __name__ == "__main__":
    worker.serve(Torch())
