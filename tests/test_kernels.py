"""Each kernel gives what Jittor's own gives: values, gradients, statistics, weight files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.shared.network import kernels, runtime
from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt, nn

pytestmark = pytest.mark.slow

Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def cpu() -> None:
    runtime.use("cpu", seed=0)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def outcome(module: Any, x: np.ndarray, after: Callable[[Any], Any] = lambda y: y) -> Arrays:
    """Everything that one pass forward and one back yield, and the statistics it leaves."""
    given = jt.array(x)
    y = after(module(given))
    loss = (y * jt.array(noise(*y.shape, seed=1))).sum()
    wanted = {"x": given, **dict(module.named_parameters())}
    trained = {name: var for name, var in wanted.items() if "running" not in name}
    grads = jt.grad(loss, list(trained.values()))
    found = {"y": y.numpy()}
    found.update({f"d{name}": g.numpy() for name, g in zip(trained, grads, strict=True)})
    found.update({name: var.numpy() for name, var in module.state_dict().items()})
    return found


def twin(module: Any, plain: Any) -> Any:
    """`plain` with the weights of `module`, moved to it as a weight file would."""
    weights = {
        name: noise(*var.shape, seed=len(name)) * 0.5 + 0.2
        for name, var in module.state_dict().items()
        if not name.startswith("running")
    }
    module.load_state_dict(weights)
    assert list(module.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(weights)
    return plain


def assert_same(found: Arrays, expected: Arrays, tolerance: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        scale = np.abs(array).max() + 1e-3
        worst = float(np.abs(found[name] - array).max() / scale) if array.size else 0.0
        assert worst < tolerance, f"{name} differs by {worst:.1e} of its largest value"


CONVOLUTIONS = {
    # images, channels, height, width, filters, kernel, stride, padding
    "the tutorial's first": (5, 1, 28, 28, 32, 3, 1, 0),
    "the tutorial's second": (3, 32, 26, 26, 64, 3, 1, 0),
    "more images than groups": (37, 2, 9, 8, 4, 3, 1, 0),
    "one image, one channel, one filter": (1, 1, 5, 5, 1, 3, 1, 0),
    "stride 2": (4, 1, 28, 28, 16, 5, 2, 0),
    "stride 2, odd size": (4, 16, 11, 13, 33, 3, 2, 0),
    "padding": (2, 5, 12, 12, 24, 3, 1, 1),
    "padding wider than the kernel needs": (2, 3, 4, 6, 7, 3, 1, 2),
    "stride and padding": (3, 3, 11, 10, 17, 5, 2, 2),
    "stride wider than the kernel": (2, 3, 10, 9, 4, 1, 3, 0),
    "oblong": (2, 3, 9, 14, 48, (2, 3), (1, 2), (0, 1)),
    "kernel as large as the image": (3, 2, 7, 7, 80, 7, 1, 0),
    "few enough products": (3, 16, 9, 12, 17, 3, 1, 1),
    "too small to take fewer": (3, 16, 5, 5, 17, 3, 1, 0),
    "no taps on some pixels": (2, 2, 12, 12, 3, 2, 4, 1),
}


@pytest.mark.parametrize("shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_conv(shape: tuple[Any, ...]) -> None:
    images, channels, height, width, *rest = shape
    relu = images % 2 == 1
    layer = kernels.Conv(channels, *rest, relu=relu)
    plain = twin(layer, nn.Conv(channels, *rest))
    x = noise(images, channels, height, width)
    after = nn.relu if relu else (lambda y: y)
    assert_same(outcome(layer, x), outcome(plain, x, after))


def test_conv_without_bias() -> None:
    layer = kernels.Conv(3, 5, 3, bias=False)
    plain = twin(layer, nn.Conv(3, 5, 3, bias=False))
    x = noise(2, 3, 8, 8)
    assert_same(outcome(layer, x), outcome(plain, x))


PLANES = {
    # images, channels, height, width, relu, pool
    "the tutorial's": (6, 64, 24, 24, True, 2),
    "smallest": (1, 1, 3, 3, True, 2),
    "odd size": (3, 5, 7, 9, True, 2),
    "pool alone": (4, 3, 13, 8, False, 2),
    "relu alone": (2, 17, 4, 5, True, 1),
    "neither": (9, 2, 33, 3, False, 1),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", PLANES.values(), ids=PLANES.keys())
def test_batch_norm(shape: tuple[Any, ...], training: bool) -> None:
    *size, relu, pool = shape
    channels = size[1]
    layer = kernels.BatchNorm(channels, relu=relu, pool=pool)
    plain = twin(layer, nn.BatchNorm(channels))

    def after(y: Any) -> Any:
        y = nn.relu(y) if relu else y
        return nn.Pool(2)(y) if pool == 2 else y

    for module in (layer, plain):
        module.running_mean.update(jt.array(noise(channels) * 0.1))
        module.running_var.update(jt.array(noise(channels) ** 2 + 0.5))
        module.train() if training else module.eval()
    x = noise(*size) * 2 + 0.7
    assert_same(outcome(layer, x), outcome(plain, x, after), tolerance=1e-4)
    with jt.no_grad():
        y, expected = layer(jt.array(x)), after(plain(jt.array(x)))
    assert_same({"y": y.numpy()}, {"y": expected.numpy()})


def test_batch_norm_of_a_constant_channel_stays_finite() -> None:
    layer = kernels.BatchNorm(2, relu=True, pool=2)
    found = outcome(layer, np.full((4, 2, 6, 6), 3.0, np.float32))
    assert all(np.isfinite(array).all() for array in found.values())
    assert found["running_var"] == pytest.approx(0.9, abs=1e-6)


LINES = [(64, 500, 256), (1, 1, 1), (3, 7, 5), (17, 300, 33), (70, 193, 10), (2, 1000, 1)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", LINES)
def test_linear(shape: tuple[int, int, int], relu: bool) -> None:
    images, inputs, outputs = shape
    layer = kernels.Linear(inputs, outputs, relu=relu)
    plain = twin(layer, nn.Linear(inputs, outputs))
    x = noise(images, inputs)
    after = nn.relu if relu else (lambda y: y)
    assert_same(outcome(layer, x), outcome(plain, x, after))


class Pair(nn.Module):
    """A convolution and a BatchNorm, run by `run`."""

    def __init__(self, run: Callable[..., Any], conv: dict[str, Any], norm: dict[str, Any]) -> None:
        super().__init__()
        self.run = run
        self.conv = kernels.Conv(16, 20, 3, **conv)
        self.norm = kernels.BatchNorm(20, **norm)

    def execute(self, x: Any) -> Any:
        return self.run(x, self.conv, self.norm)


PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pooled": ({}, {"relu": True, "pool": 2}),
    "padded": ({"padding": 1, "bias": False}, {"relu": True}),
    "strided": ({"stride": 2}, {}),
    # What the kernel does not take goes through both layers.
    "with ReLU between": ({"relu": True}, {}),
    "in groups": ({"groups": 4}, {"relu": True, "pool": 2}),
    "without weight": ({}, {"affine": False}),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("conv", "norm"), PAIRS.values(), ids=PAIRS.keys())
def test_conv_norm_gives_the_bytes_of_one_after_the_other(
    conv: dict[str, Any], norm: dict[str, Any], training: bool
) -> None:
    both = Pair(kernels.conv_norm, conv, norm)
    plain = Pair(lambda x, conv, norm: norm(conv(x)), conv, norm)
    plain.load_parameters(both.state_dict())
    x = noise(5, 16, 9, 11)
    if training:
        found, expected = outcome(both, x), outcome(plain, x)
    else:
        for pair in (both, plain):
            pair.eval()
        with jt.no_grad():
            found, expected = {"y": both(jt.array(x)).numpy()}, {"y": plain(jt.array(x)).numpy()}
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.tobytes() == expected[name].tobytes(), name


LAYERS: dict[str, Callable[[], Any]] = {
    "conv": lambda: kernels.Conv(16, 20, 3),
    "conv and norm": lambda: Pair(kernels.conv_norm, {}, {"relu": True}),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_a_gradient_that_nobody_wants_is_not_computed(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gets a null pointer for that of x; the others are the same."""
    layer, x = make(), noise(5, 16, 9, 11)

    def gradients(given: Any) -> list[bytes]:
        return [g.numpy().tobytes() for g in jt.grad((layer(given) ** 2).sum(), trained)]

    trained = [v for name, v in layer.named_parameters() if "running" not in name]
    expected = gradients(jt.array(x))
    lines: list[str] = []
    launch = call.call

    def note(header: str, line: str, *others: Any, **named: Any) -> Any:
        lines.append(line)
        return launch(header, line, *others, **named)

    monkeypatch.setattr(call, "call", note)
    assert gradients(jt.array(x).stop_grad()) == expected
    assert [line.count("nullptr") for line in lines] == [0, 1]


