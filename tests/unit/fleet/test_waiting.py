import asyncio

from fedagg_edge.fleet.waiting import Waiters


def test_a_wake_up_of_the_topic_ends_the_wait() -> None:
    async def main() -> None:
        waiters = Waiters()
        one, two = (asyncio.ensure_future(waiters.wait(t, 0, 60)) for t in ("a", "b"))
        await asyncio.sleep(0)
        assert waiters.topics == {"a", "b"}
        waiters.wake(["a"])
        assert await one
        assert not two.done()
        waiters.wake_all()
        assert await two
        assert len(waiters) == 0
        assert waiters.topics == frozenset()

    asyncio.run(main())


def test_a_wake_up_between_the_look_and_the_wait_is_not_lost() -> None:
    async def main() -> None:
        waiters = Waiters()
        mark = waiters.mark
        waiters.wake(["a"])
        assert await waiters.wait("a", mark, 60)
        assert not await waiters.wait("a", waiters.mark, 0.001)
        assert not await waiters.wait("b", mark, 0.001)
        waiters.wake_all()
        assert await waiters.wait("b", mark, 60)

    asyncio.run(main())


def test_one_who_goes_away_leaves_nothing_behind() -> None:
    async def main() -> None:
        waiters = Waiters()
        task = asyncio.ensure_future(waiters.wait("a", 0, 60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(waiters) == 0
        waiters.wake(["a"])

    asyncio.run(main())
