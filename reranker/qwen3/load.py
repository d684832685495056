"""A folder or hub id to a reranker that runs: tokenizer, weights, attention, queue, and a check.

The one place that decides about devices. On a machine without a GPU it refuses, with the reason,
unless asked for: 100 passages of 128 tokens are 12 TFLOP with the smallest model, half a minute and
more on two cores.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from longleaf.core.errors import ConfigError, ModelUnavailable
from longleaf.reranker.hub import is_whole, model_folder
from longleaf.reranker.qwen3.plan import Limits

if TYPE_CHECKING:
    from longleaf.reranker.qwen3.engine import Engine
    from longleaf.reranker.qwen3.graphs import Buckets
    from longleaf.reranker.qwen3.reader import (
        Qwen3Reranker,
        StoredIds,
        TextScorer,
        WindowScore,
    )
    from longleaf.reranker.qwen3.template import Template

_log = structlog.get_logger(__name__)

SETTING = "reranker.model"
NATIVE_TOKENS = 32_768
MOST_TOKENS = 40_960
_GPU_PATIENCE_SECONDS, _CPU_PATIENCE_SECONDS = 3.0, 0.5


@dataclass(frozen=True, slots=True)
class Qwen3Options:
    """`max_pair_tokens`: prefix, document and suffix together. `device`: "" takes the GPU.

    `deterministic`: a document's score does not depend on the batch it is in (`_limits`).
    """

    model: str
    device: str = ""
    dtype: str = "auto"
    allow_cpu: bool = False
    max_pair_tokens: int = NATIVE_TOKENS
    batch_tokens: int = 16_384
    waiting_tokens: int = 4_000_000
    deterministic: bool = False
    window_score: WindowScore = "best"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A reranker, and what was chosen for it in words (shown by /readyz and `longleaf doctor`)."""

    reranker: Qwen3Reranker
    scorer: TextScorer
    engine: Engine
    reason: str

    def close(self) -> None:
        """End the queue and let go of the device."""
        self.engine.close()


def open_qwen3(
    options: Qwen3Options,
    *,
    stored: StoredIds | None = None,
    first_stage_weight: float = 0.0,
    instruction: str | None = None,
    check: bool = True,
) -> Loaded:
    """Raises ModelUnavailable (weights, device, or a check that fails) and ConfigError."""
    import torch

    from longleaf.reranker.qwen3.attention import choose_attention
    from longleaf.reranker.qwen3.attention_rows import choose_row_attention
    from longleaf.reranker.qwen3.check import require_sense
    from longleaf.reranker.qwen3.engine import Engine
    from longleaf.reranker.qwen3.fit import fit
    from longleaf.reranker.qwen3.graphs import GraphedScorer
    from longleaf.reranker.qwen3.kernels import choose_operations
    from longleaf.reranker.qwen3.model import Qwen3Scorer
    from longleaf.reranker.qwen3.reader import Qwen3Reranker, TextScorer
    from longleaf.reranker.qwen3.weights import load_weights

    _check_length(options.max_pair_tokens)
    device = _device(options)
    folder = model_folder(options.model, SETTING)
    template = open_template(folder, options.max_pair_tokens)
    dtype = _dtype(options.dtype, device)
    weights = load_weights(
        folder, template.yes_id, template.no_id, dtype=getattr(torch, dtype), device=device
    )
    if options.max_pair_tokens > weights.shape.max_positions:
        raise ConfigError(
            f"The model has {weights.shape.max_positions:,} positions; reranker.max_pair_tokens is "
            f"{options.max_pair_tokens:,}.",
            f"Set it to {weights.shape.max_positions:,} or less.",
        )
    if template.vocabulary > weights.shape.vocabulary:
        raise ModelUnavailable(
            f"{folder} has a tokenizer of {template.vocabulary:,} tokens and weights for "
            f"{weights.shape.vocabulary:,}: they do not belong together.",
            f"Set {SETTING} to a whole Qwen3-Reranker folder.",
        )
    attention = choose_attention(device, dtype)
    operations = choose_operations(device)
    rows, rows_reason = choose_row_attention(
        device, dtype, (weights.shape.heads, weights.shape.kv_heads, weights.shape.head_dim)
    )
    model = GraphedScorer(
        Qwen3Scorer(weights, attention, operations, rows), deterministic=options.deterministic
    )
    try:
        fitted = fit(
            model,
            _limits(options, device, model.buckets),
            patience_seconds=_CPU_PATIENCE_SECONDS if device == "cpu" else _GPU_PATIENCE_SECONDS,
        )
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable(
            f"{folder.name} is in the GPU's memory, but beside it there is no room to read.",
            f"Set {SETTING} to a smaller Qwen3-Reranker, or free the GPU.",
        ) from error
    except RuntimeError as error:
        raise ModelUnavailable(
            f"{folder.name} does not run on {device}: {error}",
            "Set reranker.kind to late, or read on another device.",
        ) from error
    engine = Engine(
        model,
        fitted.limits,
        fitted.cost,
        waiting_tokens=options.waiting_tokens,
        matmul_flops_per_second=fitted.matmul_flops_per_second,
    )
    scorer = TextScorer(template, engine, options.window_score)
    try:
        if check:
            require_sense(scorer, options.model)
    except BaseException:
        engine.close()
        raise
    reranker = Qwen3Reranker(
        scorer,
        f"qwen3/1 {_identity(folder)} {dtype}",
        stored=stored,
        first_stage_weight=first_stage_weight,
        default_instruction=instruction,
    )
    reason = (
        f"qwen3: {folder.name} in {dtype} on {device}; attention: {attention.reason}; "
        f"of packed passages: {rows_reason}; row-wise steps: {operations.name}; {model.reason}"
    )
    return Loaded(reranker, scorer, engine, reason)


