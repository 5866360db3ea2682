import pytest
import torch
from compiled import CLASSES, IMAGE, assert_learns_as_torch, through
from torch import Tensor, nn

from fedagg_edge.errors import ExportError
from fedagg_edge.export.tflite import compile_module


def conv(size: tuple[int, ...], *args: object, channels: int = 4, **settings: object) -> nn.Module:
    """A convolution of a convolution, so that the first gets its gradient through the second."""
    kind = {2: nn.Conv1d, 3: nn.Conv2d}[len(size)]
    first = kind(size[0], channels, 3, padding=1)
    second = kind(channels, *args, **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        length = second(first(torch.zeros(1, *size))).numel()
    return nn.Sequential(first, nn.Tanh(), second, nn.Flatten(), nn.Linear(length, CLASSES))


@pytest.mark.parametrize(
    ("args", "settings"),
    [
        ((6, 3), {}),
        ((6, 3), {"padding": 1, "bias": False}),
        ((6, 3), {"padding": 1, "stride": 2}),
        ((6, 5), {"padding": 2, "stride": 3}),
        ((6, 1), {}),
        ((6, 1), {"stride": 2}),
        ((6, 2), {"stride": 2}),
        ((6, 3), {"padding": 2, "dilation": 2}),
        ((6, (1, 3)), {"padding": (0, 1), "stride": (2, 1)}),
        ((6, 7), {"padding": 3, "stride": 2}),
        ((6, 3), {"groups": 2, "padding": 1}),
        ((4, 3), {"groups": 4, "padding": 1}),
        ((4, 3), {"groups": 4, "padding": 1, "stride": 2, "bias": False}),
        ((4, 5), {"groups": 4, "padding": 2, "stride": 2}),
        ((4, 3), {"groups": 4, "padding": 2, "dilation": 2}),
        ((8, 3), {"groups": 4, "padding": 1}),
    ],
)
@pytest.mark.parametrize("size", [IMAGE, (2, 9, 7)])
def test_images(size: tuple[int, ...], args: tuple[object, ...], settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(conv(size, *args, **settings), size)


@pytest.mark.parametrize("settings", [{}, {"padding": 1}, {"groups": 8, "padding": 1}, {"stride": 2, "padding": 1}])
@pytest.mark.parametrize("size", [IMAGE, (2, 18, 18)])
def test_by_patches_and_by_the_runtimes_convolution(size: tuple[int, ...], settings: dict[str, object]) -> None:
    """Eight channels: small images go the one way, large ones the other."""
    torch.manual_seed(0)
    assert_learns_as_torch(conv(size, 8, 3, channels=8, **settings), size)


@pytest.mark.parametrize(
    ("args", "settings"),
    [((6, 3), {"padding": 1}), ((6, 5), {"stride": 2, "padding": 2}), ((4, 3), {"groups": 4}), ((8, 1), {})],
)
def test_signals(args: tuple[object, ...], settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(conv((3, 13), *args, **settings), (3, 13))


def test_residual_blocks() -> None:
    torch.manual_seed(0)
    second = nn.Conv2d(4, 4, 3, padding=1)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = second

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x + self.second(torch.relu(x)))

    assert_learns_as_torch(through(Residual()))


def test_a_transposed_convolution_is_refused_by_name() -> None:
    message = r"operator aten\.convolution.* in submodule 'function'.*: a transposed convolution has no translation"
    with pytest.raises(ExportError, match=message):
        compile_module(through(nn.ConvTranspose2d(4, 4, 2)), IMAGE, CLASSES)
