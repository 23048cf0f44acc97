{{- /* RELEASE-SERVICE, shortened to what DNS allows; the role's own suffix comes after it. */}}
{{- define "service.fullname" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of pods: nothing that changes without need for a new pod. */}}
{{- define "service.podLabels" -}}
{{ include "service.selector" . }}
app.kubernetes.io/version: {{ include "service.tag" . | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/component: {{ .Values.component }}
app.kubernetes.io/part-of: kappawatt
{{- end }}

{{- define "service.labels" -}}
{{ include "service.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "kappawatt-%s" .Chart.Version }}
{{- end }}

{{- define "service.tag" -}}
{{ .Values.image.tag | default .Values.global.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "service.image" -}}
{{- $global := .Values.global.image -}}
{{- $own := .Values.image -}}
{{- with $own.registry | default $global.registry }}{{ . }}/{{ end -}}
{{ $own.repository | default $global.repository }}/{{ $own.name | default .Chart.Name }}
{{- if $own.digest }}@{{ $own.digest }}{{ else }}:{{ include "service.tag" . }}{{ end }}
{{- end }}

{{- /* Whether the gateway sends requests to a role: "true", or nothing. Given are values and role. */}}
{{- define "service.isBehindGateway" -}}
{{- if eq .role "serve" }}
{{- if not (has .values.component (list "gateway" "loop")) }}true{{ end }}
{{- else if .values.consume.hasRoutes }}true
{{- end }}
{{- end }}

{{- /* Where every role listens, in every image. */}}
{{- define "service.port" -}}
8080
{{- end }}

{{- define "service.accessSecret" -}}
{{ .Values.access.existingSecret | default (printf "%s-api-keys" (include "service.fullname" .)) }}
{{- end }}

{{- /* Of a role, with as much memory as its series want: they, 200 MB for all else, and of the limit three tenths to spare. */}}
{{- define "service.resources" -}}
{{- $values := .root.Values }}
{{- $resources := deepCopy (index $values .role).resources }}
{{- if $values.expectedSeries }}
{{- $bytes := addf 200e6 (mulf 1000 $values.expectedSeries (index $values.seriesKilobytes .role)) }}
{{- range $kind, $share := dict "requests" 1.0 "limits" 0.7 }}
{{- $given := dig $kind "memory" "" $resources }}
{{- $wanted := divf $bytes $share 1048576 | ceil | int64 }}
{{- if and $given (gt $wanted (include "service.mebibytes" $given | int64)) }}
{{- $_ := set (index $resources $kind) "memory" (printf "%dMi" $wanted) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- /* Of an amount of memory. */}}
{{- define "service.mebibytes" -}}
{{- if regexMatch "^[0-9]+Mi$" . }}{{ trimSuffix "Mi" . }}
{{- else if regexMatch "^[0-9]+Gi$" . }}{{ mul 1024 (trimSuffix "Gi" . | int64) }}
{{- else }}{{ fail (printf "resources: memory: got %q, allowed with expectedSeries a whole number of Mi or Gi" .) }}
{{- end }}
{{- end }}

{{- define "service.env" -}}
{{- $entries := include "service.ownEnv" . | fromYamlArray }}
{{- range $name, $value := .Values.env }}
{{- $entries = append $entries (dict "name" $name "value" $value) }}
{{- end }}
{{- include "kappawatt.lastOfEachName" (concat $entries .Values.extraEnv) }}
{{- end }}

{{- /* What the chart sets; `env` and `extraEnv` stand above it. */}}
{{- define "service.ownEnv" -}}
- {name: KAPPAWATT_SERVICE, value: {{ .Chart.Name }}}
- {name: KAPPAWATT_LOG_LEVEL, value: {{ .Values.global.logLevel | upper }}}
- {name: KAPPAWATT_STATE, value: /tmp}
- {name: KAPPAWATT_DRAIN_SECONDS, value: {{ .Values.drainSeconds | quote }}}
{{- if .Values.usesBus }}
{{ include "kafka.env" . }}
{{- end }}
{{- if eq .Values.access.mode "keys" }}
- {name: KAPPAWATT_API_KEYS, value: /run/secrets/access/keys}
- {name: KAPPAWATT_RATE_LIMIT, value: {{ .Values.access.rateLimit | quote }}}
{{- else if eq .Values.access.mode "open" }}
- {name: KAPPAWATT_OPEN_ACCESS, value: "true"}
{{- end }}
{{- if .Values.artifacts.existingClaim }}
- {name: KAPPAWATT_ARTIFACTS, value: /models}
{{- end }}
{{- if .Values.database.existingSecret }}
- name: KAPPAWATT_DATABASE
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: url}}
{{- else if .Values.database.existingClaim }}
- {name: KAPPAWATT_DATABASE, value: "duckdb:/data/kappawatt.duckdb"}
{{- end }}
{{- end }}

{{- define "service.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.usesBus }}{{ include "kafka.volumeMount" . }}{{ end }}
{{- if eq .Values.access.mode "keys" }}
- {name: access, mountPath: /run/secrets/access, readOnly: true}
{{- end }}
{{- if .Values.files }}
- {name: settings, mountPath: /run/settings, readOnly: true}
{{- end }}
{{- if .Values.artifacts.existingClaim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if .Values.database.existingClaim }}
- {name: data, mountPath: /data}
{{- end }}
{{- end }}

{{- define "service.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- if .Values.usesBus }}{{ include "kafka.volume" . }}{{ end }}
{{- if eq .Values.access.mode "keys" }}
- {name: access, secret: {secretName: {{ include "service.accessSecret" . }}, items: [{key: keys, path: keys}]}}
{{- end }}
{{- if .Values.files }}
- {name: settings, configMap: {name: {{ include "service.fullname" . }}-settings}}
{{- end }}
{{- with .Values.artifacts.existingClaim }}
- {name: models, persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}}
{{- end }}
{{- with .Values.database.existingClaim }}
- {name: data, persistentVolumeClaim: {claimName: {{ . }}}}
{{- end }}
{{- end }}