def open_template(folder: Path, max_pair_tokens: int = NATIVE_TOKENS) -> Template:
    """The form of the model in `folder`, without its weights. Raises ModelUnavailable."""
    from tokenizers import Tokenizer

    from longleaf.reranker.qwen3.template import Template

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing finer
        raise ModelUnavailable(
            f"{folder} has no tokenizer.json that can be read: {error}.",
            f"Set {SETTING} to a whole Qwen3-Reranker folder.",
        ) from error
    return Template(tokenizer, max_pair_tokens)


def _limits(options: Qwen3Options, device: str, buckets: Buckets) -> Limits:
    """`deterministic`: batches that are all padded to one size; on the CPU, which pads nothing, a
    document at a time."""
    if not options.deterministic:
        return Limits(batch_tokens=options.batch_tokens)
    if device == "cpu":
        return Limits(batch_tokens=options.batch_tokens, batch_items=1)
    plain = Limits()
    return Limits(
        batch_tokens=min(options.batch_tokens, buckets.fixed_rows),
        batch_items=buckets.sequences[-1] // 2,  # each may bring a prefix of its own
        # Behind a longer prefix a text may have more keys than any padded batch.
        alone_prefix_tokens=buckets.longest[-1] - plain.alone_tokens,
    )


def sees_gpu() -> bool:
    """Whether torch could read on a GPU."""
    import torch

    return torch.cuda.is_available()


def why_not_here(model: str) -> str:
    """Why a model's weights cannot be read without the network; "" where they can."""
    try:
        folder = model_folder(model, SETTING, local_only=True)
    except ModelUnavailable:
        return f"{model} is not on this machine; longleaf models pull {model}"
    return "" if is_whole(folder) else f"{folder} lacks files; longleaf models pull {model}"


def _check_length(max_pair_tokens: int) -> None:
    if not 512 <= max_pair_tokens <= MOST_TOKENS:
        raise ConfigError(
            f"reranker.max_pair_tokens is {max_pair_tokens:,}.", f"Use 512 to {MOST_TOKENS:,}."
        )
    if max_pair_tokens > NATIVE_TOKENS:
        _log.warning(
            "qwen3.beyond_native_length",
            max_pair_tokens=max_pair_tokens,
            reason=f"the model was made for {NATIVE_TOKENS:,} tokens a pair",
        )


def _device(options: Qwen3Options) -> str:
    device = options.device or ("cuda" if sees_gpu() else "cpu")
    if device == "cpu" and not options.allow_cpu:
        raise ModelUnavailable(
            "Qwen3-Reranker needs a GPU, and torch sees none: on a CPU 100 passages take half a "
            "minute and more.",
            "Set reranker.kind to late, or reranker.allow_cpu to true if you mean it.",
        )
    return device


def _dtype(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    return "float32" if device == "cpu" else "bfloat16"


def _identity(folder: Path) -> str:
    """Changes when the model's files do (name, size, time): a fingerprint, not a proof."""
    hashed = hashlib.sha256()
    others = [folder / "config.json", folder / "tokenizer.json"]
    for file in [*sorted(folder.glob("*.safetensors")), *others]:
        status = file.stat()
        hashed.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{folder.name}@{hashed.hexdigest()[:16]}"
