"""The configuration: every yaml composes, every part swaps, and what is wrong is said at once."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Command
from omegaconf import OmegaConf

from ssl_lab import cli, recipes
from ssl_lab.arguments import override, parse
from ssl_lab.build import check_keywords
from ssl_lab.config import ConfigError, check
from ssl_lab.schemas import SCHEMAS
from ssl_lab.signatures import signature

OPTIONS = recipes.options()
PARTS = ("backbone", "projector", "loss", "views", "optim")
# One option of each part at a time: enough swaps to meet every option once.
SWAPS = [
    {group: option for group, option in zip(PARTS, chosen, strict=True) if option is not None}
    for chosen in itertools.zip_longest(*(OPTIONS[group] for group in PARTS))
]
RECIPES = OPTIONS.get("experiment", [])


def problems_of(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        recipes.compose("train", list(overrides))
    return caught.value.problems


@pytest.mark.parametrize(
    ("group", "option"),
    [(g, o) for g, found in OPTIONS.items() if g not in ("protocol", "experiment", "table") for o in found],
)
def test_every_option_composes(group: str, option: str) -> None:
    taker = {"task": ["method=rotation"], "head": ["method=rotation"], "predictor": ["method=moco_v3"]}
    _, choices = recipes.compose("train", [*taker.get(group, []), f"{group}={option}"])
    assert choices[group] == option


@pytest.mark.parametrize("protocol", OPTIONS["protocol"])
def test_every_protocol_composes(protocol: str) -> None:
    config, _ = recipes.compose("evaluate", ["run=outputs", f"protocol={protocol}"])
    assert list(config["protocols"]) == [protocol]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_what_it_costs(recipe: str) -> None:
    header = (recipes.conf() / "experiment" / f"{recipe}.yaml").read_text().split("\ndefaults:")[0]
    assert f"experiment={recipe}" in header
    assert re.search(r"Cost: ", header)
    assert re.search(r"Measured: |not yet run here", header)


@pytest.mark.parametrize("swaps", SWAPS, ids=lambda swaps: "-".join(swaps.values()))
@pytest.mark.parametrize("recipe", RECIPES)
def test_swapping_the_parts_of_a_recipe_leaves_nothing_of_the_old_ones(recipe: str, swaps: dict[str, str]) -> None:
    overrides = [f"{group}={option}" for group, option in swaps.items()]
    config, choices = recipes.compose("train", [f"experiment={recipe}", *overrides])
    for group, option in swaps.items():
        assert choices[group] == option
        alone = OmegaConf.to_container(OmegaConf.load(recipes.conf() / group / f"{option}.yaml"))
        assert set(config["method"][group]) == set(alone)
        assert config["method"][group]["_target_"] == alone["_target_"]
        written = {key: value for key, value in alone.items() if not re.search(r"\$\{", str(value))}
        assert {key: config["method"][group][key] for key in written} == written


def test_a_recipe_writes_no_value_below_a_part() -> None:
    for recipe in RECIPES:
        body = OmegaConf.load(recipes.conf() / "experiment" / f"{recipe}.yaml")
        assert "method" not in body, f"{recipe} writes below a part that can be swapped; choose an option instead"


def test_all_problems_are_listed_at_once() -> None:
    problems = problems_of("method=simclrr", "backbone=resnet81", "data=cifar01", "sed=1")
    assert len(problems) == 4
    for word, meant in (("simclrr", "simclr"), ("resnet81", "resnet18"), ("cifar01", "cifar10"), ("sed", "seed")):
        assert any(word in problem and meant in problem for problem in problems)


def test_wrong_types_and_values_are_named_with_what_is_allowed() -> None:
    problems = problems_of("seed=one", "trainer.max_epochs=many", "data.store=round", "method.optim.lr=fast")
    text = "\n".join(problems)
    assert len(problems) == 4
    assert "seed='one': must be a whole number" in text
    assert "trainer.max_epochs='many': must be a whole number" in text
    assert "one of crop, square, pad" in text
    assert "method.optim.lr='fast': must be a number" in text


def test_numbers_below_what_can_be_are_refused() -> None:
    words = ["trainer.max_epochs=-1", "trainer.max_steps=0", "trainer.keep_checkpoints=0", "trainer.devices=0"]
    problems = problems_of(*words, "trainer.checkpoint_minutes=-1", "trainer.log_every_n_steps=0")
    assert len(problems) == 6
    assert "trainer.max_epochs=-1: must be a whole number, 1 or more" in problems
    assert "trainer.max_steps=0: must be a whole number, 1 or more or null" in problems
    assert "trainer.checkpoint_minutes=-1: must be a number, 0 or more" in problems
    assert any(problem.startswith("trainer.devices=0: must be") for problem in problems)


def test_a_tilde_stands_for_home_wherever_a_path_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = parse(["run=~/a", "save=~/b.md", "paths.out=~", "name=a~b"]).overrides
    assert words == [f"run={tmp_path}/a", f"save={tmp_path}/b.md", f"paths.out={tmp_path}", "name=a~b"]


def test_help_of_a_page_that_begins_with_another_lists_its_groups() -> None:
    for name in ("worth", "search"):
        assert "\n  backbone " in cli.help_text(name)


def test_what_the_system_says_of_a_file_is_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> None:
        with cli.messages():
            raise PermissionError(number, "Permission denied", "x.md")

    with pytest.raises(SystemExit):
        fails(13)
    assert "error: [Errno 13] Permission denied: 'x.md'" in capsys.readouterr().err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(PermissionError):
        fails(13)


def test_several_sets_are_options_of_data() -> None:
    line = parse(["sets=[digits, photos]", "sets.photos.val_fraction=0.2", "run=x"])
    sets = recipes.compose("evaluate", line.overrides)[0]["sets"]
    assert list(sets) == ["digits", "photos"]
    assert (sets["digits"]["val_fraction"], sets["photos"]["val_fraction"]) == (0.1, 0.2)
    problems = recipes.override_problems("evaluate", parse(["sets=[digts]", "sets.photos.root=x"]).overrides)
    assert "did you mean digits" in problems[0]
    assert "sets.photos.root: no such key" in problems[1]


def test_a_key_that_no_target_takes_is_refused_with_the_near_one() -> None:
    (problem,) = problems_of("+method.loss.temprature=0.1")
    assert "method.loss.temprature" in problem
    assert "temperature" in problem


def test_a_typing_error_inside_a_recipe_file_is_found(tmp_path: Path) -> None:
    config, _ = recipes.compose("train", [])
    config["method"]["loss"]["temprature"] = config["method"]["loss"].pop("temperature")
    assert any("temprature" in problem for problem in check(config, SCHEMAS["train"]))


def test_signatures_read_from_source_agree_with_python() -> None:
    import inspect

    from ssl_lab.methods import SimCLR
    from ssl_lab.optim import OptimRecipe

    ours = signature("ssl_lab.optim.OptimRecipe")
    assert ours is not None
    assert list(ours) == list(inspect.signature(OptimRecipe).parameters)
    inherited = signature("ssl_lab.methods.SimCLR")
    assert inherited is not None
    assert {"projector", "loss", "views", "microbatch", "apart", "backbone", "optim", "preprocessing", "seed"} == set(
        inherited
    )
    assert "parts" in inspect.signature(SimCLR).parameters


@pytest.mark.parametrize(
    "arguments", [("method=simclrr",), ("data.bach_size=3",), ("seed=x",), ("experiment=none_such",), ("seed",)]
)
def test_a_bad_command_exits_2_without_traceback_and_writes_nothing(
    process: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = process("train", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_checking_a_configuration_imports_no_torch() -> None:
    composed = "from ssl_lab import cli, recipes; recipes.compose('train', ['seed=3'])"
    program = f"import sys; {composed}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_help_lists_every_group_and_option(process: Command) -> None:
    text = process("train", "--help").stdout
    for group in (*PARTS, "method", "data", "trainer"):
        assert re.search(rf"^  {group} .*{OPTIONS[group][0]}", text, re.MULTILINE)


def test_a_users_own_recipe_is_found_and_checked(process: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    recipe = "# @package _global_\ndefaults:\n  - override /data: digits\ntrainer:\n  max_epochs: 3\n"
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text(recipe)
    shown = process("train", "--config-dir", "mine", "experiment=ours", "seed=4", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "max_epochs: 3" in shown.stdout
    config, choices = recipes.compose("train", ["experiment=ours"], tmp_path / "mine")
    assert (choices["data"], config["trainer"]["max_epochs"]) == ("digits", 3)
    wrong = process("train", "--config-dir=mine", "experiment=our")
    assert wrong.returncode == 2
    assert "did you mean ours?" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--multirun", "seed=0,1", "projector=mlp2,mlp9"), "mlp9"),
        (("--multirun", "seed=0,1", "method.loss.temprature=1"), "temprature"),
        (("--multirun", "seed=0,1,)"), "seed=0,1,)"),
        (("--cfg", "job", "sed=1"), "sed"),
        (("--mutlirun", "seed=0,1"), "--multirun"),
        (("--config-dir=nowhere",), "nowhere"),
        (("--multirun", "--cfg", "job", "seed=0,1"), "give one of them"),
    ],
)
def test_flags_are_checked_like_everything_else(
    process: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = process("train", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["${oc.env:HOME}/x", "a/${oc.env:HOME}", "'a{0..1}'", '"a{b,c}"'])
def test_interpolations_and_quoted_braces_pass(value: str) -> None:
    assert recipes.override_problems("train", [f"paths.out={value}"]) == []


def test_braces_without_quotes_are_told_how() -> None:
    (problem,) = recipes.override_problems("train", ["paths.out=a{0..1}"])
    assert "'paths.out=\"a{0..1}\"'" in problem


def test_a_sweep_is_checked_value_by_value() -> None:
    line = parse(["-m", "seed=0,1,2", "projector=mlp2,mlp3", "trainer.max_epochs=1"])
    assert line.folder is None
    assert list(line.jobs()) == [
        ["seed=0", "projector=mlp2", "trainer.max_epochs=1"],
        ["seed=1", "projector=mlp3", "trainer.max_epochs=1"],
        ["seed=2", "projector=mlp2", "trainer.max_epochs=1"],
    ]


def test_keywords_of_other_packages_are_checked_all_at_once() -> None:
    config, _ = recipes.compose("train", ["+method.optim.optimizer.momentun=0.9", "+method.optim.optimizer.beta=1"])
    with pytest.raises(ValueError, match="momentun") as caught:
        check_keywords(config)
    problems = str(caught.value).splitlines()
    assert len(problems) == 2
    assert problems[0].startswith(
        "method.optim.optimizer.momentun: torch.optim.SGD takes no such key; did you mean mom"
    )
    config, _ = recipes.compose("train", ["method.backbone._target_=builtins.object"])  # the keys left are ResNet's
    with pytest.raises(ValueError, match=r"depth: builtins\.object takes no such key; there is: nothing"):
        check_keywords(config)


@pytest.mark.parametrize("place", ["my, out (x)", "it's", "plain/a-b=c", "[a]"])
def test_a_path_of_any_signs_is_one_value_for_a_command(place: str) -> None:
    config, _ = recipes.compose("train", [override("paths.out", Path(place)), override("seed", 3)])
    assert (config["paths"]["out"], config["seed"]) == (place, 3)
