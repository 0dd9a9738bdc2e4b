"""`vmae checkpoint`: what files hold, weights of others taken in, ours given out as they are here or not at all."""

import pytest
import safetensors.torch
import torch
from helpers import noise, run_chain
from released import equal, released_pretraining, wrapped
from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification
from typer.testing import CliRunner

from benchmarks.contestants import with_our_epsilon
from vmae.__main__ import app
from vmae.errors import CheckpointError
from vmae.files import file_sha256
from vmae.identity import run_id
from vmae.imported import ImportedWeights
from vmae.model.autoencoder import VideoMAE
from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD
from vmae.model.classifier import Classifier
from vmae.model.describe import describe
from vmae.model.formats import to_vmae
from vmae.model.importing import load_imported, load_into, read_checkpoint
from vmae.sizes import ENCODERS
from vmae.train.checkpoint import load_weights, save_weights


def command(*words):
    done = CliRunner().invoke(app, ["checkpoint", *map(str, words)])
    return done.output, done


def test_inspect_import_and_export(wide, tmp_path):
    file, ours, back = tmp_path / "file.pth", tmp_path / "ours.safetensors", tmp_path / "back.pth"
    torch.save(wrapped(released_pretraining(), "model"), file)
    text, _ = command("inspect", file, "--names")
    for line in (
        "format: released",
        "weights under: 'model'; beside them: epoch, optimizer, args",
        "task: pretrain",
        "encoder: unnamed: width 16, depth 2, mlp ratio 4",
        "cube: 2 frames of 8 px",
        "decoder: width 8, depth 1",
        "  mask_token [1, 1, 8] float32",
        "positions: sincos_1d",
        "heads: unknown",
        f"sha256: {file_sha256(file)}",
    ):
        assert line in text
    command("import", file, "--out", ours)
    equal(safetensors.torch.load_file(ours), to_vmae(released_pretraining(), "released", 2))
    command("export", ours, "--out", back, "--format", "released", "--patch", 8)
    equal(read_checkpoint(back).weights, released_pretraining())
    _, done = command("export", ours, "--out", back, "--format", "hugginface")
    assert "Did you mean 'huggingface'?" in str(done.exception)


def test_a_run_exports_by_its_own_geometry(as_released, store, runtime, tmp_path):
    wide = as_released
    result = run_chain(store, wide, runtime, upto="pretrain")["pretrain"]
    place = store.run(result.run_id)
    command("export", place.path, "--out", tmp_path / "hf.safetensors", "--format", "huggingface")
    exported = read_checkpoint(tmp_path / "hf.safetensors")
    assert exported.format == "huggingface"
    assert describe(exported).cube == (2, 8)
    model = VideoMAE(wide.runs()[0])
    load_into(model, to_vmae(exported.weights, "huggingface", 2), min_share=1.0)
    save_weights(tmp_path / "again.safetensors", model)
    ours, again = (safetensors.torch.load_file(f) for f in (place.weights, tmp_path / "again.safetensors"))
    for name, tensor in ours.items():
        if name.endswith("qkv.bias"):
            width = len(tensor) // 3
            tensor[width : 2 * width] = 0  # a key bias has no place there, and changes nothing
        assert torch.equal(tensor, again[name]), name


