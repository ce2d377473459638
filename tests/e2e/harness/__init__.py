"""A single real node for the end-to-end tests: kubelet, kube-proxy, containerd, CoreDNS, and images built from images/.

`prepare` fetches and builds what is missing (it needs the network); `session` runs pytest in namespaces of its own, so
that no process, mount, interface or rule can outlive it; `node` brings the node up in there.
"""
