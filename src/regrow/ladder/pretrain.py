"""Train the ladder's models from random weights. What `regrow ladder build` runs; hours on two CPU cores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from regrow.data.blocks import Blocks, tokenize
from regrow.ladder.assets import ASSETS, file_sha256
from regrow.ladder.recipe import LLAMA, PRETRAINING, QWEN2, SEQUENCE_LENGTH, VOCAB_SIZE, Pretraining, Rung
from regrow.ladder.tokenizer import family_tokenizer


def split_blocks(split: str, assets: Path = ASSETS, *, family: str = LLAMA) -> Blocks:
    """A split of the corpus as packed blocks, tokenised as the models of `family` do."""
    import pandas as pd

    texts = pd.read_parquet(assets / "corpus" / f"{split}.parquet", columns=["text"])["text"]
    return tokenize(texts.tolist(), family_tokenizer(family, assets / "tokenizer"), sequence_length=SEQUENCE_LENGTH)


def pretrain(rung: Rung, out: Path, *, assets: Path = ASSETS, recipe: Pretraining | None = None) -> dict:
    """Train one rung and save it in bf16 with the tokenizer and `training.json`; resumes from its last checkpoint.

    Args:
        rung: the shape and its peak learning rate.
        out: folder for the finished model; checkpoints lie in `<out>.work` until it is done.
        recipe: how it is trained; its family's if None.

    Returns the record that is written as `training.json`: tokens, losses (nats/token) and versions.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, Trainer
    from transformers.trainer_utils import get_last_checkpoint

    recipe = recipe or PRETRAINING[rung.family]
    train, held_out = (split_blocks(split, assets, family=rung.family) for split in ("train", "held_out"))
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(_config(rung))
    work = out.with_name(out.name + ".work")
    trainer = Trainer(
        model=model,
        args=_arguments(rung, recipe, work),
        train_dataset=_as_dataset(train),  # type: ignore[arg-type]
        eval_dataset=_as_dataset(held_out, limit=256),  # type: ignore[arg-type]
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)) if work.is_dir() else None)
    final = trainer.evaluate()
    model.config.use_cache = True  # Trainer turns it off
    model.to(torch.bfloat16).save_pretrained(str(out))
    family_tokenizer(rung.family, assets / "tokenizer").save_pretrained(str(out))
    shutil.rmtree(work)
    record = {
        "family": rung.family,
        "rung": rung.name,
        "params": sum(p.numel() for p in model.parameters()),
        "train_tokens": recipe.steps * recipe.batch_blocks * SEQUENCE_LENGTH,
        "unique_train_tokens": train.n_tokens,
        "held_out_loss": round(final["eval_loss"], 4),
        "peak_lr": rung.peak_lr,
        "data_fingerprint": train.fingerprint,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights_sha256": file_sha256(out / "model.safetensors"),
        "log": [entry for entry in trainer.state.log_history if "eval_loss" in entry or "loss" in entry],
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def _config(rung: Rung) -> Any:
    """The transformers config of a rung."""
    from transformers import LlamaConfig, Qwen2Config

    return {LLAMA: LlamaConfig, QWEN2: Qwen2Config}[rung.family](
        vocab_size=VOCAB_SIZE,
        hidden_size=rung.hidden,
        num_hidden_layers=rung.layers,
        num_attention_heads=rung.heads,
        num_key_value_heads=rung.kv_heads,
        head_dim=rung.head_dim,
        intermediate_size=rung.intermediate,
        max_position_embeddings=SEQUENCE_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def _arguments(rung: Rung, recipe: Pretraining, work: Path) -> Any:
    """How Trainer trains a rung by a recipe, with its checkpoints in the folder `work`."""
    import torch
    from transformers import TrainingArguments

    from regrow.models.precision import has_fast_bf16

    return TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps,
        per_device_train_batch_size=min(recipe.batch_blocks, 16),
        gradient_accumulation_steps=max(1, recipe.batch_blocks // 16),
        per_device_eval_batch_size=16,
        learning_rate=rung.peak_lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(recipe.warmup_share * recipe.steps),
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.betas[0],
        adam_beta2=recipe.betas[1],
        max_grad_norm=recipe.max_grad_norm,
        bf16=has_fast_bf16("cuda" if torch.cuda.is_available() else "cpu"),
        use_cpu=not torch.cuda.is_available(),
        torch_compile=True,
        eval_strategy="steps",
        eval_steps=max(1, recipe.steps // 10),
        save_steps=max(1, recipe.steps // 20),
        save_total_limit=1,
        logging_steps=max(1, recipe.steps // 40),
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to=[],
        disable_tqdm=True,
    )


def _as_dataset(blocks: Blocks, limit: int | None = None) -> list[dict[str, list[int]]]:
    rows = blocks.tokens[:limit].tolist()
    return [{"input_ids": row, "labels": row} for row in rows]
