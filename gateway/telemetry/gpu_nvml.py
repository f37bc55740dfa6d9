"""NVIDIA's driver itself, by NVML, for GPUs of the machine that the gateway runs on. Needs the extra `nvml`.

Source: nvidia-ml-py 13.615, pynvml.py. Its calls block, and one to a GPU that is being lost may block for seconds.
"""

import importlib
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from gateway.core.gpu import reasons_of
from gateway.core.vitals import GpuSample
from gateway.telemetry.poller import NoAnswer

T = TypeVar("T")
_MEMORY_TEMP_FIELD = 82


class NvmlReader:
    """Reads all GPUs in a thread. `load` gives the library: pynvml, unless a test gives another."""

    def __init__(
        self, *, host: str | None, timeout_s: float, load: Callable[[], Any] = lambda: importlib.import_module("pynvml")
    ) -> None:
        self._host = host or socket.gethostname()
        self._timeout_s = timeout_s
        self._load = load
        self._limiter = anyio.CapacityLimiter(1)
        self._nvml: Any = None
        self._uuids: dict[int, str] = {}

    async def read(self) -> list[GpuSample]:
        """One for each GPU. Raises `NoAnswer`; a thread that hangs is left behind, and no other is begun meanwhile."""
        try:
            with anyio.fail_after(self._timeout_s):
                return await anyio.to_thread.run_sync(self._look, abandon_on_cancel=True, limiter=self._limiter)
        except TimeoutError:
            raise NoAnswer(f"the driver did not answer in {self._timeout_s} s") from None

    def _look(self) -> list[GpuSample]:
        nvml = self._opened()
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self._nvml = None  # the driver may have been loaded anew
            raise NoAnswer(f"NVML: {error}") from None
        return [self._gpu(nvml, index) for index in range(count)]

    def _opened(self) -> Any:
        """The library, initialised; at the first look, and again after the driver was gone."""
        if self._nvml is None:
            try:
                nvml = self._load()
            except ImportError:
                raise NoAnswer("nvidia-ml-py is not installed: pip install 'vllm-gateway[nvml]'") from None
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                raise NoAnswer(f"NVML: {error}") from None
            self._nvml = nvml
        return self._nvml

    def _gpu(self, nvml: Any, index: int) -> GpuSample:
        device = _Device(nvml, index)
        power_mw, busy = device.ask("nvmlDeviceGetPowerUsage"), device.ask("nvmlDeviceGetUtilizationRates")
        # The older name of drivers before 535.
        mask = device.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:
            mask = device.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if uuid := device.text("nvmlDeviceGetUUID"):
            self._uuids[index] = uuid
        temp_c = device.ask("nvmlDeviceGetTemperatureV", nvml.NVML_TEMPERATURE_GPU)
        if temp_c is None:
            temp_c = device.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
        return GpuSample(
            uuid=self._uuids.get(index),  # one that is lost does not even tell its name
            hosts=frozenset({self._host}),
            index=index,
            model=device.text("nvmlDeviceGetName"),
            temp_c=temp_c,
            memory_temp_c=device.memory_temp(),
            power_w=None if power_mw is None else power_mw / 1000,
            clock_mhz=device.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            top_clock_mhz=device.ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
            busy_ratio=None if busy is None else busy.gpu / 100,
            reasons=reasons_of(mask),
            lost=device.lost,
        )


class _Device:
    """One GPU's getters: what it cannot tell (NOT_SUPPORTED and the like) is `None`, never 0."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self.lost = False
        self._handle = self._told(lambda: nvml.nvmlDeviceGetHandleByIndex(index))

    def ask(self, getter: str, *more: object) -> Any:
        """What a getter gives, or `None`. Once the GPU is lost, nothing more is asked of it."""
        if self._handle is None or self.lost:
            return None
        return self._told(lambda: getattr(self._nvml, getter)(self._handle, *more))

    def text(self, getter: str) -> str | None:
        """The same for a name, which older releases give as bytes."""
        value = self.ask(getter)
        return value.decode() if isinstance(value, bytes) else value

    def memory_temp(self) -> float | None:
        """Only as a field; each field has a result code of its own."""
        values = self.ask("nvmlDeviceGetFieldValues", [_MEMORY_TEMP_FIELD])
        if not values or values[0].nvmlReturn != 0:
            return None
        return values[0].value.uiVal or None

    def _told(self, call: Callable[[], T]) -> T | None:
        nvml = self._nvml
        try:
            return call()
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                self.lost = True
            return None
        except AttributeError:  # a getter that this release of nvidia-ml-py does not have
            return None
