"""A machine without containers as a Kubernetes node: runs the pods of flow-run Jobs as local processes.

"On an agent the machine is the image": the pod's image is not looked at, `python` is the agent's own interpreter, and the
working directory is the agent's root folder. The processes run as the agent's own user, without isolation: whoever may
create pods with the run label in this cluster may run programs as that user.
"""
