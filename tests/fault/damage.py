"""What may become of files while nobody looks: torn ends, flipped bits, an empty directory, an old
one.

A broker whose files were changed may lack what it had acknowledged.  So only one at a time is
damaged, while all others are whole and in sync: that is what `min_insync_replicas` 2 promises to
survive.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

from tests.support.logfiles import partition_dir, segments, split_segment


def tear(data_dir: Path, chance: random.Random) -> str:
    """Cut bytes off the log's end, within its last file."""
    path = segments(data_dir / "oplog")[-1]
    size = path.stat().st_size
    cut = chance.randint(1, max(1, min(2000, size - 100)))
    with path.open("r+b") as file:
        file.truncate(size - cut)
    return f"{cut} bytes cut off the end of {path.name}"


def flip(path: Path, chance: random.Random) -> str:
    """Turn one bit over, anywhere in a file that has something in it."""
    size = path.stat().st_size
    position, bit = chance.randrange(size), chance.randrange(8)
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))
    return f"bit {bit} of byte {position} of {size} flipped in {path.name}"


def flip_record(data_dir: Path, topic: str, partition: int, chance: random.Random) -> str:
    """Turn one bit over in a record of a partition's first file.

    Only there: a batch's crc proves its records, whenever they are read; its line is proved only
    by the log's running sum, where that is read.
    """
    path = segments(partition_dir(data_dir, topic, partition))[0]
    operation = chance.choice(split_segment(path)[1])
    data = path.read_bytes()
    begin = data.index(operation.line) + len(operation.line)
    position = begin + chance.randrange(len(operation.body))
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes([data[position] ^ (1 << chance.randrange(8))]))
    return f"byte {position} flipped in {path.name} of {topic}/{partition}"


def wipe(data_dir: Path) -> str:
    """Remove all that yak wrote; a mount point stays, with what is its own."""
    for path in data_dir.iterdir():
        if path.is_dir() and path.name != "lost+found":
            shutil.rmtree(path)
        elif path.name in ("lock", "meta.json", "checkpoint.json") or path.suffix in (
            ".jsonl",
            ".tmp",
        ):
            path.unlink()
    return f"{data_dir.name} wiped"


def exchange(data_dir: Path, kept: Path) -> str:
    """What was kept of it is there again, and what was there is kept instead; durably."""
    now = kept.with_name(f"{kept.name}.now")
    shutil.copytree(data_dir, now, ignore=shutil.ignore_patterns("lost+found", "lock"))
    if kept.exists():
        wipe(data_dir)
        shutil.copytree(kept, data_dir, dirs_exist_ok=True)
        subprocess.run(["sync", "-f", str(data_dir)], check=True)
        shutil.rmtree(kept)
        what = f"an older copy of {data_dir.name} in its place"
    else:
        what = f"{data_dir.name} copied"
    now.rename(kept)
    return what
