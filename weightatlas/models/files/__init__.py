"""Files of weights: what each is, whether it is safe to read, and its tensors."""
