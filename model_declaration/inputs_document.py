"""The document that tells a model's jobs what they read, made of its declaration and the files beside it."""

from __future__ import annotations

from model_declaration.declaration import ModelDeclaration
from model_declaration.declared_models import OUTCOMES_FILE
from model_declaration.project import Project
from prediction_contract.jobs.model_inputs import ModelInputs


def inputs_document(declaration: ModelDeclaration, project: Project) -> tuple[str, bytes]:
    """Return S3 key and content of the document of a model's inputs."""
    return model_inputs(declaration, project).to_document()


def model_inputs(declaration: ModelDeclaration, project: Project) -> ModelInputs:
    """Return what a job must know of a model of a project."""
    training, prepared, elsewhere = declaration.training, declaration.features, declaration.model
    return ModelInputs(
        model=declaration.name,
        functions=project.functions_package(declaration.name),
        sources=tuple(source.as_input(name) for name, source in declaration.sources.items()),
        tables=declaration.tables,
        prepared=None if prepared is None else prepared.source,
        entity=None if prepared is None else prepared.key,
        outcomes=(project.defs / declaration.name / OUTCOMES_FILE).is_file(),
        metrics=tuple(each.as_metric for each in training.metrics) if training else (),
        codecs=tuple(declaration.codecs),
        trained_elsewhere=None if elsewhere is None else elsewhere.as_input,
    )
