"""From clips to logits: the family as a table, the networks, how convolutions are executed, what they cost."""
