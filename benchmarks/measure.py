"""What every benchmark measures: seconds of each step, peak memory, and the machine it ran on."""

import ctypes
import gc
import os
import platform
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from torch.autograd import DeviceType

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
PACKAGES = ("torch", "lightning", "transformers", "accelerate", "datasets", "trl", "flash_attn")


class Recorder:
    """Clock and memory of one training run; told when the first step begins and when each step ends.

    Args:
        wait: called before each step, until this run may take it; by default at once.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.memory_before_mb = 0.0
        self._wait = wait
        self._others = 0.0  # core-seconds of other processes during this run's steps
        self._prepared: float | None = None
        self._preparation = 0.0

    def prepare(self) -> None:
        """What is done once, before the first step, begins here."""
        self._prepared = time.perf_counter()

    def begin(self) -> None:
        """Just before the first step: what the process holds now is not the steps' doing."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            CLEAR_REFS.write_text("5")  # the kernel's high-water mark starts again from here
        self.memory_before_mb = _memory_mb()
        self._preparation = time.perf_counter() - self._prepared if self._prepared else 0.0
        self._next()

    def end_step(self, loss: float) -> None:
        """A step is over, its optimiser's part included."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began, others = self._began
        self.seconds.append(time.perf_counter() - began)
        self._others += _others_seconds() - others
        self.losses.append(loss)
        self._next()

    def _next(self) -> None:
        self._wait()
        self._began = (time.perf_counter(), _others_seconds())

    def result(self, *, pairs_per_step: int, warmup: int) -> dict[str, Any]:
        """The figures of this run, the first ``warmup`` steps left out of the speed."""
        seconds = self.seconds[warmup:]
        return {
            "pairs_per_second": pairs_per_step * len(seconds) / sum(seconds),
            "memory_before_mb": self.memory_before_mb,
            "memory_above_mb": _memory_mb(peak=True) - self.memory_before_mb,
            "preparation_seconds": self._preparation,
            "step_seconds": seconds,
            "losses": self.losses,
            "torch_threads": torch.get_num_threads(),
            "cores_busy_with_other_work": self._others / sum(self.seconds) / (os.cpu_count() or 1),
        }


class LiveTensors:
    """The most bytes on the CPU that tensors made since the beginning hold at one time.

    Unlike the memory of the process it is exact, and the same in each run: what the allocator keeps of what
    was given back does not count. That an older tensor is given back is not seen. PyTorch's profiler, which
    tells of each allocation, makes steps slow.
    """

    def __init__(self) -> None:
        self._profile = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        )

    def begin(self) -> None:
        """Watch from here."""
        gc.collect()
        self._profile.start()

    def end(self) -> None:
        """Watch no longer."""
        self._profile.stop()

    @property
    def most_mb(self) -> float:
        """In MB."""
        profiler = self._profile.profiler
        assert profiler is not None and profiler.kineto_results is not None
        events = [
            event
            for event in profiler.kineto_results.events()
            if event.name() == "[memory]" and event.device_type() == DeviceType.CPU
        ]
        now = peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            now += event.nbytes()
            peak = max(peak, now)
        return peak / 2**20


class PrivateMemory:
    """The most memory of this process that is not pages of files, which the system can drop, in MB."""

    def __enter__(self) -> Self:
        self.before_mb = self.peak_mb = _status_mb("RssAnon")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak_mb = max(self.peak_mb, _status_mb("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def above_mb(self) -> float:
        """Above what there was at the beginning."""
        return self.peak_mb - self.before_mb


def machine() -> dict[str, Any]:
    """Kind of machine, and how busy it is with other work."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES if find_spec(name) is not None},
    }


def _others_seconds() -> float:
    """Core-seconds that all processes but this one have used since the machine started."""
    user, nice, system, _idle, _wait, interrupts, soft, stolen = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    busy = user + nice + system + interrupts + soft + stolen
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def _processor() -> str:
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return models[0] if models else platform.processor()


def _memory_mb(peak: bool = False) -> float:
    """Memory in use, or the most since the first step: the GPU's where there is one, else this process's."""
    if torch.cuda.is_available():
        used = torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        return used / 2**20
    return _status_mb("VmHWM" if peak else "VmRSS")


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024
