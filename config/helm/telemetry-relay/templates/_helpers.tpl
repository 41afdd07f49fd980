{{- define "relay.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "relay.selector" -}}
app.kubernetes.io/name: telemetry-relay
app.kubernetes.io/instance: {{ include "relay.name" . }}
{{- end -}}

{{- define "relay.labels" -}}
{{ include "relay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Settings: values, the section kubernetes, and where files and secrets are mounted. */}}
{{- define "relay.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if .Values.kubernetes.enabled -}}
{{- $_ := set $settings "kubernetes" .Values.kubernetes.settings -}}
{{- end -}}
{{- if .Values.api.enabled -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "api.enabled needs replicas: 1, since each relay would have objects of its own" -}}
{{- end -}}
{{- $api := deepCopy .Values.api.settings -}}
{{- if not (hasKey $api "hostnames") -}}
{{- $host := printf "%s-api.%s" (include "relay.name" .) .Release.Namespace -}}
{{- $_ := set $api "hostnames" (list $host (printf "%s.svc" $host) (printf "%s.svc.cluster.local" $host)) -}}
{{- end -}}
{{- $_ := set $settings "api" $api -}}
{{- end -}}
{{- if and .Values.files (not (hasKey $settings "exporters")) -}}
{{- $_ := set $settings "exporters" (list (dict "path" "exporters/")) -}}
{{- end -}}
{{- if and .Values.secrets (not (hasKey $settings "secrets")) -}}
{{- $_ := set $settings "secrets" "secrets/" -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* What the relay may do with objects, in the namespaces that it watches. */}}
{{- define "relay.rules" -}}
{{ .Files.Get "generated/cluster-rules.yaml" | trim }}
{{ .Files.Get (printf "generated/secrets-%s-rules.yaml" .Values.rbac.secrets) | trim }}
{{- if or .Values.rbac.finalizer .Values.kubernetes.settings.finalizer }}
{{ .Files.Get "generated/finalizer-rules.yaml" | trim }}
{{- end }}
{{- end -}}
