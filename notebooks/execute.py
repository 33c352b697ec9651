"""Execute the notebooks and save them with their outputs: `python notebooks/execute.py [FILE …]`.

Each runs from top to bottom in an empty directory. The first makes the base model of the world, and the
others find it, as they do when one reads them in their order. What would differ on another machine or at
another hour (paths, timings, versions) is not saved.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (makes its cache of fonts, where there is none, at nobody's cost)
import nbformat
from nbclient import NotebookClient

FIRST = "01_reward_model"  # makes the base model
BASE = """
from rlhf_rm.commands.build import build_start
from rlhf_rm.commands.compose import compose

build_start(compose("train", "experiment=notebook", run_dir="runs"))
"""
SUMS = {  # instructions that each x86 processor of today has: with more of them, sums round otherwise
    "OMP_NUM_THREADS": "1",  # models this small are as fast, and faster where the cores are shared
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(
    path: Path, directory: Path, base: Path, timeout: int = 600
) -> tuple[nbformat.NotebookNode, float]:
    """A notebook with the outputs of a run in this directory, and how many seconds of a core it took.

    Those are what it takes where it has a core to itself, however busy the machine is now.

    Args:
        path: the notebook.
        directory: an empty one.
        base: a cache that :func:`make_base` has filled; not for the first notebook, whose cache is empty.
        timeout: seconds for a cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(directory)}},
        record_timing=False,
        coalesce_streams=True,
    )
    if path.stem != FIRST:
        shutil.copytree(base, directory / "cache")
    before = children()
    client.execute(env=environment(directory))
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook, children() - before


def make_base(directory: Path) -> Path:
    """A cache in this directory with the base model that all notebooks start from."""
    words = [sys.executable, "-c", BASE]
    subprocess.run(words, cwd=directory, env=environment(directory), check=True, stdout=subprocess.DEVNULL)
    return directory / "cache"


def children() -> float:
    """Seconds of a core that processes which this one started have taken, as far as they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment(directory: Path) -> dict[str, str]:
    """The environment of a kernel that finds nothing of its user's and sums alike on each Intel CPU."""
    return {
        **os.environ,
        **SUMS,
        "RLHF_RM_CACHE": str(directory / "cache"),
        "IPYTHONDIR": str(directory / "ipython"),
        "HF_HUB_OFFLINE": "1",
    }


def main() -> None:
    """Execute and save those that are named, or all beside this file."""
    named = [Path(name) for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as made:
        base = make_base(Path(made))
        for path in named or sorted(Path(__file__).parent.glob("*.ipynb")):
            with tempfile.TemporaryDirectory() as directory:
                notebook, seconds = execute(path, Path(directory), base)
            nbformat.write(notebook, path)
            print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
