"""Weights from elsewhere and back: bit-exact, reported, refused where they do not belong."""

import argparse
import pickle

import pytest
import safetensors.torch
import torch
from helpers import run_chain
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
from typer.testing import CliRunner

from benchmarks.contestants import their_config, with_our_epsilon
from vmae.__main__ import app
from vmae.errors import CheckpointError
from vmae.files import file_sha256
from vmae.grid import CubeGrid
from vmae.identity import run_id
from vmae.model.autoencoder import VideoMAE
from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD, CubeEmbedding
from vmae.model.classifier import Classifier
from vmae.model.cubes import cut
from vmae.model.describe import describe
from vmae.model.formats import from_vmae, to_vmae
from vmae.model.importing import load_imported, load_into, read_checkpoint
from vmae.sections import ImportedWeights
from vmae.sizes import DECODERS, ENCODERS
from vmae.train.checkpoint import load_weights, save_weights

BLOCK = {
    "norm1.weight": "D", "norm1.bias": "D", "norm2.weight": "D", "norm2.bias": "D",
    "attn.q_bias": "D", "attn.v_bias": "D", "attn.qkv.weight": "3D D", "attn.proj.weight": "D D", "attn.proj.bias": "D",
    "mlp.fc1.weight": "4D D", "mlp.fc1.bias": "4D", "mlp.fc2.weight": "D 4D", "mlp.fc2.bias": "D",
}  # fmt: skip


def blocks(prefix, depth, width):
    def shape(text):
        return [int(word.removesuffix("D") or 1) * width for word in text.split()]

    return {f"{prefix}blocks.{i}.{name}": torch.randn(shape(text)) for i in range(depth) for name, text in BLOCK.items()}


def released_pretraining(width=16, depth=2, dec_width=8, dec_depth=1, tubelet=2, patch=8):
    """The names and shapes of a released pre-training file."""
    torch.manual_seed(0)
    return {
        "mask_token": torch.randn(1, 1, dec_width),
        "encoder.patch_embed.proj.weight": torch.randn(width, 3, tubelet, patch, patch),
        "encoder.patch_embed.proj.bias": torch.randn(width),
        **blocks("encoder.", depth, width),
        "encoder.norm.weight": torch.randn(width),
        "encoder.norm.bias": torch.randn(width),
        **blocks("decoder.", dec_depth, dec_width),
        "decoder.norm.weight": torch.randn(dec_width),
        "decoder.norm.bias": torch.randn(dec_width),
        "decoder.head.weight": torch.randn(3 * tubelet * patch**2, dec_width),
        "decoder.head.bias": torch.randn(3 * tubelet * patch**2),
        "encoder_to_decoder.weight": torch.randn(dec_width, width),
    }


def released_finetuning(width=16, depth=2, classes=5, tubelet=2, patch=8):
    torch.manual_seed(1)
    return {
        "patch_embed.proj.weight": torch.randn(width, 3, tubelet, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        **blocks("", depth, width),
        "fc_norm.weight": torch.randn(width),
        "fc_norm.bias": torch.randn(width),
        "head.weight": torch.randn(classes, width),
        "head.bias": torch.randn(classes),
    }


def image_mae(width=16, depth=2, patch=8):
    torch.manual_seed(2)
    named = {
        name.replace("q_bias", "qkv.bias"): tensor for name, tensor in blocks("", depth, width).items() if "v_bias" not in name
    }
    named = {name: torch.randn(3 * width) if name.endswith("qkv.bias") else tensor for name, tensor in named.items()}
    return named | {
        "cls_token": torch.randn(1, 1, width),
        "pos_embed": torch.randn(1, 17, width),
        "patch_embed.proj.weight": torch.randn(width, 3, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": torch.randn(width),
        "norm.bias": torch.randn(width),
        "decoder_embed.weight": torch.randn(8, width),
        "mask_token": torch.randn(1, 1, 8),
    }


def equal(one, other):
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
        assert tensor.is_contiguous()


@pytest.fixture
def wide(recipe):
    """A recipe whose models have the shapes of the files above."""
    return recipe.replace({"encoder.mlp_ratio": 4.0, "pretrain.decoder.mlp_ratio": 4.0, "finetune.drop_path_rate": 0.0})


@pytest.mark.parametrize("weights", [released_pretraining(), released_finetuning()], ids=["pretraining", "finetuning"])
def test_released_files_round_trip_bit_exact(weights):
    equal(from_vmae(to_vmae(weights, "released", 2), "released", 2, 8), weights)


@pytest.mark.parametrize("kind", [VideoMAEForPreTraining, VideoMAEForVideoClassification])
def test_hugging_face_round_trips_bit_exact(kind, tmp_path):
    """Out under the names of transformers 4, which the one installed here must read as its own."""
    config = VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, use_mean_pooling=kind is VideoMAEForVideoClassification,
    )  # fmt: skip
    model = kind(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)  # no bias at zero, as one left out would be
    weights = model.state_dict()
    older = {n.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): t for n, t in weights.items()}
    equal(to_vmae(older, "huggingface", 2), to_vmae(weights, "huggingface", 2))
    exported = from_vmae(to_vmae(weights, "huggingface", 2), "huggingface", 2, 8)
    equal(exported, older)
    config.save_pretrained(tmp_path)
    safetensors.torch.save_file(exported, tmp_path / "model.safetensors", metadata={"format": "pt"})
    equal(kind.from_pretrained(tmp_path).state_dict(), weights)


