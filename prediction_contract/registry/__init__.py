"""The registry: batch states, publications and live pointers, and the rules by which they change.

`records` says what is stored, `conditions` and `transaction` how a change is guarded, and the rule modules
which changes there are: `manifest_rules`, `load_rules`, `publication_rules` with `automatic_publication`,
`retention_rules`, and `version_rules` with `promotion_order`. A rule is a pure function from records to a
`Transaction`; `table` carries it out.
"""
