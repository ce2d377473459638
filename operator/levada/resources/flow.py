"""Flow: where the code of a flow is and which function of it to call."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

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
    """A folder or an archive in a bucket. Runs need levada[s3]."""

    bucket: str = Field(
        min_length=3, max_length=63, pattern="^[a-z0-9][-.a-z0-9]*[a-z0-9]$", description="Name of the bucket."
    )
    path: str | None = Field(
        None,
        max_length=1024,
        description="Folder in the bucket; its top when absent. An object that ends in .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz is unpacked.",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", max_length=64, description="Of an archive: another one is not run."
    )
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


_GIT_NAME = r"^[A-Za-z0-9_][^\s~^:?*\[\\]*$"


class GitSource(Model):
    """A state of a Git repository. Runs need the git command."""

    url: str = Field(
        min_length=3,
        max_length=1024,
        pattern=r"^((https?|ssh|file)://[^\s?#]+|[A-Za-z0-9_][-._A-Za-z0-9]*@[-.A-Za-z0-9]+:[^\s]+)$",
        description="https://, http://, ssh:// or file:// URL of the repository, or user@host:path; never with a password in it.",
    )
    branch: str | None = Field(
        None, min_length=1, max_length=255, pattern=_GIT_NAME, description="Its newest commit when a run starts."
    )
    tag: str | None = Field(None, min_length=1, max_length=255, pattern=_GIT_NAME, description="A tag.")
    commit: str | None = Field(
        None, max_length=64, pattern="^[0-9a-f]{40}([0-9a-f]{24})?$", description="The full hash of a commit."
    )
    path: str | None = Field(
        None,
        max_length=1024,
        description="Folder in the repository that the entrypoint starts from; its top when absent.",
    )
    secret_ref: ObjectRef | None = Field(
        None,
        description="Secret in this namespace: username and password, or token; or ssh-privatekey and known_hosts; and perhaps ca.crt.",
    )


class FlowSource(Model):
    """Where the code is: exactly one of inline, configMap, image, s3 and git."""

    # One owner for all of it: who applies another source replaces the one that is there, and does not add to it.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

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
    s3: S3Source | None = Field(None, description="A folder or an archive in a bucket, which each run fetches.")
    git: GitSource | None = Field(None, description="A state of a Git repository, which each run fetches.")


Requirement = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][^\n\r]*$")]
"""A package as pip writes it (PEP 508); an option of pip's command line is none."""


class FlowSpec(Model):
    """What to run."""

    entrypoint: str = Field(
        min_length=6,
        max_length=512,
        description="File and function, as path.py:function. With inline code or a ConfigMap the path is a bare file name.",
    )
    source: FlowSource = Field(description="Where the code is: exactly one of inline, configMap, image, s3 and git.")
    description: str | None = Field(None, max_length=4096, description="What the flow does, for people.")
    version: str | None = Field(None, max_length=128, description="The author's own version of the code, for people.")
    requirements: list[Requirement] | None = Field(
        None,
        max_length=64,
        description="Packages that the flow needs, as pip writes them, for example pandas>=2; installed before the run where they are missing. When this and requirementsFile are absent, the script block (PEP 723) of the entrypoint's file counts; [] asks for nothing.",
    )
    requirements_file: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        pattern="^[^/\\s][^\\n]*$",
        description="A file in the source that lists packages, for example requirements.txt; with inline code there is none.",
    )
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
