"""The packages hold no call that runs code which it reads: no pickle, no `eval`, no shell, no foreign model code."""

import ast

import pytest

from tests.house.repository import module_files, syntax_tree

PICKLING = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
RUNNING = ("eval", "exec", "os.system", "os.popen", "runpy.run_path", "code.interact")
UNSAFE_YAML = ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all")
SAFE_LOADERS = ("SafeLoader", "CSafeLoader", "BaseLoader")
FORBIDDEN_SETTINGS = {"trust_remote_code": True, "shell": True, "weights_only": False, "allow_pickle": True}


def _dotted(node: ast.expr) -> str:
    """The name of what is called, such as `torch.load`; empty for anything else."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _running(tree: ast.AST) -> list[str]:
    """What in a file runs, or could run, code from outside it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"import {module}" for module in modules if module.split(".")[0] in PICKLING]
        if isinstance(node, ast.Call):
            found += _running_call(node)
    return found


def _running_call(call: ast.Call) -> list[str]:
    name = _dotted(call.func)
    settings = {keyword.arg: keyword.value for keyword in call.keywords}
    found = [name] if name in (*RUNNING, *UNSAFE_YAML) else []
    for setting, forbidden in FORBIDDEN_SETTINGS.items():
        value = settings.get(setting)
        # A value that is only known later could be the forbidden one.
        if value is not None and not (isinstance(value, ast.Constant) and value.value == (not forbidden)):
            found.append(f"{name}({setting}={ast.unparse(value)})")
    if name == "torch.load" and "weights_only" not in settings:
        found.append("torch.load without weights_only=True")
    loader = [*call.args[1:2], *[settings[key] for key in ("Loader",) if key in settings]]
    if name in ("yaml.load", "yaml.load_all") and not any(
        _dotted(one).split(".")[-1] in SAFE_LOADERS for one in loader
    ):
        found.append(f"{name} without a safe loader")
    return found


def test_no_file_of_the_packages_runs_what_it_reads():
    found = {str(file): calls for file in module_files() if (calls := _running(syntax_tree(file)))}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=settings.trust)",
        "subprocess.run(line, shell=True)",
        "numpy.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "os.system(line)",
    ],
)
def test_such_a_call_is_found(line):
    assert len(_running(ast.parse(line))) == 1


@pytest.mark.parametrize(
    "line", ["model.eval()", "yaml.load(text, Loader=yaml.SafeLoader)", "torch.load(path, weights_only=True)"]
)
def test_a_safe_call_is_not(line):
    assert _running(ast.parse(line)) == []
