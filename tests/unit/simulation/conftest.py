"""One thread for models this small."""

import torch

torch.set_num_threads(1)
