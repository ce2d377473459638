"""The kinds that Levada reads and writes, as the API server addresses them. Standard library only."""

from typing import Final, NamedTuple

from levada.resources.names import GROUP, VERSION


class Kind(NamedTuple):
    """One resource of the Kubernetes API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_name: str = ""

    @property
    def api_version(self) -> str:
        """As an object's `apiVersion` spells it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The path under which the group's resources live."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of its subresource.

        Without a namespace, the collection of a namespaced kind is that of all namespaces.
        """
        scope = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        tail = (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")
        return f"{self.prefix}{scope}/{self.plural}{tail}"


FLOWS: Final = Kind(GROUP, VERSION, "flows", "Flow")
DEPLOYMENTS: Final = Kind(GROUP, VERSION, "deployments", "Deployment", short_name="fdep")
SCHEDULES: Final = Kind(GROUP, VERSION, "schedules", "Schedule", short_name="fsched")
FLOW_RUNS: Final = Kind(GROUP, VERSION, "flowruns", "FlowRun", short_name="fr")
WORK_QUEUES: Final = Kind(GROUP, VERSION, "workqueues", "WorkQueue", short_name="wq")
BLOCKS: Final = Kind(GROUP, VERSION, "blocks", "Block")
CONCURRENCY_LIMITS: Final = Kind(GROUP, VERSION, "concurrencylimits", "ConcurrencyLimit", short_name="climit")
BACKFILLS: Final = Kind(GROUP, VERSION, "backfills", "Backfill", short_name="bf")
LEVADA_KINDS: Final = (FLOWS, DEPLOYMENTS, SCHEDULES, FLOW_RUNS, WORK_QUEUES, BLOCKS, CONCURRENCY_LIMITS, BACKFILLS)

JOBS: Final = Kind("batch", "v1", "jobs", "Job")
PODS: Final = Kind("", "v1", "pods", "Pod")
EVENTS: Final = Kind("", "v1", "events", "Event")
NODES: Final = Kind("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS: Final = Kind("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount")
ROLES: Final = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS: Final = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES: Final = Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Kind(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
CUSTOM_RESOURCE_DEFINITIONS: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
