"""Networks, tokenizers and attention: everything that `transformers` is used through."""
