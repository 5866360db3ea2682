"""`fedagg export`: compile a torch model into the file that a device trains.

torch is imported when the command runs, not when the command line is parsed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.base import LearnerSpec

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `export` to the command line."""
    parser = subparsers.add_parser(
        "export",
        help="compile a model for devices without torch",
        description="Compile a torch model into a .tflite file that a device trains with a TFLite runtime and NumPy, "
        "or into ExecuTorch's .pte. The file takes a step beside torch before it is written.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a model of the zoo, module:function, or an autoencoder's .safetensors file"
    )
    parser.add_argument("--to", choices=("tflite", "executorch"), default="tflite", help="kind of file (tflite)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write")
    parser.add_argument(
        "--sample-shape", nargs="+", type=int, metavar="N", help="of a model: channels and sizes, 3 32 32 or 6 128"
    )
    parser.add_argument("--classes", type=int, metavar="N", help="of a model")
    parser.add_argument("--options", default="{}", metavar="JSON", help="keywords of the model's function")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first weights")
    parser.add_argument("--base-dir", default=".", metavar="DIR", help="where module:function is looked for (.)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the parsed command; return the exit status. Raises FedaggError for what the user can mend."""
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise ConfigError(f"--out {args.out}: expected a file in an existing folder; make {args.out.parent} first")
    began = time.monotonic()
    try:
        result = _codec(args) if args.model.endswith(".safetensors") else _model(args)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError("compiling a model needs torch; run: pip install 'fedagg-edge[export]'") from error
    written = {"path": str(args.out), "bytes": args.out.stat().st_size, "seconds": round(time.monotonic() - began, 2)}
    if args.json:
        sys.stdout.write(json.dumps(written | result) + "\n")
        return 0
    wrote = f"wrote    {written['path']}, {written['bytes']} bytes, in {written['seconds']} s"
    sys.stdout.write(f"{wrote}\nchecked  {_checked(result)}\n")
    return 0


def _model(args: argparse.Namespace) -> dict[str, Any]:
    """Compile a model; return what its check found."""
    options = _options(args.options)
    if args.sample_shape is None or args.classes is None:
        raise ConfigError("a model needs --sample-shape, for example 3 32 32, and --classes")
    from fedagg_edge.learners.torch import seeded_model  # noqa: PLC0415  torch: only when something is compiled

    shape, model = tuple(args.sample_shape), ModelConfig(builder=args.model, options=options)
    module = seeded_model(LearnerSpec(model, shape, args.classes, Hyperparameters(), args.seed, args.base_dir))
    if args.to == "executorch":
        from fedagg_edge.export.executorch import export_executorch  # noqa: PLC0415

        return export_executorch(module, shape, args.classes, args.out).as_json()
    from fedagg_edge.export.tflite import export_tflite  # noqa: PLC0415

    return export_tflite(module, shape, args.classes, args.out).as_json()


def _codec(args: argparse.Namespace) -> dict[str, Any]:
    """Compile an autoencoder's encoder and decoder; return what the check found."""
    if args.to != "tflite":
        raise ConfigError(f"--to {args.to}: an autoencoder becomes a .tflite file only; leave --to out")
    from fedagg_edge.autoencoder.artefact import load  # noqa: PLC0415
    from fedagg_edge.export.codec import export_codec  # noqa: PLC0415  torch

    return {"difference": export_codec(load(args.model), args.out)}


def _checked(result: dict[str, Any]) -> str:
    if "difference" in result:
        return f"embeddings and samples differ from torch's by at most {result['difference']:.0e}"
    return (
        f"one step of {result['rows']} rows against torch with {result['runtime']}: weights differ by at most "
        f"{result['weights']:.0e}, logits by {result['logits']:.0e}"
    )


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--options: got {text!r}, expected a JSON object: {error}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"--options: got {text!r}, expected a JSON object, for example '{{\"hidden\": [32]}}'")
    return options
