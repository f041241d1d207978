"""Makes the document of a model's inputs, which its jobs read."""

from __future__ import annotations

from model_declaration.declaration import ModelDeclaration
from prediction_contract.jobs.model_inputs import ModelInputs


def inputs_document(declaration: ModelDeclaration) -> tuple[str, bytes]:
    """Return the S3 key and content of the document of a model's inputs."""
    return model_inputs(declaration).to_document()


def model_inputs(declaration: ModelDeclaration) -> ModelInputs:
    """Return a model's inputs from its declaration and the functions in its folder."""
    prepared, elsewhere = declaration.features, declaration.model_file
    return ModelInputs(
        model=declaration.name,
        functions=declaration.functions or "",
        sources=tuple(source.as_input(name) for name, source in declaration.sources.items()),
        tables=declaration.tables,
        prepared=None if prepared is None else prepared.source,
        entity=None if prepared is None else prepared.key,
        outcomes=declaration.has_outcomes,
        whole=declaration.scoring.whole,
        metrics=tuple(each.as_metric for each in declaration.metrics),
        codecs=tuple(declaration.codecs),
        trained_elsewhere=None if elsewhere is None else elsewhere.as_input,
        judging=None if declaration.retraining is None else declaration.retraining.judging,
    )
