"""What a GPU would be given, seen without one: fake tensors that know their device, and CUDA's calls written down."""

from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from helpers import noise, prepare
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vmae.data import views
from vmae.data.clips import ClipBatch, moved
from vmae.job import work
from vmae.model.autoencoder import VideoMAE
from vmae.model.classifier import Classifier
from vmae.runtime import RuntimeConfig
from vmae.train import distributed, pretrain
from vmae.train.dropping import Dropping
from vmae.train.mixing import Mixer
from vmae.train.setup import autocast
from vmae.train.training import Training

CUDA = torch.device("cuda", 0)
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11),
    reason="fake tensors of PyTorch 2.6 to 2.9 want a driver",
)


class Copies(TorchDispatchMode):
    """Notes of each copy from one device to another whether it waits."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = kwargs or {}
        if func is torch.ops.aten._to_copy.default and given.get("device") not in (None, args[0].device):
            self.waits.append(not given.get("non_blocking", False))
        return func(*args, **given)


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Fake tensors, on which reading a value is an error as it would be a wait on a GPU, and bf16 as a GPU has it."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
    with FakeTensorMode():
        yield


def on_cuda(model):
    """The model with fake weights on a GPU; Module.to would want to swap real ones for fake ones."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(torch.empty(parameter.shape, device=CUDA))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)
    return model


@pytest.mark.parametrize(
    "given",
    [
        {"target": "normalised"},
        {"target": "raw", "loss": "smooth_l1"},
        {"target": "normalised_pooled", "loss_region": "all"},
        {"target_frames": "centre"},
        {"mask.kind": "block"},
        {"decoder_mask.kind": "running_cell"},
        {"decoder.positions": "learned"},
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sharing", [None, True])
def test_a_loss_is_on_the_device_in_fp32_and_nothing_waits_for_it(recipe, request, given, precision, sharing):
    run = recipe.replace({f"pretrain.{key}": value for key, value in given.items()}).runs()[0]
    model, (clips, hidden) = VideoMAE(run), noise(run)
    model.decoder.blocks[0].sharing = sharing
    request.getfixturevalue("as_on_gpu")
    clips, hidden = (torch.empty(x.shape, dtype=x.dtype, device=CUDA) for x in (clips, hidden))
    kept = None if run.masked.decoder_mask.kind == "none" else hidden
    with Copies() as copies, autocast(precision, CUDA):
        loss = on_cuda(model)(clips, hidden, kept)
    assert (loss.device, loss.dtype) == (CUDA, torch.float32)
    assert not copies.waits


@pytest.mark.parametrize("given", [{}, {"mix.mixup": 0.8, "mix.cutmix": 1.0}, {"drop_path_rate": 0.1, "head_dropout": 0.5}])
def test_a_fine_tuning_step_waits_for_nothing(recipe, request, given):
    run = recipe.replace({f"finetune.{key}": value for key, value in given.items()}).runs()[1]
    model, grid = Classifier(run), run.grid
    request.getfixturevalue("as_on_gpu")
    clips = torch.empty(4, 3, grid.num_frames, grid.size_px, grid.size_px, device=CUDA)
    with Copies() as copies, autocast("bf16", CUDA):
        mixed, wanted = Mixer(run.finetune.mix, 8, 0.1, 0)(clips, torch.empty(4, dtype=torch.long, device=CUDA), 0)
        dropped = Dropping(run, 4)(0, range(4), CUDA)
        logits = on_cuda(model)(mixed, dropped.paths, dropped.features)
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted)
    assert loss.device == CUDA
    assert not any(copies.waits)
    assert len(copies.waits) == 2 * ("drop_path_rate" in given)


@pytest.mark.usefixtures("as_on_gpu")
def test_all_of_a_batch_crosses_without_waiting():
    clips, flags = torch.empty(2, 3, 4, 8, 8, dtype=torch.uint8), torch.empty(2, 16, dtype=torch.bool)
    with Copies() as copies:
        train = ClipBatch(clips, flags, flags, torch.empty(2, dtype=torch.long), 1).to(CUDA)
        test = views.TestBatch([0, 1], clips, [], []).to(CUDA)
    assert copies.waits == [False] * 5
    assert {x.device for x in [*train.tensors(), *test.tensors()]} == {CUDA}
    assert (len(train.tensors()), train.num_replaced, test.videos) == (4, 1, [0, 1])


class Stream:
    """A stream that writes down what it is to wait for."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


def test_batches_cross_on_a_stream_of_their_own(monkeypatch):
    """A batch is copied while the one before is computed; what is computed waits for its copy, and its memory for that."""
    log, current = [], []
    computing, copying = Stream("computing", log), Stream("copying", log)
    current.append(computing)

    @contextmanager
    def on(stream):
        current.append(stream)
        yield
        current.pop()

    class Noted:
        def record_stream(self, stream):
            log.append(f"memory is kept for {stream.name}")

    class Batch:
        def to(self, device):
            log.append(f"copied on {current[-1].name}")
            return self

        def tensors(self):
            return [Noted()]

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    for _ in moved([Batch()] * 2, CUDA):
        log.append("computed")
    assert log == ["copied on copying", "computing waits for copying", "memory is kept for computing", "computed"] * 2


@pytest.fixture
def joined(monkeypatch):
    """What `world` asks of CUDA and of torch.distributed."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(f"on {device}"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(f"peak of {device}"))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: asked.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(distributed, "_meet", lambda *_: None)
    return asked


def test_each_run_of_a_chain_has_its_own_memory_peak(joined):
    for _ in range(2):
        with distributed.world(RuntimeConfig(device="cuda"), (0, 1, 0)):
            pass
    assert joined == ["on cuda:0", "peak of cuda:0"] * 2


def test_ranks_on_gpus_ask_each_other_over_their_cpus(joined, monkeypatch, tmp_path):
    """After every step, so it must not wait for the GPU; gradients go over the GPUs."""
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.mul_(2))
    with distributed.world(RuntimeConfig(device="cuda"), (1, 2, 1), tmp_path / "rendezvous") as ranks:
        assert ranks.device == torch.device("cuda", 1)
        assert ranks.any(True, False) == [True, False]
        assert ranks.mean([0.5, 3.0]) == [0.5, 3.0]
    assert joined == ["on cuda:1", "peak of cuda:1", "cpu:gloo,cuda:nccl"]


def test_the_memory_peak_is_of_training_not_of_judging(recipe, store, runtime, monkeypatch):
    peak_gb, judge = {"so far": 1.0}, pretrain.judge

    def judging(*given):
        peak_gb["so far"] = 2.0
        return judge(*given)

    monkeypatch.setattr(pretrain, "judge", judging)
    monkeypatch.setattr(Training, "_memory", lambda _: {"peak_memory_gb": peak_gb["so far"]})
    assert work(prepare(store, recipe), runtime).compute["peak_memory_gb"] == 1.0
    assert peak_gb["so far"] == 2.0
