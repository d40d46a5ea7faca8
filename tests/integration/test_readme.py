"""What the README shows is run as it stands there, but for the addresses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster import Cluster

README: Final = Path(__file__).parents[2] / "README.md"
PYTHON: Final = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def run_python(path: Path, code: str, *arguments: str) -> str:
    path.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def the_code_with(word: str) -> str:
    code: str = next(code for code in PYTHON if word in code)
    return code


def test_a_client_by_hand_in_about_twenty_lines(shared: Cluster, tmp_path: Path) -> None:
    code = the_code_with("import socket")
    assert len([line for line in code.splitlines() if line.strip()]) <= 24
    host, port = shared.addresses[shared.wait_leader()]
    printed = run_python(tmp_path / "by_hand.py", code, f"{host}:{port}").splitlines()
    assert "'ok': True" in printed[0]
    assert "'producer'" in printed[0]
    assert "'offset': 0, 'count': 2" in printed[1]
    assert "'high_watermark': 2" in printed[2]
    assert printed[3].startswith('{"index":')
    assert printed[4:] == ['{"value":"hello"}', '{"key":"k","value":{"n":1}}']


def test_the_library_in_ten_lines(shared: Cluster, tmp_path: Path) -> None:
    code = the_code_with("from yak import")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    here = code.replace("127.0.0.1:9092", shared.bootstrap())
    # The loop of the README goes on for ever; here it ends with the last record.
    here = here.rstrip("\n") + "\n" + "        seen.append(record.value['id'])\n"
    here += "        if len(seen) == 999: break\n"
    here = "seen = []\n" + here + "assert sorted(seen) == list(range(1, 1000)), seen\n"
    printed = run_python(tmp_path / "library.py", here).splitlines()
    assert "topic='orders'" in printed[0]
    assert len(printed) == 1000


@pytest.mark.parametrize("command", ["make demo", "make test", "pip install ."])
def test_the_commands_stand_at_the_top(command: str) -> None:
    assert command in README.read_text(encoding="utf-8").split("## ")[0]


def test_a_member_of_a_group_is_told(shared: Cluster, topic: str, tmp_path: Path) -> None:
    with shared.connect_leader() as wire:
        wire.produce(topic, 0, ["a", "b"])
    code = the_code_with("on_assigned=")
    here = code.replace("127.0.0.1:9092", shared.bootstrap())
    here = here.replace('"orders"', f'"{topic}"').replace('"billing"', f'"{topic}"')
    printed = run_python(tmp_path / "member.py", here).splitlines()
    assert printed == [
        f"mine: [('{topic}', 0)]",
        "0 records were trimmed away before they were read",
        f"the last moment to acknowledge: [('{topic}', 0)]",
    ]


def test_the_awaited_twins(shared: Cluster, name: str, tmp_path: Path) -> None:
    code = the_code_with("AsyncProducer(")
    here = code.replace("127.0.0.1:9092", shared.bootstrap()).replace('"visits"', f'"{name}"')
    printed = run_python(tmp_path / "awaited.py", here).splitlines()
    assert "offset=0" in printed[0]
    assert printed[1:] == ["{'page': '/'}"]
