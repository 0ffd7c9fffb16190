"""The graph gives our logits in onnxruntime, for every option; and what its file holds."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from exported_models import NO_ONNX, lively_model

from chapter_03_neural_nets import Parameter
from chapter_07_attention import GPT, GPTConfig, from_pretrained
from chapter_10_production import onnx_export
from chapter_10_production.onnx_export import onnxruntime_model, save_onnx, to_onnx

OPTIONS = [
    {},
    {"tied": False, "activation": "relu", "hidden": 20},
    {"activation": "gelu"},
    {"activation": "silu"},
    {"activation": "swiglu"},
    *({"positions": name} for name in ("sinusoidal", "rotary", "alibi", "none")),
    {"positions": "alibi", "n_head": 6, "n_kv_head": 3, "head_dim": 4, "window": 4},
    {"positions": "sinusoidal", "n_embd": 7, "head_dim": 4},
    {"window": 3},
    {"window": 1, "positions": "rotary"},
    {"bias": False},
    {"n_kv_head": 1},
    {"head_dim": 6},
    {"norm": "rms"},
    {"norm": "rms", "bias": True, "positions": "rotary"},
    {"norm_eps": 0.1},
    {"llama": True, "norm_eps": 0.1},
    {"llama": True},
    {"llama": True, "n_head": 4, "n_kv_head": 2, "head_dim": 6},
    {"llama": True, "tied": True, "bias": True, "rope_theta": 123.0},
    {"llama": True, "window": 2, "norm": "layer"},
    {"block_size": 1},
    {"vocab_size": 1},
    {"n_layer": 4, "n_head": 4, "n_embd": 32, "block_size": 100, "vocab_size": 50},
]
SHAPES = [(1, 1), (1, 5), (3, 2), (2, 12), (1, 100)]


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnxruntime", reason=NO_ONNX)
    return pytest.importorskip("onnx", reason=NO_ONNX)


def agree(model, run, shapes=SHAPES) -> None:
    rng = np.random.default_rng(2)
    longest = model.config.block_size
    for shape in [shape for shape in shapes if shape[1] <= longest]:
        ids = rng.integers(model.config.vocab_size, size=shape)
        found, expected = run(ids), model(ids).data
        assert found.dtype == np.float32 and found.shape == expected.shape
        apart = np.abs(found - expected).max()
        assert apart < 1e-5, (
            f"for ids of shape {shape}, onnxruntime's logits are {apart:.1e} from the model's: a "
            "node of the graph does something else than the layer it stands for"
        )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_onnxruntime_gives_our_logits(options, onnx, tmp_path):
    model = lively_model(**options)
    made = onnx.load(save_onnx(model, tmp_path / "model.onnx"))
    onnx.checker.check_model(made, full_check=True)
    agree(model, onnxruntime_model(tmp_path / "model.onnx"))


@pytest.mark.parametrize("name", ["hf_tiny_gpt2", "hf_tiny_llama"])
def test_stored_logits_of_hugging_face(name, onnx, reference_data, tmp_path):
    model = from_pretrained(reference_data / name)
    run = onnxruntime_model(save_onnx(model, tmp_path / "model.onnx"))
    agree(model, run)
    expected = np.load(reference_data / name / "logits.npy")
    found = run(np.array([[1, 5, 7, 2, 64, 3]]))
    assert np.abs(found - expected).max() < 1e-4


def test_a_value_by_hand(onnx, tmp_path):
    """With layers that add nothing, logits are products of the embedding with its own norm."""
    model = GPT(GPTConfig(2, 4, 1, 1, 2, positions="none", norm_eps=0.0))
    for name, p in model.named_parameters():
        p.data[...] = name.startswith("norm")  # weights of norms are 1, all others 0
        if name.endswith("bias"):
            p.data[...] = 0
    model.embedding.weight.data[...] = [[3, 1], [0, 5]]
    run = onnxruntime_model(save_onnx(model, tmp_path / "model.onnx"))
    # The norm of (3, 1) is (1, -1), that of (0, 5) is (-1, 1).
    np.testing.assert_allclose(run([[0, 1]]), [[[2, -5], [-2, 5]]], atol=1e-6)


def test_another_reader_of_the_format_agrees(onnx):
    """onnx's own evaluator, which knows each operator from its description alone."""
    from onnx.reference import ReferenceEvaluator

    for options in ({"positions": "alibi"}, {"llama": True, "n_head": 4, "n_kv_head": 2}):
        model = lively_model(window=4, **options)
        evaluator = ReferenceEvaluator(to_onnx(model))
        agree(model, lambda ids, run=evaluator.run: run(None, {"ids": ids})[0], [(2, 5)])


