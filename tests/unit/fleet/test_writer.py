import asyncio
import threading
from pathlib import Path

import pytest
from toy_ends import ToyLedger

from fedagg_edge.errors import StorageFull
from fedagg_edge.fleet.writer import BUSY, COMPANY, Writer, WriterBusy, WriterStopped


def test_operations_that_come_together_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    groups: list[int] = []

    def add(key: int) -> object:
        def operation(ledger: ToyLedger) -> int:
            ledger.db.execute("INSERT INTO log VALUES ('n', ?, 'x')", (key,))
            if key % 3 == 0:
                raise KeyError(key)
            return key

        return operation

    async def main() -> list[object]:
        writer = Writer(lambda: ToyLedger(tmp_path / "l"), on_group=lambda size, seconds, error: groups.append(size))
        await writer.start()
        found = await asyncio.gather(*(writer.run(add(k)) for k in range(100)), return_exceptions=True)  # type: ignore[arg-type]
        await writer.stop()
        with pytest.raises(WriterStopped):
            await writer.run(lambda ledger: None)
        return found

    found = asyncio.run(main())
    assert [k for k in range(100) if isinstance(found[k], KeyError)] == list(range(0, 100, 3))
    assert sum(groups) == 100
    assert max(groups) <= 64
    assert len(groups) <= 10
    ledger = ToyLedger(tmp_path / "l")
    assert [k for k, _ in ledger.rows("n")] == [k for k in range(100) if k % 3]
    ledger.close()


def test_a_full_disk_refuses_who_writes_and_serves_who_reads(tmp_path: Path) -> None:
    def full(ledger: ToyLedger) -> None:
        raise StorageFull("disk full")

    async def main() -> None:
        writer = Writer(lambda: ToyLedger(tmp_path / "l"), linger=0.05)
        await writer.start()
        found = await asyncio.gather(
            writer.run(lambda ledger: ledger.tell("n")), writer.run(full), return_exceptions=True
        )
        assert (found[0], type(found[1])) == (None, StorageFull)
        assert await writer.run(lambda ledger: ledger.news("n")) == 1
        await writer.stop()

    asyncio.run(main())


def test_stopping_finishes_what_waits(tmp_path: Path) -> None:
    async def main() -> None:
        writer = Writer(lambda: ToyLedger(tmp_path / "l"), linger=0.05, most_waiting=5)
        await writer.start()
        tasks = [asyncio.ensure_future(writer.run(lambda ledger: ledger.tell("n"))) for _ in range(5)]
        await asyncio.sleep(0)
        await writer.stop()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    ledger = ToyLedger(tmp_path / "l")
    assert ledger.news("n") == 5
    ledger.close()


def test_too_many_and_a_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    async def main() -> None:
        writer = Writer(lambda: ToyLedger(tmp_path / "l"), most_waiting=0)
        await writer.start()
        with pytest.raises(WriterBusy):
            await writer.run(lambda ledger: None)
        await writer.stop()

        def broken() -> ToyLedger:
            raise StorageFull("disk full")

        with pytest.raises(StorageFull):
            await Writer(broken).start()

    asyncio.run(main())


def test_it_waits_longer_for_company_after_a_group_that_had_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("fedagg_edge.fleet.writer.time.sleep", waits.append)

    async def main() -> None:
        writer = Writer(lambda: ToyLedger(tmp_path / "l"), linger=0.002)
        held = threading.Event()
        await writer.start()
        await writer.run(lambda ledger: None)
        first = asyncio.ensure_future(writer.run(lambda ledger: held.wait()))
        await asyncio.sleep(0)
        rest = [asyncio.ensure_future(writer.run(lambda ledger: None)) for _ in range(3)]
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(first, *rest)
        await writer.run(lambda ledger: None)
        await writer.run(lambda ledger: None)
        await writer.stop()

    asyncio.run(main())
    assert waits[0] == 0.002
    assert waits[-2:] == [0.002 * BUSY, 0.002]


def test_a_result_that_cannot_be_handed_over_is_told_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    told: list[object] = []

    def broken(value: object, error: object) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        writer = Writer(lambda: ToyLedger(tmp_path / "l"))
        await writer.start()
        writer.submit(lambda ledger: ledger.tell("n"), broken)
        assert await writer.run(lambda ledger: ledger.news("n")) == 1
        await writer.stop()
        with pytest.raises(WriterStopped):
            writer.submit(lambda ledger: None, broken)

    asyncio.run(main())
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_those_who_waited_for_a_slow_commit_wait_no_longer_for_company(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(ledger: ToyLedger) -> None:
        begun.set()
        release.wait(10)

    async def main() -> None:
        writer = Writer(lambda: ToyLedger(tmp_path / "l"), linger=0.0)
        await writer.start()
        first = asyncio.ensure_future(writer.run(slow))
        await asyncio.to_thread(begun.wait, 10)
        writer._linger = 60.0
        more = [asyncio.ensure_future(writer.run(lambda ledger: ledger.tell("n"))) for _ in range(COMPANY + 1)]
        await asyncio.sleep(0)
        release.set()
        async with asyncio.timeout(20):
            await asyncio.gather(first, *more)
        await writer.stop()

    asyncio.run(main())
