"""Training in one process or several: ``torchrun --nproc_per_node 2 tools/digits/train.py ...``.

gloo on the CPU, nccl where every process has a GPU. lhotse's samplers split the batches by rank themselves, the same
number for each; what is here keeps the mean over all utterances of all ranks, however many each of them has.
"""

from __future__ import annotations

import dataclasses
import gc
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among the others."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a value)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model, its gradients averaged over the processes where there are several."""
        model = model.to(self.device)
        if self.world_size == 1:
            return model
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids)

    def sum(self, *values: float) -> list[float]:
        """Return the sums over all processes."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return sums.tolist()  # type: ignore[no-any-return]

    def from_first(self, value: float) -> float:
        """Return the first process's value in all of them."""
        if self.world_size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared[0])

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def mean(self, losses: Tensor, counted: Tensor) -> tuple[Tensor, int]:
        """Return what to differentiate for the mean over the counted utterances of all processes, and their number.

        Each process gives its own sum times the number of processes over the number of utterances of all, so that the
        average that DDP takes is that mean. A process with none of them gives a zero that is still attached.
        """
        number = int(self.sum(float(counted.sum()))[0])
        total = torch.where(counted, losses, torch.zeros_like(losses)).sum()
        return total * (self.world_size / max(1, number)), number

    def end(self) -> None:
        """Leave the others in order."""
        if self.world_size > 1:
            # DDP's wrapper holds on to the group: left to the interpreter's end, its threads would abort the process.
            gc.collect()
            dist.barrier()
            dist.destroy_process_group()


def start_processes() -> Processes:
    """Join the others as torchrun asks for, or be alone."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Processes()
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= local_size
    if on_gpus:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    return Processes(rank, world_size, torch.device("cuda", local_rank) if on_gpus else torch.device("cpu"))