def test_the_future_is_not_seen(onnx, tmp_path):
    run = onnxruntime_model(save_onnx(lively_model(), tmp_path / "model.onnx"))
    ids = np.array([[1, 2, 3, 4, 5]])
    other = np.array([[1, 2, 3, 9, 9]])
    np.testing.assert_array_equal(run(ids)[:, :3], run(other)[:, :3])
    assert not np.allclose(run(ids)[:, 3:], run(other)[:, 3:])


@pytest.mark.parametrize("options", [{}, {"tied": False}, {"llama": True}], ids=str)
def test_arrays_have_the_names_and_values_of_the_state_dict(options, onnx):
    model = lively_model(**options)
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in to_onnx(model).graph.initializer}
    state = model.state_dict()
    if model.config.tied:
        assert "head.weight" not in arrays, "a matrix that is used twice is stored once"
        del state["head.weight"]
    for name, array in state.items():
        np.testing.assert_array_equal(arrays.pop(name), array, name)
    own = ("constant_", "positions.")
    assert all(name.startswith(own) for name in arrays), f"what else is stored: {list(arrays)}"


def test_what_a_runtime_must_know(onnx):
    made = to_onnx(lively_model(llama=True, window=3), {"source": "a test"})
    assert made.ir_version == 10
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 20)]
    assert {node.domain for node in made.graph.node} == {""}, "operators of the standard alone"
    (ids,), (logits,) = made.graph.input, made.graph.output
    sizes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
             for v in (ids, logits)]  # fmt: skip
    assert ids.name == "ids" and logits.name == "logits"
    assert sizes == [["batch", "time"], ["batch", "time", 11]]
    assert ids.type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    facts = {entry.key: entry.value for entry in made.metadata_props}
    assert facts["source"] == "a test" and int(facts["parameters"]) > 1000
    assert json.loads(facts["config"])["window"] == 3
    assert "2 layers" in made.doc_string and "12 tokens" in made.graph.doc_string
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("layers.1.") for name in names) > 20, "nodes tell their layer"


def test_the_same_model_gives_the_same_bytes(onnx):
    assert (to_onnx(lively_model()).SerializeToString()
            == to_onnx(lively_model()).SerializeToString())  # fmt: skip


def test_longer_texts_than_the_model_knows_places_for_are_refused(onnx, tmp_path):
    for name in ("learned", "sinusoidal", "rotary"):
        model = lively_model(positions=name, block_size=1)
        run = onnxruntime_model(save_onnx(model, tmp_path / f"{name}.onnx"))
        with pytest.raises(Exception, match="out of data bounds|out of bounds"):
            run([[1, 2]])


def test_a_model_in_other_numbers_becomes_float32(onnx, tmp_path):
    model = lively_model()
    expected = model([[1, 2, 3]]).data
    run = onnxruntime_model(save_onnx(model.astype("float64"), tmp_path / "model.onnx"))
    np.testing.assert_allclose(run([[1, 2, 3]]), expected, atol=1e-5)


def test_a_model_of_other_parts_is_refused_and_costs_nothing(onnx, tmp_path):
    model, path = lively_model(), tmp_path / "model.onnx"
    path.write_text("from an earlier run")
    model.layers[0].gate = Parameter(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"layers\.0\.gate is not expected"):
        save_onnx(model, path)
    assert path.read_text() == "from an earlier run"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_too_large_a_model_is_refused_before_it_is_made(onnx, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    with pytest.raises(ValueError, match="less than 2 GiB"):
        to_onnx(lively_model())


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_package_it_is_said_what_to_install(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    work = {"onnx": lambda: to_onnx(lively_model()), "onnxruntime": lambda: onnxruntime_model("x")}
    with pytest.raises(ImportError, match="pip install onnx onnxruntime"):
        work[package]()
