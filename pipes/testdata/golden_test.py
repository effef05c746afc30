"""The suite that all Pipes libraries share, where it can be installed: it is on no package index yet."""

import os

import pytest

shared = pytest.importorskip("dagster_pipes_tests")


class TestGo(shared.PipesTestSuite):
    BASE_ARGS = [os.environ["CONTRACT"]]
