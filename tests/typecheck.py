"""The type checker that runs under every annotated function while tests run."""

from beartype import BeartypeConf, beartype

# A whole number is a number, as PEP 484 has it: configurations say `warmup_epochs: 1`.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
