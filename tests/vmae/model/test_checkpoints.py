"""Weights from elsewhere and back: bit-exact, reported, refused where they do not belong."""

import pickle

import pytest
import safetensors.torch
import timm
import torch
from helpers import run_chain
from released import equal, image_mae, released_finetuning, released_pretraining, wrapped
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

from sweeps.scales import WEIGHTS
from vmae.errors import CheckpointError
from vmae.files import file_sha256
from vmae.grid import CubeGrid
from vmae.identity import run_id
from vmae.imported import NORMALISATIONS, ImportedWeights
from vmae.model.autoencoder import VideoMAE
from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD, CubeEmbedding
from vmae.model.classifier import Classifier
from vmae.model.cubes import cut
from vmae.model.formats import from_vmae, to_vmae
from vmae.model.importing import load_imported, load_into, read_checkpoint
from vmae.sizes import DECODERS, ENCODERS


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


def load(run, file):
    return load_imported(Classifier(run), ImportedWeights(**planned(file)), run.grid, run.encoder)


def test_a_fine_tuning_starts_from_imported_weights(as_released, store, runtime, tmp_path):
    file = tmp_path / "theirs.pth"
    torch.save({"model": released_pretraining()}, file)
    imported = as_released.replace({"pretrain": None, "weights": planned(file)})
    result = run_chain(store, imported, runtime, upto="finetune")["finetune"]
    assert "theirs (released, theirs.pth)" in result.metrics["loaded"]
    scratch = run_chain(store, as_released.replace({"pretrain": None}), runtime, upto="finetune")["finetune"]
    assert scratch.run_id != result.run_id
    assert scratch.metrics["loss_train_last"] != result.metrics["loss_train_last"]
    torch.save({"model": released_finetuning()}, file)
    with pytest.raises(CheckpointError, match="is another file than planned"):
        run_chain(store, imported.replace({"finetune.seed": 5}), runtime, upto="finetune")


@pytest.mark.parametrize(
    "gone", [["blocks.1.norm1.weight"], ["patch_embed.proj.bias"], ["blocks.0.attn.q_bias", "blocks.0.attn.v_bias"]]
)
def test_an_encoder_with_a_hole_is_refused_whatever_else_fits(as_released, tmp_path, gone):
    """Head and norm that fit do not make up for it."""
    run, file = as_released.runs()[1], tmp_path / "theirs.pth"
    whole = released_finetuning(classes=8)
    torch.save({"model": whole}, file)
    load(run, file)
    torch.save({"model": {name: tensor for name, tensor in whole.items() if name not in gone}}, file)
    with pytest.raises(CheckpointError, match=r"theirs\.pth lacks 1 of the encoder's tensors: encoder\."):
        load(run, file)


def test_image_weights_start_a_fine_tuning(wide, store, runtime, tmp_path):
    file = tmp_path / "image.pth"
    torch.save({"model": image_mae()}, file)
    result = run_chain(store, wide.replace({"pretrain": None, "weights": planned(file)}), runtime, upto="finetune")["finetune"]
    assert "theirs (image_mae, image.pth)" in result.metrics["loaded"]


@pytest.mark.parametrize("normalisation", ["imagenet", "inception"])
def test_filters_of_pixels_normalised_otherwise_give_what_they_gave(wide, tmp_path, normalisation):
    """The whole way: a still clip's cubes are embedded as the image's patches were by the model that the file is of."""
    run, file, weights = wide.runs()[1], tmp_path / "image.safetensors", image_mae()
    safetensors.torch.save_file(weights, file)
    model = Classifier(run)
    imported = ImportedWeights(**planned(file) | {"normalisation": normalisation})
    lines = load_imported(model, imported, run.grid, run.encoder)
    image = torch.rand(2, 3, 32, 32)
    theirs = (IMAGENET_MEAN, IMAGENET_STD) if normalisation == "imagenet" else ((0.5,) * 3, (0.5,) * 3)
    mean, std = (torch.tensor(values)[:, None, None] for values in theirs)
    filters, bias = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    expected = torch.nn.functional.conv2d((image - mean) / std, filters, bias, stride=8).flatten(2).transpose(1, 2)
    found = model.encoder.embed(cut(image[:, :, None].expand(-1, -1, 16, -1, -1), run.grid))
    torch.testing.assert_close(found, expected.repeat(1, 8, 1), rtol=1e-4, atol=1e-4)
    assert any("'inception'" in line for line in lines) == (normalisation == "inception")