def test_an_exported_run_answers_as_it_did_here(as_released, store, runtime, tmp_path):
    run = as_released.replace({"pretrain": None}).runs()[0]
    results = run_chain(store, as_released.replace({"pretrain": None}), runtime, upto="finetune")
    place, out = store.run(results["finetune"].run_id), tmp_path / "model.safetensors"
    text, _ = command("export", place.path, "--out", out, "--format", "huggingface")
    assert "positions" not in text, "a run knows its positions, so there is nothing to warn of"
    ours = Classifier(run).double().eval()
    load_into(ours, load_weights(place.weights), min_share=1.0)
    theirs = with_our_epsilon(VideoMAEForVideoClassification.from_pretrained(tmp_path).double())
    clips = torch.rand(2, 3, run.grid.num_frames, run.grid.size_px, run.grid.size_px, dtype=torch.float64)
    mean, std = (torch.tensor(values).double()[:, None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = theirs.eval()(((clips - mean) / std).transpose(1, 2)).logits
    torch.testing.assert_close(ours(clips), expected, rtol=1e-9, atol=1e-12)


def test_an_exported_pretraining_has_the_loss_it_had_here(as_released, store, tmp_path):
    run = as_released.replace({"pretrain.target": "normalised"}).runs()[0]
    place, ours = store.run(run_id(run)), VideoMAE(run)
    place.create(run)
    save_weights(place.weights, ours)
    command("export", place.path, "--out", tmp_path / "hf" / "model.safetensors", "--format", "huggingface")
    theirs = with_our_epsilon(VideoMAEForPreTraining.from_pretrained(tmp_path / "hf")).eval()
    clips, hidden = noise(run)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    loss = theirs(((clips - mean) / std).transpose(1, 2), bool_masked_pos=hidden).loss
    torch.testing.assert_close(ours.eval()(clips, hidden), loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "stage", "words"),
    [
        ({"encoder.positions": "sincos_3d"}, "finetune", "the encoder's positions are sincos_3d"),
        ({"encoder.positions": "learned"}, "finetune", "the encoder's positions are learned"),
        ({"pretrain.decoder.positions": "sincos_3d"}, "pretrain", "pretrain.decoder.positions=sincos_1d to export"),
        ({"pretrain.decoder.positions": "sincos_3d"}, "finetune", None),
        ({"finetune.probe": "linear", "finetune.optim.layer_decay": 1.0}, "finetune", "is a probe (linear)"),
    ],
)
def test_what_others_code_cannot_be_is_not_exported(as_released, store, tmp_path, settings, stage, words):
    """Their code computes one table of positions and reads none from the file: it would be another model, and say nothing."""
    recipe = as_released.replace(settings)
    run = next(run for run in recipe.runs() if run.stage == stage)
    place, out = store.run(run_id(run)), tmp_path / "out.safetensors"
    place.create(run)
    save_weights(place.weights, VideoMAE(run) if stage == "pretrain" else Classifier(run))
    for named in (place.path, place.weights):
        _, done = command("export", named, "--out", out, "--format", "huggingface")
        assert (done.exception is None) if words is None else (words in str(done.exception))
        assert out.exists() is (words is None)


@pytest.mark.parametrize("kind", ["released", "huggingface"])
def test_what_is_exported_with_other_heads_can_be_imported_with_no_others(as_released, store, tmp_path, monkeypatch, kind):
    """A config.json says the heads; the released code has those of its sizes."""
    run = as_released.runs()[1]
    monkeypatch.setitem(ENCODERS, "vit_tiny", run.encoder.model_copy(update={"num_heads": 4}))
    place, out = store.run(run_id(run)), tmp_path / "out" / "model.safetensors"
    place.create(run)
    save_weights(place.weights, Classifier(run))
    _, done = command("export", place.path, "--out", out, "--format", kind)
    if kind == "released":
        assert "Train with encoder.num_heads=4 to export" in str(done.exception)
        assert not out.exists()
        return
    assert "heads: 2" in command("inspect", out)[0]
    imported = ImportedWeights(name="ours", sha256=file_sha256(out), path=str(out))
    load_imported(Classifier(run), imported, run.grid, run.encoder)
    other = as_released.replace({"encoder.num_heads": 4}).runs()[1]
    with pytest.raises(CheckpointError, match=r"set encoder\.num_heads=2"):
        load_imported(Classifier(other), imported, run.grid, other.encoder)
    out.with_name("config.json").unlink()
    load_imported(Classifier(other), imported, run.grid, other.encoder)


def test_a_bare_file_says_as_much_of_its_positions_as_it_knows(as_released, tmp_path):
    file, out = tmp_path / "ours.safetensors", tmp_path / "out.pth"
    save_weights(file, Classifier(as_released.runs()[1]))
    text, _ = command("export", file, "--out", out, "--format", "released", "--patch", 8)
    assert "does not say which positions" in text
    assert "positions: unknown" in command("inspect", file)[0]
    save_weights(file, Classifier(as_released.replace({"encoder.positions": "learned"}).runs()[1]))
    _, done = command("export", file, "--out", out, "--format", "released", "--patch", 8)
    assert "the encoder's positions are learned" in str(done.exception)
    assert "positions: learned" in command("inspect", file)[0]


def test_inspect_reads_positions_and_heads_off_a_run(wide, store):
    run = wide.runs()[0]
    place = store.run(run_id(run))
    place.create(run)
    save_weights(place.weights, VideoMAE(run))
    text, _ = command("inspect", place.path)
    assert f"positions: encoder {run.encoder.positions}, decoder {run.pretrain.decoder.positions}" in text
    assert f"heads: encoder {run.encoder.num_heads}, decoder {run.pretrain.decoder.num_heads}" in text