def test_released_and_hugging_face_names_meet_in_one_model(wide):
    run = wide.runs()[0]
    model = VideoMAE(run)
    ours = to_vmae(released_pretraining(), "released", 2)
    assert load_into(model, ours, min_share=1.0).unexpected == ()
    hugging = from_vmae(ours, "huggingface", 2, 8)
    equal(to_vmae(hugging, "huggingface", 2), ours)
    equal(from_vmae(model.state_dict(), "released", 2, 8), released_pretraining())


@pytest.mark.parametrize(
    ("size", "pretraining", "finetuning"),
    [
        ("vit_s", 218, 162),
        ("vit_b", 218, 162),
        pytest.param("vit_l", 478, 318, marks=pytest.mark.slow),
        pytest.param("vit_h", 582, 422, marks=pytest.mark.slow),
    ],
)
def test_sizes_have_the_released_tensors_and_parameters(recipe, size, pretraining, finetuning):
    """Tensor counts of the released files; parameters of transformers' models and, rounded, of the paper's Table 5."""
    encoder, decoder = ENCODERS[size], DECODERS[size]
    big = recipe.replace(
        {"grid": CubeGrid().model_dump(), "encoder": encoder.model_dump(), "pretrain.decoder": decoder.model_dump()}
    ).runs()
    with torch.device("meta"):
        config = VideoMAEConfig(
            hidden_size=encoder.width, num_hidden_layers=encoder.depth, num_attention_heads=encoder.num_heads,
            intermediate_size=4 * encoder.width, decoder_hidden_size=decoder.width, decoder_num_hidden_layers=decoder.depth,
            decoder_num_attention_heads=decoder.num_heads, decoder_intermediate_size=4 * decoder.width, num_labels=8,
        )  # fmt: skip
        config.use_mean_pooling = False
        other = VideoMAEForPreTraining(config)
        config.use_mean_pooling = True
        classifier = VideoMAEForVideoClassification(config)
        pairs = ((VideoMAE(big[0]), other, pretraining), (Classifier(big[1]), classifier, finetuning))
    for ours, theirs, num_tensors in pairs:
        released = from_vmae(ours.state_dict(), "released", 2, 16)
        assert len(released) == num_tensors
        assert sum(t.numel() for t in released.values()) == sum(p.numel() for p in theirs.parameters())
    millions = sum(p.numel() for p in classifier.parameters()) / 1e6
    assert abs(millions - {"vit_s": 22, "vit_b": 87, "vit_l": 305, "vit_h": 633}[size]) < 1.5


def test_image_filters_give_a_still_clip_what_the_image_gave():
    weights = image_mae()
    ours = to_vmae(weights, "image_mae", 2)
    grid = CubeGrid(num_frames=4, size_px=32, tubelet_frames=2, patch_px=8)
    embed = CubeEmbedding(grid, 16)
    embed.load_state_dict({"proj.weight": ours["encoder.embed.proj.weight"], "proj.bias": ours["encoder.embed.proj.bias"]})
    image = torch.rand(2, 3, 32, 32)
    normal = ((image - embed.mean[:3, None, None]) / embed.std[:3, None, None]).float()
    expected = torch.nn.functional.conv2d(normal, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=8)
    found = embed(cut(image[:, :, None].expand(-1, -1, 4, -1, -1), grid))
    torch.testing.assert_close(found[:, :16], expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)
    assert torch.equal(ours["encoder.blocks.0.attn.qkv.bias"], weights["blocks.0.attn.qkv.bias"])


def wrapped(weights, how):
    if how == "plain":
        return weights
    if how == "model":
        return {"model": weights, "epoch": 7, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=1.0)}
    if how == "module":
        return {"module": weights, "mp_world_size": 1}
    return {"state_dict": {f"backbone.{name}": tensor for name, tensor in weights.items()}}


@pytest.mark.parametrize("how", ["plain", "model", "module", "backbone"])
def test_wrappers_and_prefixes_are_seen_through(tmp_path, how):
    weights = released_finetuning()
    torch.save(wrapped(weights, how), tmp_path / "file.pth")
    checkpoint = read_checkpoint(tmp_path / "file.pth")
    assert checkpoint.format == "released"
    equal(checkpoint.weights, weights)


