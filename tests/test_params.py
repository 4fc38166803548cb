"""params.yaml is read as numbers and refused in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from dvc.utils.serialize import load_yaml

from stages.shared import params
from stages.shared.datasets import DATASETS
from stages.shared.program import UserError
from stages.tools import recipe

HERE = Path(__file__).parents[1] / "params.yaml"


def edited(folder: Path, old: str, new: str) -> Path:
    text = HERE.read_text()
    assert old in text
    path = folder / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_defaults_are_the_tutorials() -> None:
    train = params.load(HERE).train
    assert train.network == "tutorial"
    assert (train.batch_size, train.epochs) == (64, 1)
    assert (train.learning_rate, train.momentum, train.weight_decay) == (0.1, 0.9, 1e-4)


@pytest.mark.parametrize("text", ["1e-4", "0.0001", "1.0e-4"])
def test_every_spelling_of_a_number_is_that_number(tmp_path: Path, text: str) -> None:
    path = edited(tmp_path, "weight_decay: 0.0001", f"weight_decay: {text}")
    assert params.load(path).train.weight_decay == 1e-4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("learning_rate:", "learning_rte:", "train.learning_rte is not a known key; did you mean"),
        ("plot:", "plott:", "plott is not a known key; did you mean plot?"),
        ("epochs: 1 ", "epochs: 1\n  zzz: 1", "train.zzz is not a known key; known keys: "),
        ("  batch_size: 64            # images per step\n", "", "train.batch_size is missing"),
        ("momentum: 0.9", "momentum: 1.0", "train.momentum is 1.0, expected less than 1"),
        ("learning_rate: 0.1", "learning_rate: -3", "train.learning_rate is -3, expected greater"),
        ("learning_rate: 0.1", "learning_rate: .nan", "train.learning_rate is nan, expected"),
        ("learning_rate: 0.1", "learning_rate: fast", "train.learning_rate is 'fast', expected"),
        ("learning_rate: 0.1", "learning_rate: true", "train.learning_rate is True, expected"),
        ("epochs: 1", "epochs: 1.5", "train.epochs is 1.5, expected"),
        ("epochs: 1", "epochs: true", "train.epochs is True, expected"),
        ("epochs: 1", "epochs: 0", "train.epochs is 0, expected"),
        ("device: cpu", "device: auto", "train.device is 'auto', expected 'cpu' or 'cuda'"),
        ("num_classes: 10", "num_classes: 1000", "decode.num_classes is 1000, expected"),
        (
            "class_names: []",
            "class_names: [a, b]",
            "decode.class_names has 2 names, expected none or 10, as num_classes says",
        ),
        (
            "class_names: []",
            "class_names: [a, b, c, d, e, f, g, h, i, a]",
            "decode.class_names has a twice, expected names that differ",
        ),
        (
            "class_names: []",
            'class_names: ["</script>", b, c, d, e, f, g, h, i, j]',
            "decode.class_names.0 is '</script>', expected 1 to 40 printable letters without <",
        ),
        (
            "class_names: []",
            'class_names: [a, "b\\r", c, d, e, f, g, h, i, j]',
            "decode.class_names.1 is 'b\\r', expected 1 to 40 printable letters without <",
        ),
        ("recipes:", "recipes:\n  slow: 3", "recipes.slow is 3, expected a block of keys"),
        ("recipes:", "recipes:\n  slow:", "recipes.slow is empty, expected a block of keys"),
        (
            "    shift: 0",
            "    1: 0\n    shift: 0",
            "train.augment.1 is not a known key; keys are words",
        ),
        (
            "network: compact\n",
            "netwrk: compact\n",
            "recipes.fast.train.netwrk is not a known key; did you mean network?",
        ),
        ("epochs: 22", "epochs: 0", "recipes.accurate.train.epochs is 0, expected"),
        (
            "recipes:",
            "recipes:\n  slow: {recipes: {}}",
            "recipes.slow.recipes is not a known key; known keys: download, decode",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_value(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(params.ParamsError) as caught:
        params.load(path)
    assert f"{path}: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def bomb(line: str, last: str) -> str:
    """Each of twenty lines means ten of the one before it."""
    lines = [line.format(n=n, of=", ".join([f"*a{n - 1}"] * 10)) for n in range(1, 20)]
    return "\n".join([last, *lines, ""])


# What a person, a merge or an attacker could make of the file. What follows `params.yaml: `.
STRANGE = {
    "a key twice": ("train: 1\ntrain: 2\n", 'not YAML: line 2: found duplicate key "train"'),
    "a key twice, deeper": ("a:\n  b: 1\n  b: 1\n", 'not YAML: line 3: found duplicate key "b"'),
    "no such day": ("a: 2024-02-30\n", "not YAML: day is out of range for month"),
    "no such number": ("a: !!int x\n", "not YAML: invalid literal for int"),
    "a number without end": (f"a: {'9' * 5000}\n", "not YAML: Exceeds the limit"),
    "brackets": ("a: " + "[" * 1000, "not YAML: line 1: more than 20 blocks in each other"),
    "blocks": ("a: " + "{a: " * 1000, "not YAML: line 1: more than 20 blocks in each other"),
    "aliases": (bomb("a{n}: &a{n} [{of}]", "a0: &a0 [x]"), "not YAML: line 2: *a0, expected"),
    "merges": (bomb("a{n}: &a{n} {{<<: [{of}]}}", "a0: &a0 {x: 1}"), "not YAML: line 2: *a0, exp"),
    "code": ("a: !!python/object/apply:os.system [exit]\n", "not YAML: line 1: could not deter"),
    "several": ("a: 1\n---\nb: 2\n", "not YAML: "),
    "a tab": ("train:\n\tepochs: 1\n", "not YAML: line 2: "),
    "no text": (b"\xff\xfe\x00", "not YAML: 'utf-8' codec can't decode"),
    "control": ("a: \x07\n", "not YAML: "),
    "too much": ("a: " + "x" * 1_000_000, "more than 100,000 bytes, expected some hundred lines"),
}


@pytest.mark.parametrize(("content", "said"), STRANGE.values(), ids=STRANGE.keys())
def test_what_is_no_data_is_refused_in_a_line(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(params.ParamsError) as caught:
        params.load(path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["010", "0o10", "1:30", "no", "1e-4", "1_0", ".5", "~", "0x10"])
def test_a_value_is_what_dvc_takes_it_for(tmp_path: Path, value: str) -> None:
    path = edited(tmp_path, "    shift: 0 ", f"    shift: {value} ")
    meant = load_yaml(str(path))["train"]["augment"]["shift"]
    try:
        found = params.load(path).train.augment.shift
    except params.ParamsError:
        assert not isinstance(meant, int | float)
    else:
        assert found == meant


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs: 1 ", f"epochs: {10**30} "),
        ("batch_size: 64", f"batch_size: {2**63}"),
        ("learning_rate: 0.1", "learning_rate: 1e308"),
        ("weight_decay: 0.0001", "weight_decay: .inf"),
        ("    shift: 0 ", "    shift: 1e9 "),
        ("smoothing: 10", "smoothing: 99999999"),
        ("epochs: 22", "epochs: 2200000000"),
    ],
)
def test_no_number_is_beyond_reason(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(params.ParamsError, match=r"expected (less|a finite)"):
        params.load(edited(tmp_path, old, new))


def test_of_many_problems_the_first_are_told_and_cut_short(tmp_path: Path) -> None:
    keys = "".join(f"  key{n}: 1\n" for n in range(5_000))
    with pytest.raises(params.ParamsError) as caught:
        params.load(edited(tmp_path, "train:\n", f"train:\n{keys}"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1].endswith("and 4990 more such problems")
    with pytest.raises(params.ParamsError) as caught:
        params.load(edited(tmp_path, "network: tutorial", f"network: {'x' * 50_000}"))
    assert len(str(caught.value)) < 400


HUGE = f"0x{'f' * 4000}"  # Python does not spell it in decimal
TWICE = "".join(f"\n    - {letter * 40}" for letter in "aabbccddee")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: 1 ", f"epochs: {HUGE} ", "train.epochs is a value too large to show, expected"),
        ("epochs: 1 ", f"epochs: 0o{'7' * 9000} ", "train.epochs is a value too large to show"),
        ("learning_rate: 0.1", f"learning_rate: -{HUGE}", "train.learning_rate is a value too l"),
        ("class_names: []", f"class_names: [{HUGE}]", "decode.class_names.0 is a value too l"),
        ("  batch_size: 64", f"  ? {HUGE}\n  : 1\n  batch_size: 64", "train.<unprintable int"),
        ("class_names: []", f"class_names:{TWICE}", "decode.class_names has aaa"),
        (
            "recipes:",
            f"recipes:\n  ? {'x' * 5000}\n  : {{train: {{epochs: 0}}}}",
            f"recipes.{'x' * 100}....train.epochs is 0, expected",
        ),
        ("recipes:", 'recipes:\n  "a\\n": {train: {epochs: 0}}', r"recipes.'a\n'.train.epochs"),
    ],
)
def test_what_is_too_long_to_repeat_is_cut_short(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(params.ParamsError) as caught:
        params.load(edited(tmp_path, old, new))
    assert f"params.yaml: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 450


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(params.ParamsError, match="cannot be read: Is a directory"):
        params.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [1,", "train: 3"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(params.ParamsError, match=r"params\.yaml: "):
        params.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(params.ParamsError, match="no such file"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "which is not there, expected a file with names of hosts"),
        ("", "in which nothing stands, expected a line for each host"),
        ("# node1\n\n", "in which nothing stands, expected a line for each host"),
        ("node1 slots=2 # this one\n", ""),
    ],
)
def test_a_host_file_that_names_no_host_is_refused_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    train = params.load(HERE).train.model_copy(update={"hosts": "hosts"})
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("hosts").write_text(text)
    train.check_hosts()  # of one worker nobody reads it
    many = train.model_copy(update={"workers": 2})
    if not said:
        many.check_hosts()
        return
    with pytest.raises(params.ParamsError) as caught:
        many.check_hosts()
    assert str(caught.value) == f"params.yaml: train.hosts is 'hosts', {said}"


def test_recipes_are_those_that_make_can_run() -> None:
    makefile = (HERE.parent / "Makefile").read_text()
    targets = re.findall(
        r"^(\w+):.*\n\t@\$\(IN_VENV\) python -m stages.tools.recipe", makefile, re.M
    )
    assert sorted(targets) == sorted(params.load(HERE).recipes)


def test_a_recipe_is_the_line_that_dvc_runs() -> None:
    words = recipe.command(params.load(HERE), "accurate")
    assert words[:5] == ["dvc", "exp", "run", "-n", "accurate"]
    for word in ("train.network=deep", "train.nesterov=true", "train.augment.scale=0.15"):
        assert words[words.index(word) - 1] == "-S"
    with pytest.raises(UserError, match="recipes has no 'slow', expected one of: tutorial, fast"):
        recipe.command(params.load(HERE), "slow")


def test_the_first_recipe_is_the_file_as_it_stands() -> None:
    # But for the seed and where it is computed, which are of a run and not of a recipe.
    everything = params.load(HERE)
    block = everything.train.model_dump(exclude={"seed", "device", "workers", "hosts"})
    assert everything.recipes["tutorial"] == {"train": block}


def test_parameters_are_those_of_a_recipe_or_of_none() -> None:
    everything = params.load(HERE)
    block = everything.train.model_dump()
    fast = {**block, **everything.recipes["fast"]["train"]}
    assert params.recipe_of({**block, "seed": 7}, everything.recipes) == "tutorial"
    assert params.recipe_of({**fast, "seed": 7}, everything.recipes) == "fast"
    # A key that the recipe does not state counts as well.
    assert params.recipe_of({**fast, "momentum": 0.5}, everything.recipes) is None
    assert params.recipe_of({**block, "learning_rate": 0.05}, everything.recipes) is None
    assert params.recipe_of(block, {}) is None


def test_every_data_set_can_be_named() -> None:
    named = params.Download.model_fields["dataset"].annotation
    assert get_args(named) == tuple(DATASETS)


@pytest.mark.slow
def test_every_network_can_be_named() -> None:
    from stages.shared.network.networks import NETWORKS

    assert get_args(params.Train.model_fields["network"].annotation) == tuple(NETWORKS)


@pytest.mark.parametrize(("stage", "batch"), [("train", 64), ("evaluate", 500)])
def test_a_batch_that_a_gpu_cannot_take_is_refused_for_it_alone(
    stage: str, batch: int, tmp_path: Path
) -> None:
    path = edited(tmp_path, f"batch_size: {batch} ", "batch_size: 65536 ")
    params.load(path)
    head, tail = path.read_text().split(f"\n{stage}:\n")
    path.write_text(f"{head}\n{stage}:\n{tail.replace('device: cpu', 'device: cuda', 1)}")
    said = f"{stage}.batch_size is 65536, expected at most 65535 on device cuda"
    with pytest.raises(UserError, match=re.escape(said)):
        params.load(path)
