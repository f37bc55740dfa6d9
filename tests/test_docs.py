"""The documentation names all that there is, and promises nothing that there is not."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.config import POLICIES, Config, load
from gateway.config.keys import NOT_EFFECTIVE, NOT_YET, ReplicaConfig, Section
from gateway.config.reader import default_of
from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot
from gateway.observability.metrics import Metrics

ROOT = Path(__file__).parent.parent


def keys(cls: type[Section], path: str = "") -> Iterator[tuple[str, str]]:
    """Each key's path as the documentation writes it, and its default in YAML."""
    for info in msgspec.structs.fields(cls):
        if info.name == "replicas":
            yield from keys(ReplicaConfig, "replicas[].")
        elif isinstance(info.type, type) and issubclass(info.type, Section):
            yield from keys(info.type, f"{path}{info.name}.")
        else:
            yield f"{path}{info.name}", "" if info.required else _plain(default_of(info))


def _plain(value: object) -> str:
    return yaml.safe_dump(msgspec.to_builtins(value, builtin_types=()), default_flow_style=True, sort_keys=False)


ENTRIES = dict(re.findall(r"^### `(.+)`\n\n((?:- .+\n)+)", (ROOT / "docs/configuration.md").read_text("utf-8"), re.M))


def test_every_key_has_an_entry_and_every_entry_is_a_key() -> None:
    """`docs/configuration.md` lists the keys of the config, all of them and no other."""
    assert sorted(ENTRIES) == sorted(path for path, _ in keys(Config))


@pytest.mark.parametrize(("path", "default"), list(keys(Config)))
def test_an_entry_has_the_three_parts_and_the_right_default(path: str, default: str) -> None:
    """Syntax, default and meaning; the default is the one that the code has."""
    entry = ENTRIES[path]
    assert re.match(
        r"- Syntax: .+\n- Default: .+\n- Meaning: .+\n- (A bad idea: |Not available in this version).+", entry
    )
    written = re.search(r"- Default: `(.*)`", entry)
    if path == "replicas[].name":  # its default is made of the URL
        return
    if not default:
        assert "required" in entry
        return
    assert written is not None
    assert yaml.safe_load(written[1]) == yaml.safe_load(default)


@pytest.mark.parametrize("path", NOT_YET)
def test_what_is_not_available_says_so(path: str) -> None:
    """An entry tells that its key is refused, before someone builds on it."""
    assert "ot available in this version" in ENTRIES[path]


@pytest.mark.parametrize("path", sorted(ENTRIES))
def test_what_has_no_effect_says_so(path: str) -> None:
    """An entry tells that its key changes nothing, and only then."""
    plain = path.replace("[]", "")
    off = any(plain == key or plain.startswith(f"{key}.") for key in NOT_EFFECTIVE)
    assert ("o effect in this version" in ENTRIES[path]) == off


def test_every_policy_is_documented() -> None:
    """The entry of `routing.policy` names each policy, and each parameter's entry names its own."""
    for policy, parameters in POLICIES.items():
        assert f"`{policy}`" in ENTRIES["routing.policy"]
        for parameter in parameters:
            assert f"Parameter of `{policy}`" in ENTRIES[f"routing.{parameter}"]


def test_the_example_holds_every_key_at_its_default() -> None:
    """`config/gateway.yaml` can be copied and cut down: nothing is missing, nothing is changed."""
    file = ROOT / "config/gateway.yaml"
    assert load(file, {}) == Config()
    assert sorted(_paths(yaml.safe_load(file.read_text("utf-8")))) == sorted(_paths(msgspec.to_builtins(Config())))


def _paths(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from _paths(inner, f"{path}.{key}")


def test_every_comment_of_the_example_stands_beside_a_key() -> None:
    """Each key of the example says what it means and in which unit."""
    lines = (ROOT / "config/gateway.yaml").read_text("utf-8").splitlines()
    values = [line for line in lines if re.match(r" +\w+: \S", line)]
    assert [line for line in values if "#" not in line] == []


def test_the_demo_loads() -> None:
    """`config/demo.yaml` is a right config that sets only keys with an effect."""
    assert load(ROOT / "config/demo.yaml", {}).server.drain_timeout_s == 5


def _metrics() -> list[str]:
    source = ROOT / "gateway/observability/metrics.py"
    return sorted(set(re.findall(r'"(gateway_[a-z0-9_]+)"', source.read_text("utf-8")))) if source.exists() else []


@pytest.mark.parametrize("name", _metrics())
def test_every_metric_is_documented(name: str) -> None:
    """`docs/metrics.md` has each series that the gateway exports."""
    assert f"`{name}`" in (ROOT / "docs/metrics.md").read_text("utf-8")


KINDS = dict(re.findall(r"^\| `(gateway_\w+)` \| (\w+)", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M))


def test_every_metric_has_its_kind() -> None:
    """No series is documented that is not exported, and none as another kind."""
    registry = CollectorRegistry()
    Metrics(registry, Board(FleetSnapshot()), Books(), PrefixIndex())
    exported = {f"{f.name}_total" if f.type == "counter" else f.name: f.type for f in registry.collect()}
    assert exported == KINDS


LIMITS = re.findall(r"^\| `([\w.]+)` \| ([\d.]+) \|", (ROOT / "docs/behaviour.md").read_text("utf-8"), re.M)


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_the_limits_are_those_of_the_code(name: str, value: str) -> None:
    """`docs/behaviour.md` promises numbers: each is a constant, or the default of a key."""
    module, _, attribute = name.rpartition(".")
    if name.startswith("gateway."):
        assert float(value) == getattr(importlib.import_module(module), attribute)
    else:
        assert float(value) == yaml.safe_load(dict(keys(Config))[name])


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file, or a heading of its own."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_a_decision_has_its_four_parts() -> None:
    """Context, options, decision, consequences; numbers without a gap."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    for page in decisions:
        headings = re.findall(r"^\*\*(\w+)\.\*\*", page.read_text("utf-8"), re.M)
        assert headings == ["Context", "Options", "Decision", "Consequences"]


def test_named_files_exist() -> None:
    """A page that names a file of ours, `core/sse.py`, names one that is there."""
    named = [
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)", page.read_text("utf-8"))
        if not name.endswith("/x.py") and not any((ROOT / top / name).exists() for top in (".", "gateway"))
    ]
    assert named == []
