{{/* Labels of everything in this chart. */}}
{{- define "vectorkeep.labels" -}}
app.kubernetes.io/name: vectorkeep-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Labels by which the operator's pods are selected; they never change. */}}
{{- define "vectorkeep.selector" -}}
app.kubernetes.io/name: vectorkeep-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Name of the operator's service account; the cluster roles and policies below name it. */}}
{{- define "vectorkeep.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:vectorkeep-operator
{{- end -}}