class Anything:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated or no checkpoint"),
        (b"not a checkpoint at all", "file.pth"),
        ("truncated", "truncated or no checkpoint"),
        ("code", "is refused"),
        ({"model": {"a": 1}}, "no tensors found"),
        ({"fc.weight": torch.zeros(2)}, "belongs to a known format"),
        ([torch.zeros(2)], "a list, not a dictionary"),
        ({**released_finetuning(), "head.bias": torch.tensor([0, float("nan")])}, "1 tensors hold NaN or infinity: head.bias"),
    ],
)
def test_bad_files_are_refused_with_the_reason(tmp_path, capsys, content, words):
    file = tmp_path / "file.pth"
    if content == "truncated":
        torch.save(released_finetuning(), file)
        file.write_bytes(file.read_bytes()[:-3000])
    elif content == "code":
        file.write_bytes(pickle.dumps({"model": Anything()}))
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"file\.pth") as caught:
        read_checkpoint(file)
    assert words in str(caught.value)
    assert "never be printed" not in capsys.readouterr().out


def test_what_does_not_match_is_said(wide):
    run = wide.runs()[1]
    weights = to_vmae(released_finetuning(classes=5), "released", 2)
    report = load_into(Classifier(run), weights | {"neck.weight": torch.zeros(1)})
    assert report.dropped == {"head.weight": "5 classes there, 8 here", "head.bias": "5 classes there, 8 here"}
    assert report.unexpected == ("neck.weight",)
    half = {name: tensor for name, tensor in weights.items() if ".1." not in name}
    with pytest.raises(CheckpointError, match=r"12 missing: encoder\.blocks\.1.*at least 90% must match"):
        load_into(Classifier(run), half)
    other = to_vmae(released_finetuning(width=8), "released", 2)
    with pytest.raises(CheckpointError, match=r"is of another model: .* is \[.*8.*\] there and \[.*16.*\] here"):
        load_into(Classifier(run), other)


def planned(file):
    return ImportedWeights(name="theirs", sha256=file_sha256(file), path=str(file)).model_dump()


def test_a_fine_tuning_starts_from_imported_weights(wide, store, runtime, tmp_path):
    file = tmp_path / "theirs.pth"
    torch.save({"model": released_pretraining()}, file)
    imported = wide.replace({"pretrain": None, "weights": planned(file)})
    result = run_chain(store, imported, runtime, upto="finetune")["finetune"]
    assert "theirs (released, theirs.pth)" in result.metrics["loaded"]
    scratch = run_chain(store, wide.replace({"pretrain": None}), runtime, upto="finetune")["finetune"]
    assert scratch.run_id != result.run_id
    assert scratch.metrics["loss_train_last"] != result.metrics["loss_train_last"]
    torch.save({"model": released_finetuning()}, file)
    with pytest.raises(CheckpointError, match="is another file than planned"):
        run_chain(store, imported.replace({"finetune.seed": 5}), runtime, upto="finetune")


@pytest.mark.parametrize(
    "gone", [["blocks.1.norm1.weight"], ["patch_embed.proj.bias"], ["blocks.0.attn.q_bias", "blocks.0.attn.v_bias"]]
)
def test_an_encoder_with_a_hole_is_refused_whatever_else_fits(wide, tmp_path, gone):
    """Head and norm that fit do not make up for it."""
    run, file = wide.runs()[1], tmp_path / "theirs.pth"
    whole = released_finetuning(classes=8)
    torch.save({"model": whole}, file)
    load_imported(Classifier(run), ImportedWeights(**planned(file)), run.grid)
    torch.save({"model": {name: tensor for name, tensor in whole.items() if name not in gone}}, file)
    with pytest.raises(CheckpointError, match=r"theirs\.pth lacks 1 of the encoder's tensors: encoder\."):
        load_imported(Classifier(run), ImportedWeights(**planned(file)), run.grid)


def test_image_weights_start_a_fine_tuning(wide, store, runtime, tmp_path):
    file = tmp_path / "image.pth"
    torch.save({"model": image_mae()}, file)
    result = run_chain(store, wide.replace({"pretrain": None, "weights": planned(file)}), runtime, upto="finetune")["finetune"]
    assert "theirs (image_mae, image.pth)" in result.metrics["loaded"]


def test_cubes_of_another_size_are_named_with_both(wide, store, runtime, tmp_path):
    file = tmp_path / "theirs.pth"
    torch.save({"model": released_pretraining(tubelet=4)}, file)
    with pytest.raises(CheckpointError, match=r"cubes of 4 frames of 8 px; this run's grid has cubes of 2 frames of 8 px"):
        run_chain(store, wide.replace({"pretrain": None, "weights": planned(file)}), runtime, upto="finetune")


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


@pytest.fixture
def as_released(wide):
    """The same with the positions that other projects' code adds."""
    return wide.replace({"encoder.positions": "sincos_1d", "pretrain.decoder.positions": "sincos_1d"})


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
    decoder = as_released.pretrain.decoder
    their_config(run.grid, run.encoder, decoder, num_labels=8).save_pretrained(tmp_path)
    theirs = with_our_epsilon(VideoMAEForVideoClassification.from_pretrained(tmp_path).double())
    clips = torch.rand(2, 3, run.grid.num_frames, run.grid.size_px, run.grid.size_px, dtype=torch.float64)
    mean, std = (torch.tensor(values).double()[:, None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = theirs.eval()(((clips - mean) / std).transpose(1, 2)).logits
    torch.testing.assert_close(ours(clips), expected, rtol=1e-9, atol=1e-12)


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
