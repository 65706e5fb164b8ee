{{/* What all objects are named after: the release, with the chart's name unless the release has it. */}}
{{- define "hongbao.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What finds the pods of one process: (list . "api"). */}}
{{- define "hongbao.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "hongbao.labels" -}}
{{- $root := index . 0 -}}
{{ include "hongbao.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What every pod has: (list . "api"). */}}
{{- define "hongbao.pod" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
automountServiceAccountToken: false
# For a Service named hongbao, Kubernetes would set HONGBAO_PORT to a URL.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* The Deployments beside the API's, each with its process and its words: persist, or persist-1 and so on, and sweep. */}}
{{- define "hongbao.workers" -}}
{{- $shares := int .Values.persist.shares -}}
{{- range $number := untilStep 1 (int (add $shares 1)) 1 }}
- component: {{ ternary "persist" (printf "persist-%d" $number) (eq $shares 1) }}
  process: persist
  args: [persist, --share, {{ printf "%d/%d" $number $shares | quote }}]
  graceSeconds: 60
{{- end }}
- component: sweep
  process: sweep
  args: [sweep]
  graceSeconds: 20
{{- end -}}

{{/* Where pods may be: (list . "persist-1" "persist"), the second naming them and the third the values. */}}
{{- define "hongbao.placing" -}}
{{- $root := index . 0 -}}
{{- $of := index $root.Values (index . 2) -}}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "hongbao.selector" $ | nindent 8 }}
{{- end }}
{{- with $of.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $of.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $of.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "hongbao.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* The variables that the Secret of the servers has. */}}
{{- define "hongbao.servers" -}}
{{- range list "HONGBAO_DATABASE_URL" "HONGBAO_REDIS_URL" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.servers.secretName }}
      key: {{ . }}
{{- end }}
{{- range list "HONGBAO_WEBHOOK_SECRET" "HONGBAO_COUPON_KEYS" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.servers.secretName }}
      key: {{ . }}
      optional: true
{{- end }}
{{- end -}}

{{/* The settings one by one, where the ConfigMap may not be there yet. */}}
{{- define "hongbao.settings" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
