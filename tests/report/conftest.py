"""A browser, and what commands leave, for the tests of reports."""

import importlib.util
from pathlib import Path

import pytest


def helper(name):
    """A module beside this file, which pytest does not put on Python's path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def artefacts():
    return helper("artefacts")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = helper("browser")
    program = made.find_chromium()
    if program is None:
        pytest.skip(f"needs one of {', '.join(made.NAMES)} on the PATH")
    browser = made.Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Make a report of these inputs; its directory."""
    from omegaconf import OmegaConf

    from rlhf_rm.commands.report import run

    def report(*inputs, baseline=None):
        directory = tmp_path_factory.mktemp("report")
        cfg = {"inputs": [str(one) for one in inputs], "baseline": baseline}
        run(OmegaConf.create(cfg | {"paths": {"run_dir": str(directory)}}))
        return directory

    return report
