"""The composition root: the only place that knows all parts. It builds them, runs them, and stops them in order."""

import contextlib
import itertools
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import anyio
import httpx
import uvicorn
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.policies import POLICIES
from gateway.core.types import FleetSnapshot, ReplicaView
from gateway.observability.access_log import AccessLog
from gateway.observability.ledger import Ledger
from gateway.observability.metrics import Metrics
from gateway.serving.exchange import Desk, Limits
from gateway.serving.front import Front
from gateway.serving.upstream import Pool
from gateway.serving.watchdog import Watchdog

LOG_FLUSH_S = 0.2
"""How long a log line may wait; writing each one by itself would cost a system call on the hot path."""

POOL_EXPIRE_S = 1.0
