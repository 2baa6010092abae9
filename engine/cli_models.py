"""Commands on programs and models: try, apply, verify, doctor. `score` has a file of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engine.cli_options import Json, Merge, Param, Seed, numbers
from engine.cli_run import Unsafe

if TYPE_CHECKING:
    from engine.config import SandboxSection
    from merges.plan import Plan
    from merges.provenance import Provenance
    from merges.publishing import Destination
    from sandbox import Limits

MOST_SECONDS = 1e6
MOST_MEMORY_MB = 2**31 - 1
MOST_WORKERS = 256
"""Beyond these a clock, the kernel's limits and the machine's memory are at an end: larger numbers are mistakes."""

Device = Annotated[
    Literal["cpu", "cuda"],
    typer.Option(help="Where the arithmetic is done; programs are isolated less with cuda (sandbox/README.md)."),
]


def try_program(
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM.py", help="A program file (or a library name, an archive id, or RUN#ID).")
    ],
    tensors: Annotated[
        Path | None,
        typer.Option(
            help="Task vectors, keys <model name>/<parameter name>; base/<parameter name> is the seed's. Default: three small random models."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the merged task vectors here (safetensors).")] = None,
    param: Param = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=MOST_SECONDS, help="Wall-clock limit in seconds.")] = 20.0,
    memory_mb: Annotated[int, typer.Option(min=16, max=MOST_MEMORY_MB, help="Memory limit in MiB.")] = 2048,
    device: Device = "cpu",
    unsafe: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Run one program in the sandbox and say what became of it. Exit code 3 where it is the program's fault.

    Example: mergewright try my_merge.py --json
    """
    from engine.config import SandboxSection
    from engine.trying import TrialRun, read_tensors, run_trial
    from sandbox import Sandbox

    source, jobs, parameters = _source(program), read_tensors(tensors), numbers(param)
    limits = _limits(SandboxSection(), timeout, memory_mb)
    with Sandbox(limits, allow_none=unsafe, device=device) as sandbox:
        outcome: TrialRun = run_trial(source, jobs, parameters, sandbox)
    if save is not None and outcome.outputs is not None:
        _save(save, outcome.outputs)
    if as_json:
        print(json.dumps(outcome.facts))
    else:
        _print_trial(outcome.facts)
    if outcome.facts["verdict"] != "ok":
        raise typer.Exit(3)


