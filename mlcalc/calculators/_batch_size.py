"""How many edges to evaluate at once: found by time on a processor, by memory on an accelerator."""

from __future__ import annotations

import torch

# Where the search begins, and the most it asks for; the larger is some GiB of activations of a small network.
FIRST, MOST = 16_384, 4_194_304
# A batch of twice the edges must take less than this share of the time per edge to be worth its memory.
WORTH = 0.95
# Share of the free memory of an accelerator that one batch may take.
SHARE = 0.8


class BatchSize:
    """Limit on the edges of one evaluation.

    On a processor the limit is doubled while the time per edge falls. On an accelerator it follows from the memory that
    an edge took so far and what is free. Running out of memory halves it, for good.

    Args:
        edges: a fixed limit; None finds one.
        device: where evaluations run.

    Attributes:
        limit: edges in one evaluation; a single structure may have more.
        ceiling: what did not fit, None if everything did.
    """

    def __init__(self, edges: int | None, device: torch.device) -> None:
        self.limit = FIRST if edges is None else edges
        self.ceiling: int | None = None
        self.device = device
        self._settled = edges is not None
        self._times: list[float] = []
        self._before: float | None = None

    def begin(self) -> None:
        """Call before an evaluation."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def record(self, edges: int, seconds: float) -> None:
        """Take note of an evaluation that went well."""
        if self._settled:
            return
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            reserved = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            self.record_memory(edges, torch.cuda.max_memory_allocated(self.device), free + reserved)
        elif edges > 0.6 * self.limit:
            self.record_time(edges, seconds)

    def record_time(self, edges: int, seconds: float) -> None:
        """Double the limit while that makes an edge cheaper; the best of three evaluations of each size counts."""
        self._times.append(seconds / edges)
        if len(self._times) < 3:
            return
        now, self._times = min(self._times), []
        if self._before is not None and now > WORTH * self._before:
            self.limit //= 2
            self._settled = True
        elif 2 * self.limit > MOST or (self.ceiling is not None and 2 * self.limit >= self.ceiling):
            self._settled = True
        else:
            self._before = now
            self.limit *= 2

    def record_memory(self, edges: int, peak_bytes: float, free_bytes: float) -> None:
        """Set the limit to what fits, at most four times what just did."""
        fits = int(SHARE * free_bytes * edges / max(peak_bytes, 1.0))
        limit = min(max(fits, 1), 4 * max(edges, FIRST), MOST)
        self.limit = limit if self.ceiling is None else min(limit, self.ceiling // 2)

    def halve(self, edges: int) -> None:
        """Remember that ``edges`` did not fit into memory."""
        self.ceiling = edges if self.ceiling is None else min(edges, self.ceiling)
        self.limit = max(1, min(self.limit, self.ceiling // 2))
        self._settled = self._settled or self.device.type != "cuda"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out; torch has no class for that on a processor."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
