"""The registry: batch states, publications, live pointers and model versions, and the rules that change them.

`records` and `version_records` define what is stored. `conditions` and `transaction` define a guarded change.
The rule modules define which changes exist: `manifest_rules`, `load_rules`, `publication_rules` with
`automatic_publication`, `retention_rules`, and `version_rules` with `promotion_conditions`. A rule is a pure
function from records to a `Transaction`; `table` carries it out.
"""