def test_how_pixels_were_normalised_is_identity_only_where_it_is_not_imagenets(wide, tmp_path):
    named = {"name": "theirs", "sha256": "0" * 64, "path": "theirs.pth"}
    before, same, other = (
        run_id(wide.replace({"pretrain": None, "weights": named | more}).runs()[0])
        for more in ({}, {"normalisation": "imagenet"}, {"normalisation": "inception"})
    )
    assert before == same == "478a72ab548803c1"
    assert other != before


def test_the_classifier_of_table_1d_is_taken_as_timm_normalises_for_it():
    for file, normalisation in WEIGHTS.items():
        if (config := timm.get_pretrained_cfg(file.removesuffix(".safetensors"))) is not None:
            assert NORMALISATIONS[normalisation] == (config.mean, config.std)
            return
    pytest.fail("timm knows none of the files")


def test_cubes_of_another_size_are_named_with_both(wide, store, runtime, tmp_path):
    file = tmp_path / "theirs.pth"
    torch.save({"model": released_pretraining(tubelet=4)}, file)
    with pytest.raises(CheckpointError, match=r"cubes of 4 frames of 8 px; this run's grid has cubes of 2 frames of 8 px"):
        run_chain(store, wide.replace({"pretrain": None, "weights": planned(file)}), runtime, upto="finetune")


@pytest.mark.parametrize("kind", ["released", "huggingface"])
@pytest.mark.parametrize("positions", ["sincos_3d", "learned"])
def test_weights_of_other_positions_are_refused(as_released, tmp_path, kind, positions):
    """No file of theirs has its positions, so every weight would match in a model that is not theirs."""
    file = tmp_path / "theirs.pth"
    torch.save(from_vmae(to_vmae(released_pretraining(), "released", 2), kind, 2, 8), file)
    load(as_released.runs()[1], file)
    other = as_released.replace({"encoder.positions": positions}).runs()[1]
    with pytest.raises(CheckpointError, match=rf"{positions}', allowed .*'sincos_1d'; set encoder\.positions=sincos_1d"):
        load(other, file)


def test_learned_positions_of_ours_are_not_dropped_unsaid(as_released, tmp_path):
    learned = as_released.replace({"encoder.positions": "learned"}).runs()[1]
    file = tmp_path / "ours.safetensors"
    safetensors.torch.save_file(Classifier(learned).state_dict(), file)
    load(learned, file)
    with pytest.raises(CheckpointError, match=r"'sincos_1d', allowed .*'learned'; set encoder\.positions=learned"):
        load(as_released.runs()[1], file)


@pytest.mark.parametrize("kind", ["released", "huggingface", "image_mae"])
def test_weights_of_other_heads_are_refused_where_the_size_is_known(as_released, tmp_path, monkeypatch, kind):
    """A matrix of queries, keys and values has the same shape for any number of heads; of 16 wide models none is known."""
    run, file = as_released.runs()[1], tmp_path / "theirs.pth"
    torch.save(
        image_mae() if kind == "image_mae" else from_vmae(to_vmae(released_pretraining(), "released", 2), kind, 2, 8), file
    )
    other = as_released.replace({"encoder.num_heads": 4}).runs()[1]
    load(run, file)
    load(other, file)
    monkeypatch.setitem(ENCODERS, "vit_tiny", run.encoder)
    load(run, file)
    if kind == "image_mae":  # not of the sizes' makers
        load(other, file)
        return
    with pytest.raises(CheckpointError, match=r"encoder\.num_heads = 4, allowed .* 2; set encoder\.num_heads=2"):
        load(other, file)
