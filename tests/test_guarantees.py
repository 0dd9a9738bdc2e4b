"""docs/guarantees.md: all 25 behaviours are there, and every test that is said to hold one exists under that name."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = re.findall(r"^\| (\d+) \|(.*)$", (TESTS.parent / "docs" / "guarantees.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_all_are_there():
    assert [int(number) for number, _ in ROWS] == list(range(1, 26))


@pytest.mark.parametrize(("number", "row"), ROWS, ids=[number for number, _ in ROWS])
def test_its_tests_exist(number, row):
    named = re.findall(r"`([^`]+)::([^`]+)`", row)
    assert named, "a behaviour without a test is a wish"
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"
