"""From what sources show of GPUs to how much slower each is: what counts as throttled, from when, and until when.

Sources: NVML's clocks event reasons (nvidia-ml-py 13.615, pynvml.py), DCGM's field constants.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.vitals import GpuSample, GpuView, Reason, gpu_name

BITS: Mapping[int, Reason] = {
    0x1: Reason.IDLE,
    0x2: Reason.CLOCKS_SETTING,
    0x4: Reason.POWER_CAP,
    0x8: Reason.HW_SLOWDOWN,
    0x10: Reason.SYNC_BOOST,
    0x20: Reason.SW_THERMAL,
    0x40: Reason.HW_THERMAL,
    0x80: Reason.POWER_BRAKE,
    0x100: Reason.DISPLAY_CLOCKS,
}
"""nvmlClocksEventReason*, which DCGM's bits are too; the older nvmlClocksThrottleReason* have the same values."""

BAD = frozenset({Reason.HW_SLOWDOWN, Reason.SW_THERMAL, Reason.HW_THERMAL, Reason.POWER_BRAKE, Reason.MEMORY_THERMAL})
"""What slows a GPU down against its peers. A power cap alone is how an H100 runs at full load; idle, application
clocks, sync boost and display clocks are somebody's wish."""

CONFIRM_SAMPLES = 2
"""Looks in a row that must show HW_SLOWDOWN if it is alone: DCGM's documentation says that a change of P-state shows
it, too. Any other bad reason counts at once."""

LEAVE_SAMPLES = 3
"""Looks in a row without a bad reason until it is over: a GPU at its thermal limit sets and clears the bit."""

BUSY_RATIO = 0.05
"""Below it a clock says nothing: an idle GPU lowers it by itself."""

HOT_MEMORY_C, WARM_MEMORY_C, HOT_MEMORY_SLOWDOWN = 95.0, 92.0, 1.4
"""HBM throttles without a bit: from the first temperature on, and until it is below the second, it counts as so much
slower. The figure is one author's measurement of an H100 (3.1 to 2.3 TB/s), not NVIDIA's."""

MOST_SLOWDOWN = 6.0
"""As for what is learned."""

TOP_CLOCK_MHZ = 10_000.0
"""No GPU's clock is above it: a wild figure must not become the clock that all others are measured by."""

FATAL_XIDS = frozenset({46, 48, 79})
"""The GPU stopped processing, an uncorrectable ECC error, it has fallen off the bus: NVIDIA's catalogue wants it reset
or the machine restarted. Others leave the GPU in order, or end a process that shows it by itself."""


def reasons_of(mask: float | None) -> frozenset[Reason] | None:
    """The reasons in a bit mask; `None` for one that is no mask. Bits that are not known are passed over."""
    if mask is None or not 0 <= mask < 1 << 32:
        return None
    return frozenset(reason for bit, reason in BITS.items() if int(mask) & bit)


@dataclass(slots=True)
class _Watch:
    """What is remembered of one GPU."""

    sample: GpuSample
    at: float
    names: frozenset[str] = frozenset()
    reasons: frozenset[Reason] | None = None
    seen_bad: int = 0
    clear: int = LEAVE_SAMPLES
    slowdown: float | None = None
    highest_mhz: float = 0.0
    hot_memory: bool = False
    xid: int | None = None
    fatal: bool = False


_Key = tuple[str, str]
"""The source, and what tells the GPU from others: two sources may show one GPU, and know different things of it."""


