"""The ready pods behind a Kubernetes Service: its EndpointSlices, asked for with the pod's own service account.

Source: kubernetes.io, EndpointSlice v1 (discovery.k8s.io) and "Accessing the Kubernetes API from a Pod". The account
needs `list` on `endpointslices` in the namespace.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from gateway.core.types import Replica
from gateway.discovery.base import NothingFound, Template

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds its token, which is changed every hour, the API's authority, and its namespace."""

TIMEOUT_S = 5.0


class _Conditions(msgspec.Struct, frozen=True):
    ready: bool | None = None


class _Reference(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str] = []
    conditions: _Conditions = _Conditions()
    target_ref: _Reference | None = None


class _Port(msgspec.Struct):
    port: int | None = None


class _Slice(msgspec.Struct, rename="camel"):
    address_type: str
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


class _List(msgspec.Struct):
    items: list[_Slice]


_decoder = msgspec.json.Decoder(_List)


def in_cluster(env: Mapping[str, str]) -> str | None:
    """The URL of the API, as every pod is told it; `None` outside a cluster."""
    host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT", "443")
    return host and f"https://{f'[{host}]' if ':' in host else host}:{port}"


class EndpointSlices:
    """`selector`: a label selector of slices; they bear `kubernetes.io/service-name`. `port`: `None` for the slice's
    first."""

    def __init__(
        self,
        api: str,
        template: Template,
        *,
        selector: str,
        namespace: str | None = None,
        port: int | None = None,
        account: Path = ACCOUNT,
    ) -> None:
        self._api = api
        self._template = template
        self._selector = selector
        self._namespace = namespace
        self._port = port
        self._account = account

    async def find(self) -> list[Replica]:
        """One for each pod that is ready, named as the pod, with the GPUs that an exporter shows for the pod."""
        try:
            slices = _decoder.decode(await self._ask()).items
        except msgspec.DecodeError as error:
            raise NothingFound(f"no list of EndpointSlices: {error}") from None
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            raise NothingFound(f"{self._api}: {type(error).__name__} {error}".strip()) from None
        families = {piece.address_type for piece in slices if piece.endpoints}
        family = "IPv4" if "IPv4" in families else "IPv6"  # of a pod with both, one is enough
        found = {r.id: r for piece in slices if piece.address_type == family for r in self._of(piece)}
        if not found:
            raise NothingFound(f"no pod of {self._selector!r} is ready")
        return [found[name] for name in sorted(found)]

    def _of(self, piece: _Slice) -> list[Replica]:
        port = self._port or next((port.port for port in piece.ports or () if port.port), None)
        # Unknown counts as ready (API reference of EndpointConditions); a pod that is being stopped is not ready.
        ready = [e for e in piece.endpoints or () if e.addresses and e.conditions.ready is not False]
        return [self._replica(endpoint, port) for endpoint in ready] if port else []

    def _replica(self, endpoint: _Endpoint, port: int) -> Replica:
        pod = endpoint.target_ref
        named = pod is not None and pod.name
        gpus = (f"{pod.namespace}/{pod.name}",) if pod is not None and named and pod.namespace else ()
        return self._template.replica(endpoint.addresses[0], port, name=named or None, gpus=gpus)

    async def _ask(self) -> bytes:
        namespace = self._namespace or (self._account / "namespace").read_text().strip()
        authority = self._account / "ca.crt"
        trust = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
        token = (self._account / "token").read_text().strip()
        url = f"{self._api}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=trust) as http:
            query = {"labelSelector": self._selector}
            answer = await http.get(url, params=query, headers={"authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            raise NothingFound(f"{url}: {answer.status_code}; may the service account list endpointslices?")
        return answer.content