def test_linear_without_bias() -> None:
    layer = kernels.Linear(9, 4, bias=False)
    plain = twin(layer, nn.Linear(9, 4, bias=False))
    assert_same(outcome(layer, noise(3, 9)), outcome(plain, noise(3, 9)))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(64, 10), (1, 2), (5, 47)])
def test_cross_entropy(
    shape: tuple[int, int], smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.random.default_rng(0).integers(0, shape[1], shape[0]).astype(np.int32)
    results = []
    for _ in ("ours", "Jittor's"):
        logits = jt.array(noise(*shape) * 30)  # far enough apart to overflow a bare exponential
        loss = kernels.cross_entropy(logits, jt.array(labels), smoothing) * 3
        results.append({"loss": loss.numpy(), "d": jt.grad(loss, logits).numpy()})
        monkeypatch.setattr(call, "usable", lambda *_: False)
    assert_same(results[0], results[1])


def test_cross_entropy_of_labels_that_are_no_class() -> None:
    """Nothing beyond the logits is read: they count as Jittor counts them."""
    labels = jt.array(np.array([0, 4, -1, 2_000_000_000], np.int32))
    results = []
    for function in (kernels.cross_entropy, nn.cross_entropy_loss):
        logits = jt.array(noise(4, 4))
        loss = function(logits, labels)
        results.append({"loss": loss.numpy(), "d": jt.grad(loss, logits).numpy()})
    assert_same(results[0], results[1])


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_sgd(nesterov: bool, dampening: float) -> None:
    weights = []
    for kind in (kernels.SGD, nn.SGD):
        layer = twin(nn.Linear(13, 7), nn.Linear(13, 7))
        optimizer = kind(layer.parameters(), 0.1, 0.9, 0.01, dampening, nesterov)
        for step in range(5):
            optimizer.lr = 0.1 / (step + 1)  # a schedule sets it before each step
            optimizer.step((layer(jt.array(noise(4, 13, seed=step))) ** 2).mean())
        group = optimizer.param_groups[0]
        momenta = {f"v{i}": v.numpy() for i, v in enumerate(group["values"])}
        weights.append({**{n: v.numpy() for n, v in layer.state_dict().items()}, **momenta})
    assert_same(weights[0], weights[1])


class Network(nn.Module):
    """The tutorial's layers, with our kernels or Jittor's."""

    def __init__(self, ours: bool) -> None:
        super().__init__()
        if ours:
            self.conv1 = kernels.Conv(1, 8, 3, relu=True)
            self.conv2 = kernels.Conv(8, 20, 3)
            self.bn = kernels.BatchNorm(20, relu=True, pool=2)
            self.fc1 = kernels.Linear(20 * 36, 30, relu=True)
            self.fc2 = kernels.Linear(30, 10)
        else:
            self.conv1 = nn.Conv(1, 8, 3)
            self.conv2 = nn.Conv(8, 20, 3)
            self.bn = nn.BatchNorm(20)
            self.fc1 = nn.Linear(20 * 36, 30)
            self.fc2 = nn.Linear(30, 10)
        self.ours = ours

    def execute(self, x: Any) -> Any:
        if self.ours:
            x = self.bn(self.conv2(self.conv1(x)))
            return self.fc2(self.fc1(x.reshape((x.shape[0], -1))))
        x = nn.Pool(2)(nn.relu(self.bn(self.conv2(nn.relu(self.conv1(x))))))
        return self.fc2(nn.relu(self.fc1(x.reshape((x.shape[0], -1)))))


def train(ours: bool, steps: int, learning_rate: float = 0.02) -> tuple[list[float], Any]:
    """Losses of some steps on patterns that can be learned, from always the same weights."""
    jt.set_global_seed(3)
    network = Network(False)
    if ours:
        weights = {name: var.numpy() for name, var in network.state_dict().items()}
        network = Network(True)
        network.load_state_dict(weights)
    network.train()
    optimizer = (kernels.SGD if ours else nn.SGD)(network.parameters(), learning_rate, 0.9, 1e-4)
    loss_of = kernels.cross_entropy if ours else nn.cross_entropy_loss
    patterns = noise(10, 1, 16, 16, seed=7)
    losses = []
    for step in range(steps):
        labels = np.random.default_rng(step).integers(0, 10, 24).astype(np.int32)
        images = patterns[labels] + 0.5 * noise(24, 1, 16, 16, seed=step)
        loss = loss_of(network(jt.array(images)), jt.array(labels))
        optimizer.step(loss)
        losses.append(loss.item())
    return losses, network


def test_a_network_learns_alike() -> None:
    quick, _ = train(True, steps=20)
    plain, _ = train(False, steps=20)
    assert quick[-1] < quick[0] / 5
    assert quick == pytest.approx(plain, rel=1e-3, abs=1e-4)


def test_the_same_run_gives_the_same_bytes() -> None:
    (first, a), (second, b) = train(True, steps=5), train(True, steps=5)
    assert first == second
    for name, var in a.state_dict().items():
        assert var.numpy().tobytes() == b.state_dict()[name].numpy().tobytes(), name


def never(*_: object, **__: object) -> None:
    pytest.fail("a CPU kernel was called")


def test_under_cuda_no_cpu_kernel_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def layers() -> list[Any]:
        return [
            kernels.Conv(1, 2, 3, relu=True),
            kernels.BatchNorm(2, relu=True, pool=2),
            kernels.Linear(6, 2, relu=True),
        ]

    def everything() -> Arrays:
        """What each of the kernels computes, both ways."""
        jt.set_global_seed(1)
        inputs = [noise(2, 1, 6, 6), noise(2, 2, 6, 6), noise(2, 6)]
        found: Arrays = {}
        for number, (layer, x) in enumerate(zip(layers(), inputs, strict=True)):
            layer.train()
            found.update({f"{number}.{k}": array for k, array in outcome(layer, x).items()})
            layer.eval()
            with jt.no_grad():
                found[f"{number} in evaluation"] = layer(jt.array(x)).numpy()
        logits, labels = jt.array(noise(3, 4)), jt.array(np.array([0, 1, 3], np.int32))
        loss = kernels.cross_entropy(logits, labels)
        found |= {"loss": loss.numpy(), "dlogits": jt.grad(loss, logits).numpy()}
        layer = layers()[-1]
        kernels.SGD(layer.parameters(), 0.1).step(layer(jt.array(inputs[-1])).sum())
        found["warped"] = kernels.warp(jt.array(inputs[0]), jt.array(noise(2, 2, 3))).numpy()
        average = jt.array(noise(6))
        kernels.update_ema([average], [jt.array(noise(6, seed=1))], 0.75)
        return found | {"weight": layer.weight.numpy(), "average": average.numpy()}

    expected = everything()
    # There is no GPU to turn on: only what the door looks at says that there is.
    monkeypatch.setattr(call, "jt", SimpleNamespace(flags=SimpleNamespace(use_cuda=1), code=never))
    assert_same(everything(), expected, tolerance=1e-4)


def test_there_is_one_door() -> None:
    """What the test above sees is all that there is."""
    folder = Path(call.__file__).parents[3]
    callers = [path.name for path in folder.rglob("*.py") if "jt.code" in path.read_text()]
    assert callers == ["call.py"]


def test_the_text_of_a_kernel_holds_what_it_must() -> None:
    """Jittor keys what it compiled by the text, which is to be the same in each clone."""
    for name in ("conv_norm", "linear", "loss", "sgd", "ema", "warp"):
        text = call.source(name)
        assert str(Path(call.__file__).parents[4]) not in text
        assert '#include "' not in text
        assert "plain" not in text


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation": 2}])
def test_conv_with_groups_or_dilation_is_jittors(options: dict[str, int]) -> None:
    layer = kernels.Conv(4, 6, 3, relu=True, **options)
    plain = twin(layer, nn.Conv(4, 6, 3, **options))
    x = noise(2, 4, 9, 9)
    assert_same(outcome(layer, x), outcome(plain, x, nn.relu))


def test_batch_norm_of_vectors_is_jittors() -> None:
    layer = kernels.BatchNorm(5, relu=True)
    plain = twin(layer, nn.BatchNorm(5))
    assert_same(outcome(layer, noise(8, 5)), outcome(plain, noise(8, 5), nn.relu))


@pytest.mark.parametrize("ours", [True, False])
def test_update_ema(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(3,), (2, 5, 3, 3), (17, 4)]
    draw = np.random.default_rng(0).normal
    averages, values = ([draw(size=s).astype(np.float32) for s in shapes] for _ in range(2))
    held = [jt.array(array) for array in averages]
    if not ours:
        monkeypatch.setattr(call, "usable", lambda *_: False)
    kernels.update_ema(held, [jt.array(array) for array in values], 0.75)
    for var, average, value in zip(held, averages, values, strict=True):
        np.testing.assert_allclose(var.numpy(), 0.75 * average + 0.25 * value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(28, 28), (13, 7)])
