"""yak's Producer, a record at a time at a rate: the longest time without an acknowledgement."""

from __future__ import annotations

import time

from bench.clients.common import Gaps, parse
from yak import Producer

if __name__ == "__main__":
    _options = parse()
    gaps = Gaps()

    def told(_: object) -> None:
        gaps.acknowledged()

    with Producer(bootstrap=_options.address) as producer:
        began = time.perf_counter()
        for number in range(_options.records):
            pause = began + number / _options.rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            producer.send(_options.topic, "x" * _options.size).add_done_callback(told)
        producer.flush(60)
    gaps.report()
