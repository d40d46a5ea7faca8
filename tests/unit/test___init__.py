"""What `import yak` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import yak


def test_every_exported_name_is_there() -> None:
    for name in yak.__all__:
        assert getattr(yak, name) is not None
    assert set(yak.__all__) <= set(dir(yak))
    assert yak.__version__


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="Broker"):
        _ = yak.Broker


def test_errors_are_one_family() -> None:
    assert issubclass(yak.TimeoutError, TimeoutError)
    for name in yak.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(yak, name), yak.YakError)


def test_importing_it_imports_nothing_of_weight() -> None:
    code = "import sys, yak; print('asyncio' in sys.modules or 'msgspec' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert answer.stdout.strip() == "False"
