{{/* What selects the operator's pods. */}}
{{- define "levada.selector" -}}
app.kubernetes.io/name: levada
app.kubernetes.io/instance: {{ .Values.fullname }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "levada.labels" -}}
{{ include "levada.selector" . }}
{{ include "levada.origin" . }}
{{- end }}

{{/* What selects the dashboard's pods, and none of the operator's. */}}
{{- define "levada.dashboard.selector" -}}
app.kubernetes.io/name: levada-dashboard
app.kubernetes.io/instance: {{ .Values.dashboard.fullname }}
{{- end }}

{{- define "levada.dashboard.labels" -}}
{{ include "levada.dashboard.selector" . }}
{{ include "levada.origin" . }}
{{- end }}

{{/* The labels that say who installed it. */}}
{{- define "levada.origin" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "levada.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The operator, as a user of the API. */}}
{{- define "levada.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.serviceAccount.name }}
{{- end }}

{{/* The operator, as the subject of a binding. */}}
{{- define "levada.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ .Values.serviceAccount.name }}
    namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The dashboard, as the subject of a binding. */}}
{{- define "levada.dashboard.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ .Values.dashboard.serviceAccount.name }}
    namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The URL of an alert's page: a dict of base and name. */}}
{{- define "levada.runbook" -}}
{{ .base | default "docs/runbooks" }}/{{ .name }}.md
{{- end }}

{{/* What networkPolicy.runsAllow names. A NetworkPolicy sees the port behind a Service: the API server's is 6443 on many clusters. */}}
{{- define "levada.runsPorts" -}}
dns: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
apiServer: [{port: 443, protocol: TCP}, {port: 6443, protocol: TCP}]
https: [{port: 443, protocol: TCP}]
http: [{port: 80, protocol: TCP}]
git: [{port: 22, protocol: TCP}, {port: 9418, protocol: TCP}]
{{- end }}
