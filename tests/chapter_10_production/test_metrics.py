"""What a monitor reads: counters and histograms of events, gauges of the present."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

INSTALL = "prometheus-client is not installed: install the serve extra, pip install -e .[serve]"


@pytest.fixture
def metrics():
    pytest.importorskip("prometheus_client", reason=INSTALL)
    from chapter_10_production.metrics import Metrics

    return Metrics()


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_texts_and_tokens_are_counted(metrics):
    metrics.submitted()
    metrics.submitted()
    metrics.rejected()
    metrics.first_token(0.3)
    metrics.tokens(1, None)
    metrics.tokens(3, 0.06)
    metrics.finished("stop")
    metrics.responded(200)
    assert value(metrics, "texts_submitted_total") == 2
    assert value(metrics, "texts_rejected_total") == 1
    assert value(metrics, "texts_finished_total", reason="stop") == 1
    assert value(metrics, "tokens_written_total") == 4
    assert value(metrics, "http_responses_total", status="200") == 1


def test_times_are_in_histograms(metrics):
    metrics.first_token(0.3)
    assert value(metrics, "time_to_first_token_seconds_count") == 1
    assert value(metrics, "time_to_first_token_seconds_bucket", le="0.25") == 0
    assert value(metrics, "time_to_first_token_seconds_bucket", le="0.5") == 1
    metrics.tokens(5, None)  # those that begin a text come after no other
    metrics.tokens(3, 0.06)
    assert value(metrics, "time_between_tokens_seconds_count") == 3
    assert value(metrics, "time_between_tokens_seconds_sum") == pytest.approx(0.06)
    assert value(metrics, "time_between_tokens_seconds_bucket", le="0.01") == 0
    assert value(metrics, "time_between_tokens_seconds_bucket", le="0.025") == 3


def test_gauges_are_read_when_they_are_asked_for(metrics):
    thread = SimpleNamespace(waiting=3, running=2, cache_use=0.25, alive=True)
    metrics.watch(thread)
    assert value(metrics, "texts_waiting") == 3
    thread.waiting = 4
    assert value(metrics, "texts_waiting") == 4
    assert value(metrics, "cache_use_ratio") == 0.25
    assert value(metrics, "engine_alive") == 1


def test_the_text_that_prometheus_reads(metrics):
    from prometheus_client.parser import text_string_to_metric_families

    metrics.responded(404)
    families = {f.name: f for f in text_string_to_metric_families(metrics.exposition().decode())}
    assert families["http_responses"].type == "counter"
    assert families["time_to_first_token_seconds"].type == "histogram"
    assert all(family.documentation for family in families.values())


def test_each_has_a_registry_of_its_own(metrics):
    other = type(metrics)()
    other.submitted()
    assert value(metrics, "texts_submitted_total") == 0


WITHOUT = """
import sys
sys.modules["{missing}"] = None
try:
    import chapter_10_production.{module}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "module, missing", [("metrics", "prometheus_client"), ("app", "starlette")]
)
def test_without_the_extra_the_error_says_what_to_install(module, missing):
    code = WITHOUT.format(module=module, missing=missing)
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert "pip install starlette uvicorn prometheus-client (the extra 'serve')" in found.stdout
