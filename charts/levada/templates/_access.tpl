{{/* Generated from operator/levada/resources/access.py by `make chart`: change the rights there. */}}

{{- define "levada.rules.operator" -}}
- apiGroups:
  - levada.dev
  resources:
  - flows
  - deployments
  - schedules
  - flowruns
  - workqueues
  - blocks
  - concurrencylimits
  - backfills
  verbs:
  - get
  - list
  - watch
- apiGroups:
  - levada.dev
  resources:
  - flowruns
  verbs:
  - create
  - patch
  - delete
- apiGroups:
  - levada.dev
  resources:
  - flows/status
  - deployments/status
  - schedules/status
  - flowruns/status
  - workqueues/status
  - blocks/status
  - concurrencylimits/status
  - backfills/status
  verbs:
  - get
  - patch
  - update
- apiGroups:
  - batch
  resources:
  - jobs
  verbs:
  - get
  - list
  - watch
  - create
  - patch
  - delete
- apiGroups:
  - ''
  resources:
  - pods
  verbs:
  - get
  - list
  - watch
- apiGroups:
  - ''
  resources:
  - configmaps
  verbs:
  - get
  - list
  - create
  - delete
- apiGroups:
  - ''
  resources:
  - events
  verbs:
  - create
  - patch
{{- end }}

{{- define "levada.rules.cluster" -}}
- apiGroups:
  - ''
  resources:
  - nodes
  verbs:
  - get
- apiGroups:
  - ''
  resources:
  - namespaces
  verbs:
  - get
  - list
  - watch
- apiGroups:
  - apiextensions.k8s.io
  resources:
  - customresourcedefinitions
  verbs:
  - get
  - list
  - watch
{{- end }}

{{- define "levada.rules.leases" -}}
- apiGroups:
  - coordination.k8s.io
  resources:
  - leases
  verbs:
  - get
  - list
  - watch
  - create
  - patch
  - update
{{- end }}

{{- define "levada.rules.runner" -}}
- apiGroups:
  - levada.dev
  resources:
  - flowruns/status
  verbs:
  - patch
- apiGroups:
  - levada.dev
  resources:
  - flowruns
  verbs:
  - get
- apiGroups:
  - levada.dev
  resources:
  - blocks
  verbs:
  - get
- apiGroups:
  - levada.dev
  resources:
  - concurrencylimits
  verbs:
  - get
{{- end }}

{{- define "levada.people" -}}
- name: levada-view
  labels:
    rbac.authorization.k8s.io/aggregate-to-view: 'true'
  rules:
  - apiGroups:
    - levada.dev
    resources:
    - flows
    - deployments
    - schedules
    - flowruns
    - workqueues
    - blocks
    - concurrencylimits
    - backfills
    verbs:
    - get
    - list
    - watch
- name: levada-edit
  labels:
    rbac.authorization.k8s.io/aggregate-to-edit: 'true'
  rules:
  - apiGroups:
    - levada.dev
    resources:
    - flows
    - deployments
    - schedules
    - flowruns
    - backfills
    - blocks
    verbs:
    - create
    - update
    - patch
    - delete
    - deletecollection
- name: levada-admin
  labels:
    rbac.authorization.k8s.io/aggregate-to-admin: 'true'
  rules:
  - apiGroups:
    - levada.dev
    resources:
    - workqueues
    - concurrencylimits
    verbs:
    - create
    - update
    - patch
    - delete
    - deletecollection
- name: levada-start
  labels: {}
  rules:
  - apiGroups:
    - levada.dev
    resources:
    - flowruns
    verbs:
    - create
    - update
    - patch
{{- end }}

{{- define "levada.policy" -}}
- apiVersion: admissionregistration.k8s.io/v1
  kind: ValidatingAdmissionPolicy
  metadata:
    name: levada-run-writes-its-own-status
    labels:
      app.kubernetes.io/managed-by: levada
  spec:
    failurePolicy: Fail
    matchConstraints:
      resourceRules:
      - apiGroups:
        - levada.dev
        apiVersions:
        - v1alpha1
        operations:
        - CREATE
        - UPDATE
        resources:
        - flowruns/status
    matchConditions:
    - name: caller-is-a-pod
      expression: has(request.userInfo.extra) && 'authentication.kubernetes.io/pod-name' in request.userInfo.extra
    - name: caller-is-not-the-operator
      expression: request.userInfo.username != '{{ include "levada.user" . }}'
    variables:
    - name: pod
      expression: request.userInfo.extra['authentication.kubernetes.io/pod-name'][0]
    validations:
    - expression: variables.pod.matches('^' + request.name + '-[0-9]+-[a-z0-9]{5}$')
      messageExpression: '''pod '' + variables.pod + '' may write only the status of its own FlowRun, not of '' + request.name'
      reason: Forbidden
    - expression: request.userInfo.username.startsWith('system:serviceaccount:' + request.namespace + ':')
      messageExpression: '''pod '' + variables.pod + '' may write only the status of a FlowRun in its own namespace, not in '' + request.namespace'
      reason: Forbidden
- apiVersion: admissionregistration.k8s.io/v1
  kind: ValidatingAdmissionPolicyBinding
  metadata:
    name: levada-run-writes-its-own-status
    labels:
      app.kubernetes.io/managed-by: levada
  spec:
    policyName: levada-run-writes-its-own-status
    validationActions:
    - Deny
{{- end }}

{{- define "levada.dashboard.rules.watched" -}}
- apiGroups:
  - levada.dev
  resources:
  - flows
  - deployments
  - schedules
  - flowruns
  - workqueues
  - blocks
  - concurrencylimits
  - backfills
  verbs:
  - get
  - list
  - watch
{{- end }}

{{- define "levada.dashboard.rules.cluster" -}}
- apiGroups:
  - ''
  resources:
  - nodes
  verbs:
  - get
  - list
  - watch
{{- end }}

{{- define "levada.dashboard.rules.leases" -}}
- apiGroups:
  - coordination.k8s.io
  resources:
  - leases
  verbs:
  - list
{{- end }}

{{- define "levada.dashboard.rules.proxy" -}}
- apiGroups:
  - ''
  resources:
  - users
  - groups
  verbs:
  - impersonate
{{- end }}

{{- define "levada.dashboard.rules.anonymous" -}}
- apiGroups:
  - ''
  resources:
  - pods
  - events
  verbs:
  - list
- apiGroups:
  - ''
  resources:
  - pods/log
  verbs:
  - get
{{- end }}