class Gpus:
    """All GPUs that sources have shown."""

    def __init__(self, *, stale_after_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._watches: dict[_Key, _Watch] = {}
        self._by_name: dict[str, frozenset[_Key]] = {}
        self._highest_mhz: dict[str, float] = {}

    def look(self, source: str, samples: Iterable[GpuSample], now: float) -> None:
        """One look at a source."""
        renamed = False
        for sample in samples:
            key = (source, sample.key)
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = _Watch(sample, now)
            names = sample.names
            renamed = renamed or names != watch.names
            before, watch.sample, watch.at, watch.names = watch.sample, sample, now, names
            self._judge(watch, before)
        if self._drop(now) or renamed:
            self._by_name = {}
            for key, watch in self._watches.items():
                for name in watch.names:
                    self._by_name[name] = self._by_name.get(name, frozenset()) | {key}

    def _drop(self, now: float) -> bool:
        """Forget GPUs that nobody has shown for long, so that memory stays flat. Whether there were any."""
        gone = [key for key, watch in self._watches.items() if now - watch.at > 10 * self._stale_after_s]
        for key in gone:
            del self._watches[key]
        return bool(gone)

    def _judge(self, watch: _Watch, before: GpuSample) -> None:
        sample = watch.sample
        watch.reasons = _reasons(sample, before)
        _heed_xid(watch)
        if (sample.clock_mhz or 0.0) <= TOP_CLOCK_MHZ:
            watch.highest_mhz = max(watch.highest_mhz, sample.clock_mhz or 0.0)
            if sample.model:
                self._highest_mhz[sample.model] = max(self._highest_mhz.get(sample.model, 0.0), watch.highest_mhz)
        if watch.reasons is None:
            watch.slowdown = None
        else:
            watch.slowdown = self._graded(watch, watch.reasons & BAD)
        limit_c = WARM_MEMORY_C if watch.hot_memory else HOT_MEMORY_C
        watch.hot_memory = sample.memory_temp_c is not None and sample.memory_temp_c >= limit_c
        if watch.hot_memory:
            watch.slowdown = max(watch.slowdown or 1.0, HOT_MEMORY_SLOWDOWN)

    def _graded(self, watch: _Watch, bad: frozenset[Reason]) -> float | None:
        watch.seen_bad = watch.seen_bad + 1 if bad else 0
        if bad and (bad != {Reason.HW_SLOWDOWN} or watch.seen_bad >= CONFIRM_SAMPLES):
            watch.clear = 0
        elif not bad:
            watch.clear += 1
        if watch.clear >= LEAVE_SAMPLES:
            return 1.0
        # While the bits are clear, or the GPU has nothing to do, its clock tells nothing: what it was last still holds.
        return self._by_clock(watch) if bad and _busy(watch) else watch.slowdown

    def _by_clock(self, watch: _Watch) -> float | None:
        """Top clock over clock; `None` where one of them is not known: throttled, but nobody can say how much."""
        clock, top = watch.sample.clock_mhz, self._top_mhz(watch)
        if not clock or not top:
            return None
        return min(MOST_SLOWDOWN, max(1.0, top / clock))

    def _top_mhz(self, watch: _Watch) -> float:
        """The highest clock that is known: as told, else the highest that it, or any of its model, was seen at."""
        told = watch.sample.top_clock_mhz
        if told is not None and 0 < told <= TOP_CLOCK_MHZ:
            return told
        return max(watch.highest_mhz, self._highest_mhz.get(watch.sample.model or "", 0.0))

    def forgive(self, names: Iterable[str]) -> None:
        """An engine has been started anew on these GPUs, so that whatever XID they had is settled."""
        for name in names:
            for key in self._by_name.get(gpu_name(name), ()):
                self._watches[key].fatal = False

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the names that no source has shown."""
        return [name for name in names if gpu_name(name) not in self._by_name]

    def views(self, names: Sequence[str], now: float) -> tuple[GpuView, ...]:
        """The GPUs that a replica's config names, in its order, unknown ones too; those of a pod by their own names."""
        found: list[GpuView] = []
        for name in names:
            by_gpu: dict[str, list[_Key]] = {}
            for key in sorted(self._by_name.get(gpu_name(name), ())):
                by_gpu.setdefault(key[1], []).append(key)
            for gpu, keys in by_gpu.items():
                found.append(self._best(gpu if len(by_gpu) > 1 else name, keys, now))
            found += [] if by_gpu else [GpuView(name)]
        return tuple(found)

    def _best(self, name: str, keys: Sequence[_Key], now: float) -> GpuView:
        """Of what several sources say of one GPU: that it is lost; else what says the most, and is the newest."""
        if len(keys) == 1:
            return self._view(name, keys[0], now)
        views = [self._view(name, key, now) for key in keys]
        return max(views, key=lambda view: (view.lost is True, view.slowdown is not None, view.at))

    def _view(self, name: str, key: _Key, now: float) -> GpuView:
        watch = self._watches[key]
        if now - watch.at > self._stale_after_s:
            return GpuView(name, key[0], watch.at)
        sample = watch.sample
        told = sample.lost is not None or sample.xid is not None
        return GpuView(
            name,
            key[0],
            watch.at,
            temp_c=sample.temp_c,
            memory_temp_c=sample.memory_temp_c,
            power_w=sample.power_w,
            clock_mhz=sample.clock_mhz,
            reasons=watch.reasons,
            slowdown=watch.slowdown,
            lost=(bool(sample.lost) or watch.fatal) if told else None,
        )

    def __len__(self) -> int:
        return len(self._watches)

    def __repr__(self) -> str:
        return f"<Gpus {sorted(gpu for _, gpu in self._watches)}>"


def _reasons(sample: GpuSample, before: GpuSample) -> frozenset[Reason] | None:
    """The reasons at work. A window's count that does not fall, or a total that rises, is one at work.

    `None` where nothing tells them, which is not the same as none at work.
    """
    if sample.reasons is not None:
        return sample.reasons
    if sample.recent:
        return frozenset(
            reason for reason, count in sample.recent.items() if count > 0 and count >= before.recent.get(reason, 0)
        )
    if sample.totals and sample is not before:
        return frozenset(reason for reason, total in sample.totals.items() if total > before.totals.get(reason, total))
    return None


def _busy(watch: _Watch) -> bool:
    """Whether its clock tells anything. Where no source shows what it does, a bad reason is taken for work."""
    ratio = watch.sample.busy_ratio
    return Reason.IDLE not in (watch.reasons or ()) if ratio is None else ratio >= BUSY_RATIO


def _heed_xid(watch: _Watch) -> None:
    """Only one that comes while we look counts: the last one stays on the page for ever, also when it is settled."""
    xid = watch.sample.xid
    if xid is not None:
        if watch.xid is not None and xid != watch.xid:
            watch.fatal = xid in FATAL_XIDS
        watch.xid = xid


def slowest(views: Sequence[GpuView]) -> float | None:
    """The slow-down of a replica on these GPUs: a tensor-parallel group waits for its slowest.

    `None` while none is known, or the known ones are well and another is not known.
    """
    known = [view.slowdown for view in views if view.slowdown is not None]
    if not known or (max(known) <= 1.0 and len(known) < len(views)):
        return None
    return max(known)


def any_lost(views: Sequence[GpuView]) -> bool | None:
    """Whether one of them is lost; `None` while that is not known of all, and none is."""
    if any(view.lost for view in views):
        return True
    return False if views and all(view.lost is False for view in views) else None
