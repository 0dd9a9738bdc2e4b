"""Who may import whom: one list in vmae's docstring, and the floors between the folders; a planted upward import fails."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vmae

ROOT = Path(__file__).parent.parent
ROOMS = ("vmae", "ablations", "slurm", "analysis", "sweeps")
BELOW = {  # what a room may import of the others
    "vmae": set(),
    "ablations": {"vmae"},
    "slurm": {"vmae"},
    "analysis": {"vmae"},
    "sweeps": {"vmae", "ablations", "slurm", "analysis"},
}


def floor_list() -> list[str]:
    """The modules of vmae, lowest first, as its docstring lists them."""
    block = vmae.__doc__.split("list):\n\n")[1].split("\n\n")[0]
    return block.split()


def imports(source: str) -> set[str]:
    """All modules that a source imports, in function bodies too; `from a import b` counts as `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(module: str, source: str) -> list[str]:
    """Imports of `module` (dotted, with its room) that go up or sideways."""
    room, _, inner = module.partition(".")
    order = floor_list()
    bad = []
    for name in imports(source):
        other, _, other_inner = name.partition(".")
        if other not in ROOMS:
            continue
        if other != room:
            if other not in BELOW[room]:
                bad.append(f"{module} imports {name}")
        elif room == "vmae" and other_inner in order and order.index(other_inner) >= order.index(inner):
            bad.append(f"{module} imports {name}, which stands above it")
    return bad


def modules(room: str) -> dict[str, Path]:
    files = (ROOT / room).rglob("*.py")
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
        if not any(part.startswith(".") for part in file.parts)
    }


def test_the_list_names_every_module_of_vmae_once():
    listed = floor_list()
    packages = {"vmae", "vmae.data", "vmae.model", "vmae.train"}
    present = {name.removeprefix("vmae.") for name in modules("vmae") if name not in packages}
    assert len(listed) == len(set(listed))
    assert set(listed) == present


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_goes_up(room):
    bad = [v for name, file in modules(room).items() for v in violations(name, file.read_text())]
    assert not bad


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("vmae.model.cubes", "from slurm import launch"),
        ("vmae.config", "def f():\n    import vmae.study"),
        ("vmae.grid", "from vmae import config"),
        ("analysis.table", "from ablations import mask_ratio_by_sampling"),
        ("slurm.launch", "import sweeps.demo"),
        ("ablations.mask_ratio_by_sampling", "import analysis.report"),
    ],
)
def test_a_planted_upward_import_is_caught(module, planted):
    file = modules(module.partition(".")[0])[module]
    assert violations(module, f"{file.read_text()}\n{planted}\n")


def loads_torch(command: str) -> bool:
    probe = f"import sys\n{command}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip().endswith("True")


@pytest.mark.parametrize(
    "command",
    [
        "import sweeps.__main__, sweeps.demo, sweeps.masking, slurm.launch",
        "import vmae.job, vmae.data.source",
        "import analysis.__main__, analysis.report",
    ],
)
def test_planning_submitting_and_reporting_load_no_torch(command):
    assert not loads_torch(command)


def test_the_torch_probe_can_fail():
    assert loads_torch("import vmae.model.cubes")


def test_the_five_names_resolve_inside_this_checkout():
    probe = f"import importlib.util as u; print([u.find_spec(n).origin for n in {ROOMS!r}])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"{ROOT}/{room}/__init__.py" in done.stdout for room in ROOMS)


def test_files_stay_readable():
    sizes = {name: len(file.read_text().splitlines()) for room in ROOMS for name, file in modules(room).items()}
    assert {name: size for name, size in sizes.items() if size > 320} == {}
