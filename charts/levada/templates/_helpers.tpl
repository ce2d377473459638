{{/* What selects the operator's pods. */}}
{{- define "levada.selector" -}}
app.kubernetes.io/name: levada
app.kubernetes.io/instance: {{ .Values.fullname }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "levada.labels" -}}
{{ include "levada.selector" . }}
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

{{/* The URL of an alert's page: a dict of base and name. */}}
{{- define "levada.runbook" -}}
{{ .base | default "docs/runbooks" }}/{{ .name }}.md
{{- end }}
