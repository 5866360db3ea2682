import torch
from compiled import CLASSES, IMAGE, assert_learns_as_torch, differences
from torch import Tensor, nn


class Attention(nn.Module):
    """Rows of pixels that look at one another."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.last = nn.Linear(16, 6), nn.Linear(16, 6, bias=False), nn.Linear(128, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 1, 3).flatten(2)
        weights = torch.sigmoid(self.query(rows) @ self.key(rows).transpose(1, 2))
        out: Tensor = self.last((weights @ rows).flatten(1))
        return out


class Words(nn.Module):
    """A table that is looked up, one row of it a padding that never learns."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(9, 4, padding_idx=padding), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.table((x * 9).long()).mean(1))
        return out


class Tied(nn.Module):
    """One weight used twice, and one that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle, self.last = nn.Linear(8, 8), nn.Linear(3, 3), nn.Linear(128, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.layer(torch.relu(self.layer(x))).flatten(1))
        return out


def test_linear_layers_on_more_than_rows() -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(Attention())


def test_a_table_learns_the_rows_that_were_looked_up() -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(Words(None), (7,))
    assert_learns_as_torch(Words(2), (7,))


def test_shared_and_idle_weights() -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(Tied())


def test_adam_after_many_steps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 9), nn.Tanh(), nn.Linear(9, CLASSES))
    weights, _ = differences(model, IMAGE, 20, optimizer="adam", learning_rate=0.001)
    assert weights < 1e-5
