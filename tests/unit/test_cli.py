"""The commands as a user types them: options become configs, mistakes become one line."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from yak import cli
from yak.commands import broker, zk
from yak.commands.broker import LIMITS_HELP, limits_problem
from yak.commands.running import enter
from yak.commands.zk import settings_problem
from yak.config import BrokerConfig, CoordinatorConfig, Limits, Settings
from yak.errors import Fatal, YakError
from yak.model import Address
from yak.version import VERSION


class _Recorder(ModuleType):
    """Stands where an actor's module would: keeps the config it is run on."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.configs: list[Any] = []

    def run(self, config: object) -> Coroutine[Any, Any, None]:
        self.configs.append(config)

        async def nothing() -> None:
            return None

        return nothing()


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    recorder = _Recorder()
    for name in ("broker", "zookeeper"):
        monkeypatch.setitem(sys.modules, f"yak.{name}", recorder)
        monkeypatch.setattr(f"yak.{name}", recorder, raising=False)
    for variable in ("YAK_ZK", "YAK_BROKER_ID", "YAK_BROKER_PORT"):
        monkeypatch.delenv(variable, raising=False)
    return recorder


def _main(command: click.Command, *args: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["yak", *args])
    with pytest.raises(SystemExit) as left:
        enter(lambda: command, "yak")
    assert isinstance(left.value.code, int)
    return left.value.code


