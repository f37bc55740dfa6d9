"""Makes a Llama of a few megabytes with random weights. Run by vLLM's own Python: `python tiny_model.py FOLDER`.

Its text is noise, but the same noise on every replica and in every run when it is asked for greedily.
"""

import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WIDTH, LAYERS, HEADS, VOCABULARY = 256, 4, 4, 1500
SPREAD = 0.2
"""Of the weights: wide enough that the next token depends on the ones before, and the text is not one word for ever."""

ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
SPECIAL = ["<pad>", "<s>", "</s>", "<|end|>", "<tool_call>", "</tool_call>", *ROLES]
TEMPLATE = """\
{%- if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content or "" }}
{%- if not (loop.last and continue_final_message) %}<|end|>{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif -%}
"""


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Pieces of bytes, learned from the sources of transformers itself: any text can be written with them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train(sorted(str(file) for file in Path(transformers.__file__).parent.glob("*.py")), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_weights(tokenizer: transformers.PreTrainedTokenizerFast) -> transformers.LlamaForCausalLM:
    torch.manual_seed(20)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=16384,
        initializer_range=SPREAD,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16)


if __name__ == "__main__":
    folder = sys.argv[1]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_weights(tokenizer).save_pretrained(folder)
