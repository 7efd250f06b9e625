{{- define "clip.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that select; of (list . "component"). */}}
{{- define "clip.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "clip.labels" -}}
{{- $root := index . 0 -}}
{{ include "clip.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* An image built from this repository; of (list . image). */}}
{{- define "clip.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{ $root.Values.image.registry }}{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The name of a bundle in names and labels, which are short; of a bundle's name. */}}
{{- define "clip.bundleKey" -}}
{{- sha256sum . | trunc 8 -}}
{{- end }}

{{/* Name of a bundle's Triton; of (list . bundle). */}}
{{- define "clip.triton" -}}
{{ include "clip.fullname" (index . 0) }}-triton-{{ include "clip.bundleKey" (index . 1) }}
{{- end }}

{{- define "clip.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "clip.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "clip.secret" -}}
{{- .Values.secrets.existing | default (ternary (include "clip.fullname" .) "" (not (empty .Values.secrets.values))) -}}
{{- end }}

{{- define "clip.modelsClaim" -}}
{{- .Values.models.existingClaim | default (printf "%s-models" (include "clip.fullname" .)) -}}
{{- end }}

{{- define "clip.isSqlite" -}}
{{- if eq .Values.database "sqlite" }}true{{ end -}}
{{- end }}

{{- define "clip.isOpen" -}}
{{- if eq (get .Values.gateway.env "GATEWAY_ALLOW_OPEN" | default "false") "true" }}true{{ end -}}
{{- end }}

{{/* Seconds that the gateway's settings come to, rounded up, with defaults that a test compares; of (list . NAME default …). */}}
{{- define "clip.seconds" -}}
{{- $env := (index . 0).Values.gateway.env -}}
{{- $sum := 0.0 -}}
{{- range chunk 2 (rest .) -}}
{{- $sum = addf $sum (get $env (index . 0) | default (index . 1) | float64) -}}
{{- end -}}
{{- ceil $sum -}}
{{- end }}

{{- define "clip.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "clip.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What every pod has. Service links would be read as settings: a Service named gateway gives a GATEWAY_PORT. */}}
{{- define "clip.podCommons" -}}
serviceAccountName: {{ include "clip.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a pod runs; of the component's values. */}}
{{- define "clip.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A claim of this chart, kept when the release goes; of (list . name values component). */}}
{{- define "clip.claim" -}}
{{- $values := index . 2 -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "clip.labels" (list (index . 0) (index . 3)) | nindent 4 }}
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: {{ toJson $values.accessModes }}
  {{- with $values.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ $values.size }}}}
{{- end }}
