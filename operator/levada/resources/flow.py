"""Flow: where the code of a flow is and which function of it to call."""

from typing import Any, Literal

from pydantic import Field

from levada.resources.common import Model, ObjectName, ObjectRef, Resource, Status
from levada.resources.names import MAX_INLINE_CODE_CHARS


class ImageSource(Model):
    """Code that the run's container image holds already."""

    path: str = Field(
        min_length=1,
        max_length=1024,
        description="Folder that the entrypoint's path starts from: absolute, or relative to the image's working directory.",
    )


class S3Source(Model):
    """A folder in a bucket. Runs need levada[s3]."""

    bucket: str = Field(
        min_length=3, max_length=63, pattern="^[a-z0-9][-.a-z0-9]*[a-z0-9]$", description="Name of the bucket."
    )
    path: str | None = Field(None, max_length=1024, description="Folder in the bucket; its top when absent.")
    endpoint_url: str | None = Field(
        None,
        max_length=1024,
        pattern="^https?://[^?#]+$",
        description="Address of a service other than AWS, for example http://minio:9000.",
    )
    region: str | None = Field(None, max_length=64, description="Region of the bucket.")
    secret_ref: ObjectRef | None = Field(
        None,
        description="Secret in this namespace whose keys become variables of the run: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY. The pod's own rights count when absent.",
    )


class FlowSource(Model):
    """Where the code is: exactly one of inline, configMap, image and s3."""

    inline: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_INLINE_CODE_CHARS,
        description="The Python file itself. Each version is kept for the runs that began with it.",
    )
    config_map: ObjectRef | None = Field(
        None, description="A ConfigMap in this namespace: its keys are file names, its values the files."
    )
    image: ImageSource | None = Field(None, description="A folder in the image that the Deployment runs.")
    s3: S3Source | None = Field(None, description="A folder in a bucket, which each run fetches.")


class FlowSpec(Model):
    """What to run."""

    entrypoint: str = Field(
        min_length=6,
        max_length=512,
        description="File and function, as path.py:function. With inline code or a ConfigMap the path is a bare file name.",
    )
    source: FlowSource = Field(description="Where the code is: exactly one of inline, configMap, image and s3.")
    description: str | None = Field(None, max_length=4096, description="What the flow does, for people.")
    version: str | None = Field(None, max_length=128, description="The author's own version of the code, for people.")
    parameter_schema: dict[str, Any] | None = Field(
        None, max_length=64, description="JSON Schema of the flow's parameters, for forms and for an early check."
    )


class FlowStatus(Status):
    """Whether the flow can be run; condition Ready says why not."""

    code_config_map: ObjectName | None = Field(
        None, description="ConfigMap that runs started now take the code from; none when the code is in the image."
    )


class Flow(Resource):
    """A flow: Python code and the function of it that a run calls. A Deployment says how to run it."""

    kind: Literal["Flow"] = "Flow"
    spec: FlowSpec = Field(description="What to run.")
    status: FlowStatus = Field(
        default_factory=FlowStatus, description="What the operator found; written by the operator."
    )