def test_warp(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = jt.array(noise(5, 1, *size))
    maps = jt.array(np.eye(2, 3, dtype=np.float32) + 0.4 * noise(5, 2, 3))
    ours = kernels.warp(pixels, maps).numpy()
    monkeypatch.setattr(call, "usable", lambda *_: False)
    assert_same({"y": ours}, {"y": kernels.warp(pixels, maps).numpy()})


def test_update_ema_of_nothing() -> None:
    kernels.update_ema([], [], 0.9)


def test_update_ema_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"average is \[3,\], its value \[2,\]"):
        kernels.update_ema([jt.zeros(3)], [jt.zeros(2)], 0.9)


# What a kernel cannot take.


@pytest.mark.parametrize("side", [256, 258])
def test_batch_norm_of_more_pixels_than_16_bits_can_tell_apart(side: int) -> None:
    layer = kernels.BatchNorm(1, relu=True, pool=2)
    plain = twin(layer, nn.BatchNorm(1))
    x = noise(2, 1, side, side)
    expected = outcome(plain, x, lambda y: nn.Pool(2)(nn.relu(y)))
    assert_same(outcome(layer, x), expected, tolerance=1e-4)


def fake(*shape: int) -> Any:
    """Says that it has this shape: nobody has the memory for it."""
    return SimpleNamespace(shape=shape, ndim=len(shape), dtype="float32", numel=lambda: 1)


