"""The recipe of the small model: data, tokenizer, training, export and judging."""
