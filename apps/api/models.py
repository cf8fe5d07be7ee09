"""`/v1/models`: what can be asked and tuned."""

from fastapi import APIRouter

from apps.api.access import Reader, Trainer
from apps.api.parts import Shared
from apps.shapes.errors import ApiError
from apps.shapes.objects import ModelObject, Page
from finetune.service.model_names import NamedModel, NoSuchModel

ROUTER = APIRouter(prefix="/models", tags=["Models"])


@ROUTER.get("", response_model=Page[ModelObject])
def list_models(parts: Shared, _reader: Reader) -> Page[ModelObject]:
    """Those named when the service was started, finished runs, and what the jobs of the queue left."""
    found = [_as_object(model) for model in parts.names.all()]
    return Page(data=found, first_id=found[0].id if found else None, last_id=found[-1].id if found else None)


@ROUTER.get("/{name:path}", response_model=ModelObject)
def retrieve_model(parts: Shared, _reader: Reader, name: str) -> ModelObject:
    """One model."""
    try:
        return _as_object(parts.names.find(name))
    except NoSuchModel as error:
        raise ApiError(404, str(error), code="model_not_found", param="model") from None


@ROUTER.delete("/{name:path}")
def delete_model(_parts: Shared, _trainer: Trainer, name: str) -> None:
    """Refused: nothing that was trained is removed over the network."""
    raise ApiError(403, f"model {name[:100]!a}: is not removed over the network: remove its folder on the server")


def _as_object(model: NamedModel) -> ModelObject:
    return ModelObject(id=model.name, created=model.created, owned_by=model.owner)
