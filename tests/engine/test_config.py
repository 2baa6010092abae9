"""Campaign files: defaults, settings, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import locations
from engine.config import CampaignConfig
from engine.config_file import build_config, load_config
from engine.errors import ConfigError


def test_defaults_are_the_pocket_campaign_but_for_what_was_found_better() -> None:
    shipped, default = load_config(locations.shipped("campaigns") / "pocket.toml"), CampaignConfig()
    better = {
        "benchmark": {"dev_limit": 600, "block": 200},
        "learn": {"pairs": ("extremes", "failures"), "sft": 10.0, "epochs": 3.0},
    }
    for name in CampaignConfig.model_fields:
        assert getattr(shipped, name) == getattr(default, name).model_copy(update=better.get(name, {}))


def test_template_states_the_defaults() -> None:
    template = load_config(locations.shipped("campaigns") / "template.toml", ["campaign.name=pocket"])
    assert template == CampaignConfig()


@pytest.mark.parametrize(
    "file", sorted(p.name for p in locations.shipped("campaigns").glob("*.toml") if not p.stem.endswith("-study"))
)
def test_every_shipped_campaign_is_valid(file: str) -> None:
    load_config(locations.shipped("campaigns") / file)


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("campaign.seed=7", ("campaign", "seed"), 7),
        ("campaign.iterations=2", ("campaign", "iterations"), 2),
        ("campaign.programs=5", ("campaign", "programs"), 5),
        ("models.base=some/folder", ("models", "base"), "some/folder"),
        ("models.experts=a,b", ("models", "experts"), ("a", "b")),
        ('models.experts=["a", "b", "c"]', ("models", "experts"), ("a", "b", "c")),
        ("generator.kind=grammar", ("generator", "kind"), "grammar"),
        ("benchmark.name=gsm8k", ("benchmark", "name"), "gsm8k"),
        ("learn.method=none", ("learn", "method"), "none"),
    ],
)
def test_set_changes_a_key(setting: str, path: tuple[str, str], value: object) -> None:
    config = build_config({}, [setting])
    assert getattr(getattr(config, path[0]), path[1]) == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("campaign.programms=5", r"campaign\.programms.*expected one of name, seed.*unknown key"),
        ("campaign.programs=many", r"campaign\.programs.*expected a valid integer.*'many'"),
        ("campaign.programs=0", r"campaign\.programs.*greater than or equal to 1.*0"),
        ("generator.kind=oracle", r"generator\.kind.*'model', .*'coefficients' or 'scripted'.*'oracle'"),
        ("models.experts=one", r"models\.experts"),
        ("models.trust_remote_code=true", r"models\.trust_remote_code.*unknown key"),
        ("nonsense", r"--set 'nonsense': expected SECTION\.KEY=VALUE"),
        ("programs=5", r"--set 'programs=5': expected SECTION\.KEY=VALUE"),
        ("nosuch.key=5", r"expected one of campaign, models"),
        ("evaluator.python=x", r"kind 'vllm' with evaluator\.python"),
        ("evaluator.tensor_parallel=2", r"kind 'vllm' with evaluator\.tensor_parallel"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_config({}, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:800O/v1",
        "http://localhost:80000/v1",
        "http://localhost:0/v1",
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "http:localhost:8000/v1",
        "http://:8000/v1",
        "http://[bad",
        "http://local host/v1",
        "http://localhost:8000/v1\n",
    ],
)
def test_what_is_no_web_address_is_refused_before_anybody_is_asked(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"'generator\.base_url': expected a URL with http or https, a host"
    ) as caught:
        build_config({"generator": {"base_url": url}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://api.example.com/v1", "HTTP://[::1]:1", "http://10.0.0.7/a/b?c=d", ""]
)
def test_a_web_address_stays_as_it_was_given(url: str) -> None:
    assert build_config({"generator": {"base_url": url}}).generator.base_url == url


def test_malformed_toml_names_the_file_and_place(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[campaign\nseed = 1\n")
    with pytest.raises(ConfigError, match=r"c\.toml.*expected TOML.*line 1"):
        load_config(file)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable file, got No such file"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("learn", "taught"),
    [
        ({}, 6),
        ({"chosen": 0.1}, 20),
        ({"pairs": ["extremes", "halves"]}, 100),
        ({"method": "kto"}, 100),
        ({"method": "rest-em", "keep": 0.25}, 50),
        ({"method": "self-rewarding", "keep": 0.1, "elite": 30}, 30),
    ],
)
def test_a_race_spares_all_that_a_method_teaches_as_good(learn: dict[str, object], taught: int) -> None:
    assert build_config({"learn": learn}).learn.taught(200) == taught


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"learn": {"pairs": ["extremes", "luck"]}}, r"rules out of extremes, halves, failures \(got luck\)"),
        ({"learn": {"pairs": []}}, r"learn\.pairs"),
        ({"learn": {"keep_as": "adapter", "lora_rank": 0}}, r"lora_rank above 0 with keep_as 'adapter'"),
        ({"learn": {"loss": "magic"}}, r"learn\.loss"),
        ({"learn": {"loss": "exo_pair"}}, r"label_smoothing above 0 with loss 'exo_pair'"),
        ({"learn": {"method": "kto", "batch": 1}}, r"batch of 2 at least with method 'kto'"),
        ({"generator": {"kind": "endpoint", "top_k": 5}}, r"top_k 0 for kind 'endpoint'"),
        ({"generator": {"kind": "coefficients"}, "benchmark": {"racing": "halving"}}, r"racing 'sequential' or 'none'"),
        ({"evaluator": {"python": "x"}}, r"kind 'vllm' with evaluator\.python"),
        ({"judge": {"triage": 0.0}}, r"judge\.triage"),
        ({"explore": {"screen": 0.0}}, r"explore\.screen"),
        ({"explore": {"screen": 0.5}, "generator": {"kind": "coefficients"}}, r"explore\.screen 1, for generator"),
        (
            {"explore": {"screen": 0.5}, "judge": {"triage": 0.5}, "learn": {"method": "self-rewarding"}},
            r"explore\.screen 1 or judge\.triage 1",
        ),
        ({"gate": {"kl": 0.0}}, r"gate\.kl"),
    ],
)
def test_what_learning_cannot_be_is_one_line(tree: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_config(tree)
    assert "\n" not in str(caught.value)


def test_a_generator_in_vllm_may_name_the_evaluators_python() -> None:
    assert build_config({"generator": {"kind": "vllm"}, "evaluator": {"python": "x"}}).evaluator.python == "x"


@pytest.mark.parametrize(("kind", "learns"), [("model", True), ("vllm", True), ("endpoint", False), ("grammar", False)])
def test_only_what_has_weights_here_learns(kind: str, learns: bool) -> None:
    assert build_config({"generator": {"kind": kind}}).learns is learns
    assert not build_config({"generator": {"kind": kind}, "learn": {"method": "none"}}).learns
