"""What a feature fires on, what it promotes, and how people describe it.

`contexts` finds the texts on which a feature is most active, `logit_effects` the tokens that its decoder directions
promote, `feature_kinds` and `language_shares` the kind of text that it responds to, and `annotation` exports and reads
descriptions that people write. Imports `effects` and everything below it.
"""
