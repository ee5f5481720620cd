{{- define "aiops.name" -}}
{{- if contains "aiops" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-aiops" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- define "aiops.selector" -}}
app.kubernetes.io/name: aiops
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "aiops.labels" -}}
{{ include "aiops.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
