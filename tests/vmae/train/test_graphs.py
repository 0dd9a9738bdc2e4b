"""When a step is taken, recorded and replayed, with stand-ins for CUDA; test_on_gpu.py shows the numbers."""

import math
from contextlib import contextmanager

import pytest
import torch
from helpers import around_update, prepare

from vmae.errors import ConfigError
from vmae.job import work
from vmae.train import graphs
from vmae.train.graphs import WARMUP_STEPS, Recorded


class Stream:
    def __init__(self, name, done):
        self.name, self.done = name, done

    def wait_stream(self, other):
        self.done.append(f"{self.name} waits for {other.name}")


class Cuda:
    """Notes what is done; a graph that is replayed notes the inputs and rates that it would read."""

    def __init__(self, monkeypatch):
        self.done, self.recorded = [], None
        streams = {"Stream": lambda _: Stream("aside", self.done), "current_stream": lambda: Stream("computing", self.done)}
        parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.5, 0.25), strict=True)]
        self.optimizer = torch.optim.AdamW(groups, fused=False)
        self.error = None
        for name, value in {**streams, "CUDAGraph": lambda: self, "graph": self.graph}.items():
            monkeypatch.setattr(graphs.torch.cuda, name, value)
        monkeypatch.setattr(graphs.torch.cuda, "stream", self.nothing)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
        self.recorded = Recorded(self.take, self.optimizer, torch.device("cpu"))

    @contextmanager
    def nothing(self, _):
        yield

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        assert graph is self
        assert capture_error_mode == "thread_local", "another thread pins batches"
        self.done.append("recording")
        if self.error:
            self.optimizer.param_groups[0]["params"][0].grad = torch.ones(1)  # of memory that is the recording's
            raise self.error
        yield

    def take(self, constant, x, nothing):
        rates = [group["lr"] for group in self.optimizer.param_groups]
        on_device = all(isinstance(rate, torch.Tensor) for rate in rates) and self.optimizer.param_groups[0]["capturable"]
        self.done.append(("take", constant, float(x), nothing, on_device, [float(rate) for rate in rates]))
        return x, x

    def replay(self):
        self.done.append(("replay", float(self.recorded._inputs[0]), self.recorded._rates.tolist()))

    def step(self, value, rates=(0.5, 0.25)):
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.done.clear()
        taken = self.recorded("loss", torch.tensor(float(value)), None)
        read = [group["lr"] for group in self.optimizer.param_groups]
        assert read == list(rates)
        assert all(isinstance(rate, float) for rate in read), "schedules read and write numbers"
        assert not any(group["capturable"] for group in self.optimizer.param_groups), "a checkpoint may go on on a CPU"
        return taken


@pytest.fixture
def cuda(monkeypatch):
    return Cuda(monkeypatch)


def test_first_steps_are_taken_one_is_recorded_and_later_ones_read_their_inputs_and_rates(cuda):
    for value in range(WARMUP_STEPS):
        cuda.step(value)
        taken = ("take", "loss", value, None, True, [0.5, 0.25])
        assert cuda.done == ["aside waits for computing", taken, "computing waits for aside"]
    cuda.step(7)
    assert cuda.done == ["recording", ("take", "loss", 7, None, True, [0.5, 0.25]), ("replay", 7, [0.5, 0.25])]
    for value, rates in [(8, (0.125, 0.0625)), (9, (0.5, 1.0))]:
        cuda.step(value, rates)
        assert cuda.done == [("replay", value, list(rates))]


def test_after_an_earlier_state_is_loaded_it_records_anew(cuda):
    for value in range(WARMUP_STEPS + 2):
        cuda.step(value)
    cuda.recorded.forget()
    for value in range(WARMUP_STEPS):
        cuda.step(value)
        assert cuda.done[1][0] == "take"
    cuda.step(3)
    assert cuda.done[0] == "recording"


@pytest.mark.parametrize("kind", [RuntimeError, ConfigError])  # the latter where memory is short, which a step alone may not be
def test_what_cannot_be_recorded_is_taken_step_by_step_and_said_once(cuda, capsys, kind):
    cuda.error = kind("operation not permitted\nwhen stream is capturing")
    for value in range(WARMUP_STEPS):
        cuda.step(value)
    cuda.step(5)
    assert cuda.done == ["recording", ("take", "loss", 5, None, False, [0.5, 0.25])]
    assert cuda.optimizer.param_groups[0]["params"][0].grad is None
    cuda.step(6)
    assert cuda.done == [("take", "loss", 6, None, False, [0.5, 0.25])]
    words = "warning: a step cannot be recorded as a CUDA graph, going on without (operation not permitted)\n"
    assert capsys.readouterr().out == words


@pytest.mark.parametrize("bad_step", [None, 6])
def test_a_training_takes_its_steps_by_the_recording_and_lets_it_go(recipe, store, runtime, monkeypatch, bad_step):
    """At its end, when memory is wanted for judging, and where it goes back to an earlier state."""
    noted = []

    class Noting:
        def __init__(self, training):
            self.training = training

        def __call__(self, loss_of, *inputs):
            noted.append(self.training.progress.step + 1)
            total, norm = self.training._take(loss_of, *inputs)
            return total * (math.nan if noted[-1] == bad_step else 1.0), norm

        def forget(self):
            noted.append("forget")

    def begin(training):
        training._recorded = training._recorded or Noting(training)

    around_update(monkeypatch, before=begin)
    place = prepare(store, recipe.replace({"pretrain.optim.max_left_out": 1}))
    assert work(place, runtime.model_copy(update={"checkpoint_every_s": 1e9})).status == "done"
    assert noted == ([1, 2, 3, 4, 5, 6, "forget", 1, 2, 3, 4, 5, 7, 8] if bad_step else [*range(1, 9)]) + ["forget"]
