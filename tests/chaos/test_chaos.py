import pytest

from tests.chaos.rounds import chaos

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {})])
@pytest.mark.parametrize("seed", range(12))
async def test_x(seed):
    import time

    t = time.monotonic()
    async with chaos(seed) as one:
        await one.round(0, 120)
        await one.round(1, 120)
        print(one.tally, one.share_exact(), time.monotonic() - t)
        for a in one.asks:
            if one.verdicts[a.id] not in ("exact", "left"):
                print(a.id, a.kind, one.verdicts[a.id])
