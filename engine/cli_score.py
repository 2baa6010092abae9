"""The command `score`: one model, or two, on a benchmark."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from engine.cli_options import Json


def score_command(
    model: Annotated[str, typer.Argument(help="A model: folder or hub id.")],
    benchmark: Annotated[str, typer.Option(help="gsm8k, math, pocket, or jsonl (with --data).")] = "pocket",
    data: Annotated[
        str | None, typer.Option(help="A JSONL file or folder; without it gsm8k and math come from the hub.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="dev, test, both (with the gap), or fresh:SEED (pocket: 200 new problems); several between commas are one set."
        ),
    ] = "dev",
    splits: Annotated[
        Literal["clean", "paper"],
        typer.Option(help="clean: dev from the train problems; paper: both cut from the test problems."),
    ] = "clean",
    checker: Annotated[
        Literal["number", "math", "exact", "choice"] | None, typer.Option(help="jsonl: how answers are judged.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Another model, asked the same: paired difference.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many problems.")] = None,
    shots: Annotated[int | None, typer.Option(help="Worked examples in the prompt; default 5, pocket 0.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    evaluator: Annotated[Literal["transformers", "vllm"], typer.Option(help="What answers.")] = "transformers",
    python: Annotated[str | None, typer.Option(help="Python of the environment that has vLLM.")] = None,
    memory: Annotated[float | None, typer.Option(help="vLLM: share of each GPU, or GiB of cache on a CPU.")] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="vLLM: devices that share the model.")] = 1,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the resident weights.")
    ] = "float32",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it is scored.")] = "cpu",
    batch: Annotated[int | None, typer.Option(min=1, help="Prompts decoded together.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: all cores.")] = 0,
    as_json: Json = False,
) -> None:
    """Score a model, with its 95 % interval; with --against, paired with another on the same problems.

    Example: mergewright score pocket/expert_a --against pocket/seed --benchmark pocket --split test
    """
    from engine import tables
    from engine.scoring import ScoreRequest, score_folder, sections

    models, answering = sections(
        {"dtype": dtype, "device": device, "threads": threads},
        {"kind": evaluator, "python": python, "memory": memory, "tensor_parallel": tensor_parallel},
    )
    request = ScoreRequest(
        benchmark=benchmark,
        split=split,
        data=data,
        splits=splits,
        checker=checker,
        shots=shots,
        chat=chat,
        max_new_tokens=max_new_tokens,
        limit=limit,
        models=models,
        evaluator=answering,
        batch=batch,
    )
    facts = score_folder(model, request, against=against)
    print(json.dumps(facts) if as_json else tables.score_text(facts))
