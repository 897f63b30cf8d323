"""The variational recurrent network: what it is built of, the law of a step, and a bound on the likelihood."""
