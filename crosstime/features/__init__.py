"""What a feature fires on, what it promotes, and what people call it.

`contexts` finds the texts on which a feature is most active, `logit_lens` the tokens that its decoder directions
promote, `feature_kinds` what it responds to, and `annotation` exports and reads descriptions that people write.
Imports `effects` and everything below it.
"""