def test_images_that_an_int_cannot_count_are_jittors() -> None:
    conv = kernels.Conv(2, 4, 3, padding=1)
    assert conv.plan(fake(1, 2, 10_000, 10_000))
    assert not conv.plan(fake(1, 2, 20_000, 20_000))
    norm = kernels.BatchNorm(2)
    assert norm.kernel((1, 2, 40_000, 50_000))
    assert not norm.kernel((1, 2, 50_000, 50_000))


WRONG = {
    "conv: channels": (lambda: kernels.Conv(3, 2, 3), (2, 4, 8, 8)),
    "conv: smaller than the kernel": (lambda: kernels.Conv(3, 2, 5), (2, 3, 4, 4)),
    "conv: no image": (lambda: kernels.Conv(3, 2, 3), (3, 8)),
    "norm: channels": (lambda: kernels.BatchNorm(3), (2, 4, 8, 8)),
    "norm: too small to pool": (lambda: kernels.BatchNorm(3, pool=2), (2, 3, 1, 8)),
    "linear: inputs": (lambda: kernels.Linear(3, 2), (2, 4)),
}


@pytest.mark.parametrize(("make", "shape"), WRONG.values(), ids=WRONG.keys())
def test_wrong_shapes_reach_no_kernel(
    make: Callable[[], Any], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be read beyond their ends; what Jittor says of them is Jittor's matter."""
    monkeypatch.setattr(call, "call", never)
    with pytest.raises((RuntimeError, AssertionError, ValueError)):
        make()(jt.array(noise(*shape))).numpy()


def test_an_empty_batch_reaches_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "call", never)
    assert kernels.Linear(3, 2, relu=True)(jt.array(noise(0, 3))).shape == [0, 2]
    assert kernels.Conv(3, 2, 3, relu=True)(jt.array(noise(0, 3, 5, 5))).shape == [0, 2, 3, 3]
    assert kernels.BatchNorm(3, relu=True)(jt.array(noise(0, 3, 5, 5))).shape == [0, 3, 5, 5]
    kernels.cross_entropy(jt.array(noise(0, 3)), jt.array(np.zeros(0, np.int32)))
    kernels.cross_entropy(jt.array(noise(3, 0)), jt.array(np.zeros(3, np.int32)))
