"""What is settled before the first step: how a model is trained, where, in which precision, and on which rows."""