def apply_command(
    program: Annotated[
        str,
        typer.Argument(
            metavar="PROGRAM",
            help="An archive id (RUN#ID: of that run), a library name (ties), a .py file, or a mergekit recipe (.yml, .yaml).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make; it must not exist.")],
    base: Annotated[str | None, typer.Option(help="The seed model: folder or hub id.")] = None,
    expert: Annotated[
        list[str] | None,
        typer.Option(
            help="An expert: folder or hub id, or a folder with a LoRA adapter (peft). Repeat; the order matters to some programs."
        ),
    ] = None,
    merge: Merge = None,
    param: Param = None,
    seed: Seed = 0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.1, max=MOST_SECONDS, help="Seconds for all tensors. Default: as in the archive, else 20."),
    ] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(
            min=16, max=MOST_MEMORY_MB, help="The program's memory in MiB. Default: as in the archive, else 2048."
        ),
    ] = None,
    max_memory: Annotated[str | None, typer.Option(help="Bound for tensors held at once, as 2GB or 512MB.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=MOST_WORKERS, help="Threads. Default: one a core.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be done, what it needs, and all that stands in the way."),
    ] = False,
    hash_inputs: Annotated[
        bool, typer.Option("--hash-inputs", help="Note hashes of the inputs' whole files in provenance.json.")
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Publish the finished folder as this model repository (log in with `hf auth login`, or set HF_TOKEN). It is made before the merge begins; one that is there already must be empty, so that no merge mixes with another model's files.",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public/--private", help="With --push-to-hub: whether everybody may see it.")
    ] = False,
    device: Device = "cpu",
    unsafe: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Merge experts into a new model folder with a discovered or human-made program.

    Example: mergewright apply ties --base pocket/seed --expert pocket/expert_a --expert pocket/expert_b --out merged
    """
    from merges.apply import apply_plan, refuse
    from merges.cores import usable_cores
    from merges.devices import cuda, fitted
    from merges.target import check_absent
    from sandbox import Sandbox

    origin, limits, plan = _planned(
        program, base, expert or [], merge, numbers(param), seed, _bytes(max_memory), timeout, memory_mb, unsafe
    )
    threads = workers or usable_cores()
    accelerator = cuda() if device == "cuda" else None
    plan = fitted(plan, accelerator) if accelerator is not None else plan
    if dry_run:
        _say_only(plan, out, threads, push_to_hub, public, as_json)
        return
    check_absent(out)
    refuse(plan)
    # a sandbox starts where the program needs it
    sandbox = Sandbox(limits, allow_none=unsafe, device=device, large_tensors=True)
    try:
        push = _destination(push_to_hub, public, make=True)
        record = apply_plan(plan, out, sandbox, workers=threads, hash_inputs=hash_inputs, device=accelerator)
    finally:
        sandbox.close()
    _finish(record, out, origin, push, as_json)


def _say_only(plan: Plan, out: Path, threads: int, repository: str | None, public: bool, as_json: bool) -> None:
    """What `apply --dry-run` prints."""
    from merges.errors import DestinationError, MergeUserError
    from merges.preflight import described, facts

    planned: Destination | DestinationError | None
    try:
        planned = _destination(repository, public, make=False)
    except DestinationError as error:
        planned = error
    found = facts(plan, out, threads, planned)
    print(json.dumps(found) if as_json else "\n".join(described(plan, out, threads, planned)))
    if found["problems"]:
        raise MergeUserError(
            f"{out}: expected a merge that can be done, got the problems above; mend them and try again"
        )


def _finish(record: Provenance, out: Path, origin: str, push: Destination | None, as_json: bool) -> None:
    """Say what was written, and publish it if it was to be."""
    if not as_json:
        merged = sum(tensor.merged for tensor in record.tensors.values())
        print(
            f"wrote {out}: {merged} tensors merged by {origin}, {len(record.tensors) - merged} copied; check it with: mergewright verify {out}"
        )
    url = _pushed(out, push)
    if as_json:
        print(json.dumps({**json.loads(record.to_json()), "pushed_to": url}, indent=2) if url else record.to_json())
    elif url:
        print(f"pushed to {url}")


def _pushed(folder: Path, destination: Destination | None) -> str | None:
    """The address that the folder was published at, if it was to be."""
    if destination is None:
        return None
    from merges.publishing import publish

    return publish(folder, destination)


def _destination(repository: str | None, public: bool, *, make: bool) -> Destination | None:
    """Where the merge is to be published, if anywhere."""
    from engine.errors import UserError
    from merges.publishing import prepare

    if repository is not None:
        return prepare(repository, private=not public, make=make)
    if public:
        raise UserError("--public: expected with --push-to-hub OWNER/NAME, got it alone; name the repository")
    return None


def _planned(
    program: str,
    base: str | None,
    experts: list[str],
    merge: str | None,
    parameters: dict[str, float],
    seed: int,
    max_memory: int | None,
    timeout: float | None,
    memory_mb: int | None,
    unsafe: bool,
) -> tuple[str, Limits, Plan]:
    """What `apply` is to do: its name for people, the limits, and the plan."""
    from engine import locations
    from engine.bench import expert_names
    from engine.config import SandboxSection
    from engine.errors import UserError
    from engine.programs import find_program
    from merges.apply import open_named, plan_merge
    from merges.mergekit import plan_recipe
    from merges.recipes import read_recipe

    if program.endswith((".yaml", ".yml")):
        said = {"--base": base, "--expert": experts, "--merge": merge, "--param": parameters}
        unused = {"--timeout": timeout, "--memory-mb": memory_mb, "--unsafe-no-isolation": unsafe}
        for option in (name for name, value in {**said, **unused}.items() if value):
            why = "which says all of that itself" if option in said else "whose methods need no sandbox"
            raise UserError(f"{option}: expected none with a recipe, {why}, got one; leave it out")
        recipe = read_recipe(Path(program))
        plan = plan_recipe(
            recipe,
            lambda name: open_named(name.model_copy(update={"path": str(locations.model(name.path))})),
            run_seed=seed,
            max_memory_bytes=max_memory,
        )
        return recipe.merge_method, _limits(SandboxSection(), None, None), plan
    if base is None or not experts:
        missing = "--base" if base is None else "--expert"
        raise UserError(f"{missing}: expected a model for program '{program}', got none; name a folder or hub id")
    found = find_program(program, scored_alike=merge is None)
    models = {
        name: locations.model(reference) for name, reference in zip(expert_names(tuple(experts)), experts, strict=True)
    }
    plan = plan_merge(
        found.source,
        base=locations.model(base),
        experts=models,
        selection=merge or found.merge or "all",
        parameters=parameters,
        run_seed=seed,
        max_memory_bytes=max_memory,
    )
    return found.origin, _limits(found.limits, timeout, memory_mb), plan


def _limits(section: SandboxSection, timeout: float | None, memory_mb: int | None) -> Limits:
    """The limits that a program was scored under, where the user gives no others."""
    from dataclasses import replace

    from engine.config import limits_of

    limits = limits_of(section)
    return replace(
        limits,
        wall_seconds=timeout or limits.wall_seconds,
        cpu_seconds=timeout or limits.cpu_seconds,
        memory_bytes=memory_mb * 2**20 if memory_mb else limits.memory_bytes,
    )


def verify(folder: Annotated[Path, typer.Argument(help="A folder written by apply.")]) -> None:
    """Recompute the hashes of a merged model and compare them with its provenance.

    Example: mergewright verify merged
    """
    from engine.errors import HostError
    from merges.provenance import verify_folder

    problems = verify_folder(folder)
    if problems:
        raise HostError(
            f"{folder}: expected the tensors that provenance.json names, got {len(problems)} that differ, first: {problems[0]}; make or fetch it again"
        )
    print(f"{folder}: every tensor is as its provenance says")


def doctor(as_json: Json = False) -> None:
    """What this machine gives: versions, isolation and its missing layers, shipped data, cores.

    Example: mergewright doctor --json
    """
    from engine.doctor import examine

    facts = examine()
    if as_json:
        print(json.dumps(facts))
        return
    layers, facts["missing"] = facts.pop("layers"), len(facts["missing"]) or "none"
    for key, value in facts.items():
        print(f"{key:12s} {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}")
    for name, line in layers.items():
        print(f"  {name:22s} {line}")


def _source(reference: str) -> str:
    from engine.programs import find_program

    return find_program(reference).source


def _bytes(text: str | None) -> int | None:
    """A size as people write it: 2GB, 512MB, 1.5 GiB; decimal units are powers of 1000."""
    from engine.errors import UserError

    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise UserError(f"--max-memory '{text}': expected a size such as 2GB or 512MB, got no such form")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))


def _save(path: Path, outputs: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    from engine.errors import HostError, UserError

    if not path.parent.is_dir():
        raise UserError(
            f"--save '{path}': expected a file in a folder that is there, got no folder '{path.parent}'; make it"
        )
    try:
        save_file(outputs, path)
    except Exception as error:  # safetensors raises its own kind for a full disk; every one of them is the host's
        raise HostError(
            f"'{path}': the merged task vectors could not be written ({error}); give another --save"
        ) from error


def _print_trial(facts: dict[str, Any]) -> None:
    from engine.tables import printable

    where = f", line {facts['line']}" if facts["line"] else ""
    reason = f" ({facts['reason']}{where}): {printable(facts['detail'] or '')}" if facts["reason"] else ""
    print(f"{facts['verdict']}{reason}")
    print(
        f"{1000 * facts['seconds']:.0f} ms, peak {facts['peak_memory_bytes'] / 2**20:.0f} MiB, isolation {facts['isolation']['level']}"
        + (f" (missing: {', '.join(facts['isolation']['missing'])})" if facts["isolation"]["missing"] else "")
    )
