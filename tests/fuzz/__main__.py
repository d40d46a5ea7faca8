"""`python -m tests.fuzz [TARGET…] [--seconds S]`: atheris tries bytes, led by the code they reach.

atheris (a fuzzer that is told by the running code which branches an input has met) is installed
by `pip install -e '.[fuzz]'`, where there is one for this Python; without it this is skipped.  Each
target is a process of its own.  A finding is kept as a file, whose name is said; `--again FILE`
tries it once more, without atheris.  Exit code 0: nothing was found.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

#: What a single input may take before it counts as one that hangs, in seconds.
HANGS_S: Final = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TARGET", help="of tests/fuzz/targets.py")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--again", type=Path, help="one input, without atheris")
    parser.add_argument("--findings", type=Path, default=Path("findings"), help="where they go")
    parser.add_argument("--corpus", type=Path, help="(a target's own process is given it)")
    options = parser.parse_args()
    if options.again is not None:
        from tests.fuzz.targets import TARGETS

        TARGETS[options.names[0]](options.again.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        _say("skipped: atheris is not installed: pip install -e '.[fuzz]'")
        return 0
    if options.corpus is not None:
        _fuzz(options.names[0], options)
    return _all(options)


def _all(options: argparse.Namespace) -> int:
    from tests.fuzz.targets import TARGETS, seeds

    codes = []
    for name in options.names or TARGETS:
        with tempfile.TemporaryDirectory(prefix="yak-fuzz-") as corpus:
            for number, data in enumerate(seeds(name)):
                (Path(corpus) / f"seed-{number}").write_bytes(data)
            argv = [sys.executable, "-m", "tests.fuzz", name, "--corpus", corpus]
            argv += ["--seconds", str(options.seconds), "--findings", str(options.findings)]
            codes.append(subprocess.run(argv, check=False).returncode)
            _say(f"{name}: {'nothing found' if codes[-1] == 0 else 'see above'}")
    with contextlib.suppress(OSError):
        options.findings.rmdir()  # nothing is in it
    return 1 if any(codes) else 0


def _fuzz(name: str, options: argparse.Namespace) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["yak"]):
        from tests.fuzz.targets import TARGETS

    options.findings.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            str(options.corpus),
            f"-max_total_time={options.seconds}",
            f"-artifact_prefix={options.findings}/{name}-",
            f"-timeout={HANGS_S}",
            "-max_len=20000",
            "-verbosity=0",
            "-print_final_stats=1",
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