def test_a_broker_without_options_is_the_documented_one(
    actor: _Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _main(cli.yak, "broker", "--id", "3", monkeypatch=monkeypatch) == 0
    expected = BrokerConfig(id=3, port=9094, data_dir=Path("data/broker-3"))
    assert actor.configs == [expected]


def test_yak_zk_without_options_is_the_documented_one(
    actor: _Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _main(cli.yak, "zk", monkeypatch=monkeypatch) == 0
    assert actor.configs == [CoordinatorConfig()]


def test_every_option_of_a_broker_reaches_its_config(
    actor: _Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {field.name: 1_000_000 + n for n, field in enumerate(dataclasses.fields(Limits))}
    limits["max_frame_bytes"] = 8_000_000
    options = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
    options += ["--host=h", "--port=0", "--zk=z:1", "--zk-wait=500ms", "--data-dir=d"]
    options += ["--advertise=a:2", "--fsync=interval:9", "--default-partitions=4"]
    options += ["--metrics-port=9308"]
    assert (
        _main(broker.broker, "--id=7", "--no-auto-create", *options, monkeypatch=monkeypatch) == 0
    )
    assert actor.configs == [
        BrokerConfig(
            id=7,
            host="h",
            port=0,
            zk="z:1",
            zk_wait_s=0.5,
            data_dir=Path("d"),
            advertise="a:2",
            fsync="interval:9",
            default_partitions=4,
            auto_create=False,
            metrics=Address("h", 9308),
            limits=Limits(**limits),
        )
    ]


def test_every_option_of_yak_zk_reaches_its_config(
    actor: _Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {name: 1000 + n for n, name in enumerate(Settings.__struct_fields__)}
    settings |= {"heartbeat_ms": 100, "lease_ms": 800, "session_ms": 950}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    options += ["--host=h", "--port=5", "--data-dir=d", "--bootstrap-wait-ms=0"]
    options += ["--metrics-port=0.0.0.0:0"]
    assert _main(zk.zk, "--cooldown-ms=8", *options, monkeypatch=monkeypatch) == 0
    assert actor.configs == [
        CoordinatorConfig(
            host="h",
            port=5,
            data_dir=Path("d"),
            bootstrap_wait_ms=0,
            cooldown_ms=8,
            metrics=Address("0.0.0.0", 0),
            settings=Settings(**settings),
        )
    ]


def test_the_environment_stands_in_for_options(
    actor: _Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YAK_BROKER_ID", "2")
    monkeypatch.setenv("YAK_BROKER_PORT", "0")
    monkeypatch.setenv("YAK_ZK", "z:9")
    assert _main(broker.broker, "--port=4", monkeypatch=monkeypatch) == 0
    (config,) = actor.configs
    assert (config.id, config.port, config.zk) == (2, 4, "z:9")


def test_every_limit_has_its_help() -> None:
    assert list(LIMITS_HELP) == [field.name for field in dataclasses.fields(Limits)]


def test_operations_lists_every_limit_and_timing() -> None:
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    for option in broker.broker.params:
        if isinstance(option, click.Option) and option.name in LIMITS_HELP:
            shown = option.show_default if isinstance(option.show_default, str) else option.default
            row = re.search(
                rf"^\| `{option.opts[0]}` \| {shown} \| .+ \| .+ \|$", text, re.MULTILINE
            )
            assert row is not None, f"{option.opts[0]}: its default, what it limits, what is beyond"
    for name in ("heartbeat_ms", "session_ms", "lease_ms", "replica_lag_ms", "resign_ms"):
        option_name = "--" + name.replace("_", "-")
        assert f"| `{option_name}` | {getattr(Settings(), name)} |" in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["broker"], "--id"),
        (["broker", "--id", "0"], "whole number from 1"),
        (["broker", "--id", "60000"], "choose one with --port"),
        (["broker", "--id", "1", "--port", "65536"], "--port"),
        (["broker", "--id", "1", "--fsync", "maybe"], "interval:MS"),
        (["broker", "--id", "1", "--zk", "here"], "HOST:PORT"),
        (["broker", "--id", "1", "--metrics-port", "here"], "HOST:PORT"),
        (["zk", "--metrics-port", "70000"], "HOST:PORT"),
        (["broker", "--id", "1", "--max-topics", "0"], "--max-topics"),
        (["broker", "--id", "1", "--max-frame-bytes", "1GiB"], "TLS"),
        (["broker", "--id", "1", "--max-batch-bytes", "16MiB"], "header"),
        (["broker", "--id", "1", "--default-partitions", "20000"], "--max-partitions"),
        (["zk", "--lease-ms", "2000"], "--session-ms"),
        (["zk", "--lease-ms", "1999"], "--heartbeat-ms"),
        (["zk", "--heartbeat-ms", "660"], "--lease-ms"),
        (["zk", "--replica-lag-ms", "400"], "--heartbeat-ms"),
        (["zk", "--resign-ms", "1000"], "--replica-lag-ms"),
        (["zk", "--oplog-segment-bytes", "0"], "at least 1"),
        (["zk", "extra"], "extra"),
        (["nothing"], "nothing"),
        (["broker", "--nothing"], "--nothing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    args: list[str],
    words: str,
    actor: _Recorder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _main(cli.yak, *args, monkeypatch=monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert "--help" in err
    assert actor.configs == []


def test_the_defaults_agree_with_each_other() -> None:
    assert settings_problem(Settings()) is None
    assert limits_problem(Limits(), BrokerConfig.default_partitions) is None


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (Fatal("no room\non the disk", exit_code=1), 1, "error: no room on the disk\n"),
        (YakError("refused", hint="try again"), 1, "error: refused (try again)\n"),
        (click.FileError("f", "gone"), 1, "error: Could not open file 'f': gone\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (None, 0, ""),
    ],
)
def test_an_outcome_is_a_line_and_an_exit_code(
    raised: BaseException | None,
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command()
    def command() -> None:
        if raised is not None:
            raise raised

    assert _main(command, monkeypatch=monkeypatch) == code
    assert capsys.readouterr().err == line


def test_an_interruption_while_a_command_is_loaded_is_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load() -> click.Command:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        enter(load, "yak")
    assert left.value.code == 130
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["yak"])
    with pytest.raises(ZeroDivisionError):
        enter(lambda: command, "yak")


def test_yak_alone_shows_its_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _main(cli.yak, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("zk", "broker", "produce", "consume", "status"))


#: Of the commands whose examples are long lines by nature.
_WIDE = ("produce", "consume", "broker", "doctor", "completion", "chaos", "up", *cli.TEXTBOOK)


@pytest.mark.parametrize("name", _WIDE)
def test_help_fits_in_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert _main(cli.yak, name, "--help", monkeypatch=monkeypatch) == 0
    help_text = capsys.readouterr().out
    assert "Examples:" in help_text
    assert [line for line in help_text.splitlines() if len(line) > 80] == []


def test_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert _main(cli.yak, "--version", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"yak {VERSION}\n"


def test_help_does_not_import_the_actors() -> None:
    code = (
        "import sys, yak.cli; heavy = ('asyncio', 'uvloop', 'rich', 'yak.net', 'yak.broker');"
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
